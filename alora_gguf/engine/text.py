"""Generated tokens to text: whole characters, up to a stop string."""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class TokenLogprob:
    """One token of a reply, with the natural logarithm of its probability before any sampler.

    `text` is what the token adds to the reply: "" for the first bytes of a character that the next
    token ends. `top` has the most likely tokens in its place, the likeliest first.
    """

    text: str
    token: int
    logprob: float
    top: "tuple[TokenLogprob, ...]" = ()


class Piece(str):
    """Text as it comes. With logprobs=True it knows the TokenLogprobs that it is made of."""

    logprobs: tuple[TokenLogprob, ...] = ()


class TextUntilStop:
    """Text that ends before the first of the stop strings, which may come in pieces.

    It comes in whole tokens, so that their texts always concatenate to it.
    """

    def __init__(self, stop: Sequence[str] = ()):
        self.text = ""
        self.raw = ""
        self.stopped = False
        self.n_tokens = 0  # that `text` is made of
        self.logprobs: list[TokenLogprob] = []
        self._stop = stop
        self._held: list[tuple[str, TokenLogprob | None]] = []  # could be the beginning of a stop string
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: bytes, logprob: TokenLogprob | None = None) -> Piece:
        """Takes a token's bytes; returns what is certain of the text so far and was not returned before."""
        piece = self._utf8.decode(token)
        self.raw += piece
        self._held.append((piece, logprob))
        keep = 1 if self._utf8.getstate()[0] else 0  # its last character is not whole
        if not self._stop:
            return self._release(len(self.raw) - len(self.text), keep)
        held = "".join(piece for piece, _ in self._held)
        found = [i for i in (held.find(s) for s in self._stop) if i >= 0]
        if found:
            self.stopped = True
            return self._release(min(found), cut=True)
        return self._release(len(held) - max((n for s in self._stop for n in range(1, len(s)) if held.endswith(s[:n])), default=0), keep)

    def flush(self) -> Piece:
        """Returns what was held back: no more text comes."""
        rest = self._utf8.decode(b"", final=True)
        if rest and not self.stopped:
            self.raw += rest
            piece, logprob = self._held.pop()
            self._held.append((piece + rest, logprob))
        return self._release(sum(len(piece) for piece, _ in self._held))

    def _release(self, n: int, keep: int = 0, *, cut: bool = False) -> Piece:
        """The held tokens, but the last `keep`, that lie in the next `n` characters; with `cut`, all up to there and no more."""
        pieces, logprobs = [], []
        while len(self._held) > keep and (len(self._held[0][0]) <= n or (cut and n > 0)):
            piece, logprob = self._held.pop(0)
            self.n_tokens += 1
            piece, n = piece[:n], n - len(piece)
            pieces.append(piece)
            if logprob is not None:
                logprobs.append(replace(logprob, text=piece))
        if cut:
            self._held.clear()
        certain = Piece("".join(pieces))
        certain.logprobs = tuple(logprobs)
        self.text += certain
        self.logprobs += logprobs
        return certain
