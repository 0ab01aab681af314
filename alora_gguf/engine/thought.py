"""Generated text divided into what the model thought and what it answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .held import Held, Part

if TYPE_CHECKING:
    from ..prompt.thinking import Thinking
    from ..reply import TokenLogprob

_BEGIN, _THOUGHT, _BETWEEN, _ANSWER = range(4)


class Thoughts:
    """Takes tokens one by one and gives out parts of the thought and of the answer, without the tags and the space around them.

    `begun`: the prompt ended within the thought. Without `thinking` everything is the answer.
    """

    def __init__(self, thinking: Thinking | None = None, *, begun: bool = False):
        self._thinking = thinking
        self._state = _ANSWER if thinking is None else _THOUGHT if begun else _BEGIN
        if thinking is not None:
            spoken = {thinking.answer.strip(): _ANSWER} if thinking.answer else {}
            self._tags = {_BEGIN: {thinking.start.strip(): _THOUGHT, **spoken}, _BETWEEN: {thinking.turn: _BEGIN} if thinking.turn else spoken}
        self._held = Held()  # the last tokens, whose text may be of a tag
        self._said_something = False  # in this thought

    @property
    def is_thinking(self) -> bool:
        """Whether what comes next is of the thought."""
        return self._state == _THOUGHT

    def push(self, text: str, logprob: TokenLogprob | None = None) -> list[Part]:
        if (thinking := self._thinking) is None:
            return [Part(text, logprob, 1, False)]
        self._held.push(Part(text, logprob, 1, False))
        parts: list[Part] = []
        while self._step(thinking, parts):
            pass
        return parts

    def flush(self) -> list[Part]:
        """What was held back: no more text comes."""
        text = self._held.text
        if self._state == _THOUGHT:
            return self._held.take(len(text.rstrip()), True)
        if self._state == _BETWEEN:
            self._held.drop(len(text) - len(text.lstrip()))
        return self._held.take(len(self._held.text), False)

    def _step(self, thinking: Thinking, parts: list[Part]) -> bool:
        """Decides what it can of what is held; whether to look again."""
        text = self._held.text
        stripped = text.lstrip()
        if self._state in (_BEGIN, _BETWEEN):
            tags = self._tags[self._state]
            for tag, state in tags.items():
                if stripped.startswith(tag):
                    return self._enter(state, len(text) - len(stripped) + len(tag))
            if any(tag.startswith(stripped) for tag in tags) or not stripped:
                return False
            return self._enter(_ANSWER, 0 if self._state == _BEGIN else len(text) - len(stripped))
        if self._state == _THOUGHT:
            if not self._said_something:
                self._held.drop(len(text) - len(stripped))
                text = stripped
            end = text.find(thinking.end)
            sure = text[: end if end >= 0 else len(text) - _n_begun(text, thinking.end)].rstrip()
            self._said_something |= bool(sure)
            parts += self._held.take(len(sure), True)
            return end >= 0 and self._enter(_BETWEEN, end - len(sure) + len(thinking.end))
        end = text.find(thinking.answer_end) if thinking.answer_end else -1
        if end >= 0:
            parts += self._held.take(end, False)
            self._held.drop(len(self._held.text))
            return False
        parts += self._held.take(len(text) - (_n_begun(text, thinking.answer_end) if thinking.answer_end else 0), False)
        return False

    def _enter(self, state: int, n_dropped: int) -> bool:
        self._held.drop(n_dropped)
        self._state = state
        self._said_something = False
        return bool(self._held)


def _n_begun(text: str, tag: str) -> int:
    """How many characters at the end of the text may be the beginning of the tag."""
    return next((n for n in range(min(len(tag) - 1, len(text)), 0, -1) if text.endswith(tag[:n])), 0)
