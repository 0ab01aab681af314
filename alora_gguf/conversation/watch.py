"""Watchers: intrinsics and questions that judge an answer while it is being said, in the same batch."""

from __future__ import annotations

import itertools
import re
import threading
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import NamedTuple, Protocol

from ..engine.request import Request
from ..prompt.decisions.question import Predicate
from ..reply import Verdict
from .panel import Panel

_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|\n+|[。！？]+")


class Judgement(Protocol):
    """One that is under way, or has ended."""

    def cancel(self, error: BaseException | None = None) -> None: ...

    def verdict(self, name: str, n_chars: int, n_calls: int) -> Verdict | None:
        """After its end; None: it was cancelled."""


Judge = Callable[[str, str, int, list[int], Callable[[], None]], Judgement]


class _Said(NamedTuple):
    """How much of the answer there is: characters of its text, tokens from the prompt's first on, and whole calls of tools."""

    n_chars: int
    n_tokens: int
    n_calls: int = 0


class _Judged(NamedTuple):
    """That a judgement has ended: the watcher knows it by this number."""

    number: int


class Watcher:
    """Has an answer judged by each of `names`: at each sentence, or every `every` tokens, at each call of a tool, and at its end.

    judge        (name, what was said, how many tools were called, the tokens of both and the prompt's, on_end) -> the judgement,
                 under way; it calls on_end() on the loop's thread at its end
    stops        whether the answer has to end because of a Verdict
    on_verdict   gets each Verdict; on_end is called after the last

    It has a thread of its own, on which all of these are called; the loop's thread tells it by heard() and answer_ended() how
    far the answer is. The forks run in the background, so that the answer's own tokens hardly wait for them.
    """

    def __init__(
        self,
        answer: Request,
        names: Sequence[str],
        every: int | None,
        judge: Judge,
        stops: Callable[[Verdict], bool],
        on_verdict: Callable[[Verdict], None],
        on_end: Callable[[], None],
    ):
        self.verdicts: list[Verdict] = []
        self._answer = answer
        self._names = names
        self._every = every
        self._judge_one = judge
        self._stops = stops
        self._on_verdict = on_verdict
        self._on_end = on_end
        self._news: SimpleQueue[_Said | _Judged | None] = SimpleQueue()  # None: the answer has ended
        self._under_way: dict[int, tuple[Judgement, str, _Said]] = {}  # by number: with who judges how much
        self._numbers = itertools.count()
        self._places: list[_Said] = []  # after each chunk since the last judgement
        self._n_judged, self._n_tokens_judged, self._n_calls_judged = 0, answer.n_prompt, 0
        self._cancelled = False

    def start(self) -> None:
        threading.Thread(target=self._run, name="alora_gguf watcher", daemon=True).start()

    def cancel(self, error: BaseException | None = None) -> None:
        """Judges no more, and ends what is under way; from any thread or signal handler."""
        self._cancelled = True
        for judgement, _, _ in list(self._under_way.values()):
            judgement.cancel()

    # on the loop's thread

    def heard(self) -> None:
        """After each chunk of the answer."""
        self._news.put(_Said(*self._answer.n_said, len(self._answer.tool_calls)))

    def answer_ended(self) -> None:
        self._news.put(None)

    def _judged(self, number: int) -> None:
        self._news.put(_Judged(number))

    # on its own

    def _run(self) -> None:
        try:
            ended = False
            while not ended or self._under_way:
                news = self._news.get()
                if isinstance(news, _Judged):
                    self._take(news)
                elif news is not None:
                    self._places.append(news)
                    self._look(self._answer.text)
                else:
                    ended = True
                    self._look_at_all()
        finally:
            on_end = self._on_end
            del self._judge_one, self._on_end  # they know the model, perhaps as the last
            on_end()

    def _look(self, text: str) -> None:
        n_chars, n_tokens, n_calls = self._places[-1]
        if n_calls > self._n_calls_judged:
            self._judge(text, self._places[-1])
            return
        if self._every is not None:
            if n_chars > self._n_judged and n_tokens - self._n_tokens_judged >= self._every:  # of a thought there is nothing to judge
                self._judge(text, self._places[-1])
            return
        ends = [m.end() for m in _SENTENCE_END.finditer(text[:n_chars], self._n_judged) if text[: m.end()].strip()]
        if ends:
            self._judge(text, next(place for place in self._places if place.n_chars >= ends[-1]))

    def _look_at_all(self) -> None:
        if self._answer.error is not None:
            self.cancel()
        text, (n_chars, n_tokens), n_calls = self._answer.text, self._answer.n_said, len(self._answer.tool_calls)
        has_more = (text.strip() and n_chars > self._n_judged) or n_calls > self._n_calls_judged
        if self._answer.finish_reason in ("stop", "length") and has_more:
            self._judge(text, _Said(n_chars, n_tokens, n_calls))

    def _judge(self, text: str, place: _Said) -> None:
        self._n_judged, self._n_tokens_judged, self._n_calls_judged = place
        self._places = [p for p in self._places if p.n_chars > place.n_chars]
        said, tokens = text[: place.n_chars], self._answer.tokens[: place.n_tokens]
        for name in self._names:
            if self._cancelled:
                return
            number = next(self._numbers)
            try:
                judgement = self._judge_one(name, said, place.n_calls, tokens, partial(self._judged, number))
            except Exception as e:  # of a template, an io.yaml, or a context that is too small for it
                self._give(Verdict(name, place.n_chars, None, e, place.n_calls))
                continue
            self._under_way[number] = judgement, name, place
            if self._cancelled:  # between the look and here
                judgement.cancel()

    def _take(self, judged: _Judged) -> None:
        if judged.number not in self._under_way:  # it failed after its end
            return
        judgement, name, place = self._under_way.pop(judged.number)
        if (verdict := judgement.verdict(name, place.n_chars, place.n_calls)) is not None:
            self._give(verdict)

    def _give(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)
        self.verdicts.sort(key=lambda v: (v.n_chars, v.n_calls))
        self._on_verdict(verdict)
        if self._stops(verdict):
            self._answer.cancel()


class Invoked:
    """An intrinsic's judgement."""

    def __init__(self, fork: Request):
        self._fork = fork

    def cancel(self, error: BaseException | None = None) -> None:
        self._fork.cancel(error)

    def verdict(self, name: str, n_chars: int, n_calls: int) -> Verdict | None:
        if self._fork.error is None and self._fork.finish_reason is None:
            return None
        reply = self._fork.outcome()
        return Verdict(name, n_chars, None if reply.error else reply, reply.error, n_calls)


class Decided:
    """A question's."""

    def __init__(self, panel: Panel):
        self._panel = panel

    def cancel(self, error: BaseException | None = None) -> None:
        self._panel.cancel(error)

    def verdict(self, name: str, n_chars: int, n_calls: int) -> Verdict | None:
        made = self._panel.result().get(name)
        return None if made is None else Verdict(name, n_chars, None, made.error, n_calls, None if made.error else made)


def ends(verdict: Verdict, question: object) -> bool:
    """Whether an answer ends of which a question says this."""
    if verdict.decision is None or not isinstance(question, Predicate):
        return False
    p, above, below = verdict.decision.probability, question.stop_above, question.stop_below
    return above is not None and p > above or below is not None and p < below
