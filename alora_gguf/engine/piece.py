"""What comes of a generation as it goes: pieces of text, and how likely their tokens were."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TokenLogprob:
    """One token of a reply, with the natural logarithm of its probability before any sampler.

    `text` is what the token adds to the reply: "" for the first bytes of a character that the next
    token ends. `top` has the most likely tokens in its place, the likeliest first.
    """

    text: str
    token: int
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


class Piece(str):
    """Text as it comes. With logprobs=True it knows the TokenLogprobs that it is made of.

    kind   "text" of the answer, or "reasoning": what the model thinks before it answers
    """

    logprobs: tuple[TokenLogprob, ...] = ()
    kind: str = "text"
