"""Watchers: intrinsics that judge an answer while it is being said, in the same batch."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import NamedTuple

from ..engine.adapter import Adapter
from ..engine.request import Request
from ..reply import Verdict

_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|\n+|[。！？]+")

Judge = Callable[[Adapter, str, int, list[int], Callable[[Request], None]], Request]


class _Said(NamedTuple):
    """How much of the answer there is: characters of its text, tokens from the prompt's first on, and whole calls of tools."""

    n_chars: int
    n_tokens: int
    n_calls: int = 0


class _Judged(NamedTuple):
    """A fork that has ended."""

    fork: Request
    adapter: Adapter
    n_chars: int
    n_calls: int


class Watcher:
    """Runs `adapters` on forks of an answer: at each sentence, or every `every` tokens, at each call of a tool, and at its end.

    judge        (adapter, what was said, how many tools were called, the tokens of both and the prompt's, on_end) -> the fork,
                 submitted; it calls on_end(fork) on the loop's thread at its end
    on_verdict   gets each Verdict; on_end is called after the last

    It has a thread of its own, on which all of these are called; the loop's thread tells it by heard() and answer_ended() how
    far the answer is. The forks run in the background, so that the answer's own tokens hardly wait for them.
    """

    def __init__(
        self,
        answer: Request,
        adapters: Sequence[Adapter],
        every: int | None,
        judge: Judge,
        on_verdict: Callable[[Verdict], None],
        on_end: Callable[[], None],
    ):
        self.verdicts: list[Verdict] = []
        self._answer = answer
        self._adapters = adapters
        self._every = every
        self._judge_one = judge
        self._on_verdict = on_verdict
        self._on_end = on_end
        self._news: SimpleQueue[_Said | _Judged | None] = SimpleQueue()  # None: the answer has ended
        self._forks: list[Request] = []  # under way
        self._places: list[_Said] = []  # after each chunk since the last judgement
        self._n_judged, self._n_tokens_judged, self._n_calls_judged = 0, answer.n_prompt, 0
        self._cancelled = False

    def start(self) -> None:
        threading.Thread(target=self._run, name="alora_gguf watcher", daemon=True).start()

    def cancel(self, error: BaseException | None = None) -> None:
        """Judges no more, and ends what is under way; from any thread or signal handler."""
        self._cancelled = True
        for fork in list(self._forks):
            fork.cancel()

    # on the loop's thread

    def heard(self) -> None:
        """After each chunk of the answer."""
        self._news.put(_Said(*self._answer.n_said, len(self._answer.tool_calls)))

    def answer_ended(self) -> None:
        self._news.put(None)

    def _judged(self, adapter: Adapter, n_chars: int, n_calls: int, fork: Request) -> None:
        self._news.put(_Judged(fork, adapter, n_chars, n_calls))

    # on its own

    def _run(self) -> None:
        try:
            ended = False
            while not ended or self._forks:
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
        for adapter in self._adapters:
            if self._cancelled:
                return
            try:
                fork = self._judge_one(adapter, said, place.n_calls, tokens, partial(self._judged, adapter, place.n_chars, place.n_calls))
            except Exception as e:  # of a template, an io.yaml, or a context that is too small for it
                self._give(Verdict(adapter.name, place.n_chars, None, e, place.n_calls))
                continue
            self._forks.append(fork)
            if self._cancelled:  # between the look and here
                fork.cancel()

    def _take(self, judged: _Judged) -> None:
        fork, adapter, n_chars, n_calls = judged
        self._forks.remove(fork)
        if fork.error is None and fork.finish_reason is None:
            return  # it was cancelled
        reply = fork.outcome()
        self._give(Verdict(adapter.name, n_chars, None if reply.error else reply, reply.error, n_calls))

    def _give(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)
        self.verdicts.sort(key=lambda v: (v.n_chars, v.n_calls))
        self._on_verdict(verdict)
