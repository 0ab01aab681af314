"""Text of tokens that is not given out yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ..reply import TokenLogprob


class Part(NamedTuple):
    """Text of one token; `n_tokens` have come to their end with it, those before it that are no text included."""

    text: str
    logprob: TokenLogprob | None
    n_tokens: int
    is_thought: bool


class Held:
    """Parts in their order, of which text is taken or dropped from the front, wherever tokens end."""

    def __init__(self) -> None:
        self._parts: list[Part] = []
        self._n_gone = 0  # tokens that were dropped, since the last part that was taken
        self.is_torn = False  # whether the first token has lost some of its text

    def __bool__(self) -> bool:
        return bool(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    @property
    def text(self) -> str:
        return "".join(part.text for part in self._parts)

    def push(self, part: Part) -> None:
        self._parts.append(part)

    def take(self, n: int, is_thought: bool = False) -> list[Part]:
        """The next `n` characters."""
        parts = []
        while self._parts and (n > 0 or not self._parts[0].text):
            text, logprob, n_tokens, _ = self._parts.pop(0)
            is_whole = len(text) <= n
            if not is_whole:
                self._parts.insert(0, Part(text[n:], logprob, n_tokens, is_thought))
            self.is_torn = not is_whole
            parts.append(Part(text[:n], logprob, self._n_gone + (n_tokens if is_whole else 0), is_thought))
            self._n_gone = 0
            n -= len(text)
        return parts

    def drop(self, n: int) -> None:
        n_gone, self._n_gone = self._n_gone, 0
        self._n_gone = n_gone + sum(part.n_tokens for part in self.take(n))

    def take_gone(self) -> int:
        """How many tokens were dropped that no part has been counted with."""
        n_gone, self._n_gone = self._n_gone, 0
        return n_gone
