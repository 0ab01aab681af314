"""What a call gives back."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar


@dataclass(frozen=True)
class Usage:
    """What a call cost.

    `cached_tokens` of the `prompt_tokens` were in the KV cache already and were not computed.
    `ttft_ms` is the time from the call to the first token, in milliseconds.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    ttft_ms: float
    tokens_per_second: float


@dataclass(frozen=True)
class Reply:
    """The text of one call. `finish_reason` is "stop", "length" or "cancelled"."""

    text: str
    usage: Usage
    finish_reason: str
    tokens: list[int] = field(repr=False, default_factory=list)

    def __str__(self) -> str:
        return self.text


Item = TypeVar("Item")
Result = TypeVar("Result")


class Stream(Generic[Item, Result]):
    """The pieces of a call as they come; then `result`, which first waits for the rest.

    cancel() stops the call at its next token, from any thread or signal handler; close(), or the
    end of a `with`, at once, from the thread that iterates. What has come until then is the result.
    throw() ends the call as one that failed, with an error.
    """

    def __init__(self, pieces: Generator[Item, None, None], result: Callable[[], Result], cancel: Callable[[], None]):
        self._pieces = pieces
        self._result = result
        self.cancel = cancel
        next(pieces)  # up to where it waits to begin, so that closing it always ends it properly

    def __iter__(self) -> Iterator[Item]:
        return self._pieces

    def __next__(self) -> Item:
        return next(self._pieces)

    def close(self) -> None:
        self.cancel()
        self._pieces.close()

    def throw(self, error: BaseException) -> None:
        self._pieces.throw(error)

    def __enter__(self) -> "Stream[Item, Result]":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def result(self) -> Result:
        for _ in self._pieces:
            pass
        return self._result()
