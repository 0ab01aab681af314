"""Watchers: intrinsics that judge an answer while it is being said, in the same batch."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from .adapter import Adapter
from .engine.request import Request
from .errors import AloraError, ResultError
from .reply import Verdict

if TYPE_CHECKING:
    from .conversation import Conversation

_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]]*(?=\s)|\n+|[。！？]+")


class Watcher:
    """Runs `adapters` on forks of an answer: at each sentence, or every `every` tokens, and at its end.

    They run in the background, so that the answer's own tokens hardly wait for them. `on_verdict`
    gets each Verdict, on the loop's thread.
    """

    def __init__(
        self,
        conversation: Conversation,
        adapters: Sequence[Adapter],
        every: int | None,
        on_verdict: Callable[[Verdict], None],
        on_end: Callable[[], None],
    ):
        self.verdicts: list[Verdict] = []
        self._conversation = conversation
        self._adapters = adapters
        self._every = every
        self._on_verdict = on_verdict
        self._on_end = on_end
        self._forks: list[Request] = []  # under way
        self._places: list[tuple[int, int]] = []  # (characters, tokens) after each piece since the last judgement
        self._n_judged = self._n_tokens_judged = 0
        self._ended = False

    def on_piece(self, answer: Request, messages: list, text: str) -> None:
        """After each piece of the answer to `messages`, whose prompt is `text`."""
        said, tokens = answer.said
        self._places.append((len(said), len(tokens)))
        if self._every is not None:
            if len(tokens) - max(self._n_tokens_judged, answer.n_prompt) >= self._every:
                self._judge(said, tokens, messages, text)
            return
        ends = [m.end() for m in _SENTENCE_END.finditer(said, self._n_judged) if said[: m.end()].strip()]
        if ends:
            n_chars, n_tokens = next(place for place in self._places if place[0] >= ends[-1])
            self._judge(said[:n_chars], tokens[:n_tokens], messages, text)

    def on_answer_end(self, answer: Request, messages: list, text: str) -> None:
        said, tokens = answer.said
        if answer.finish_reason in ("stop", "length") and said.strip() and len(said) > self._n_judged:
            self._judge(said, tokens, messages, text)
        self._ended = True
        self._check_end()

    def cancel(self) -> None:
        for fork in list(self._forks):
            fork.cancel()

    def _judge(self, said: str, tokens: list[int], messages: list, text: str) -> None:
        self._n_judged, self._n_tokens_judged = len(said), len(tokens)
        self._places = [place for place in self._places if place[0] > len(said)]
        so_far = [*messages, {"role": "assistant", "content": said}]
        for adapter in self._adapters:
            try:
                fork = self._conversation.fork(adapter, so_far, known=(text + said, tokens), background=True)
                fork.on_end = lambda fork=fork, adapter=adapter: self._take(fork, adapter, len(said))
                self._forks.append(fork)
                self._conversation.submit(fork)
            except AloraError as e:
                self._give(Verdict(adapter.name, len(said), None, e))

    def _take(self, fork: Request, adapter: Adapter, n_chars: int) -> None:
        self._forks.remove(fork)
        if fork.error is not None:
            self._give(Verdict(adapter.name, n_chars, None, fork.error))
        elif fork.finish_reason is not None:
            try:
                self._give(Verdict(adapter.name, n_chars, fork.reply()))
            except ResultError as e:
                self._give(Verdict(adapter.name, n_chars, None, e))
        self._check_end()

    def _give(self, verdict: Verdict) -> None:
        self.verdicts.append(verdict)
        self.verdicts.sort(key=lambda v: v.n_chars)
        self._on_verdict(verdict)

    def _check_end(self) -> None:
        if self._ended and not self._forks:
            self._on_end()
