"""What a call gives back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from .engine.channel import Channel
from .engine.text import TokenLogprob


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
    """The text of one call.

    reasoning       what the model thought before it answered, which is no part of `text`
    finish_reason   "stop", "length" or "cancelled"
    tokens          all that were generated, also those of a stop string
    logprobs        with logprobs=True: of the tokens that `text` is made of; their texts concatenate to it
    verdicts        with watch=...: what the watchers said, in the order of the text that they judged
    result          of an intrinsic with an io.yaml: what that makes of the text, None if the call was cancelled
    """

    text: str
    usage: Usage
    finish_reason: str
    tokens: list[int] = field(repr=False, default_factory=list)
    logprobs: list[TokenLogprob] = field(repr=False, default_factory=list)
    verdicts: list[Verdict] = field(repr=False, default_factory=list)
    result: Any = None
    reasoning: str = field(repr=False, default="")

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Verdict:
    """What an intrinsic said of an answer's first `n_chars` characters; `error` if it could not."""

    name: str
    n_chars: int
    reply: Reply | None
    error: Exception | None = None


Item = TypeVar("Item")
Result = TypeVar("Result")


class Stream(Generic[Item, Result]):
    """The pieces of a call as they come, for `for` or `async for`; then `result`, or `await` of it.

    The call runs whether anybody reads or not. cancel() stops it at its next token, from any thread
    or signal handler; close(), or the end of a `with`, also waits for that. What has come until then
    is the result. throw() ends the call as one that failed, with an error.
    """

    def __init__(self, channel: Channel[Item], result: Callable[[], Result], cancel: Callable[..., None]):
        self._channel = channel
        self._result = result
        self.cancel = cancel

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        try:
            return self._channel.get()
        except StopIteration:
            self._result()  # if the call failed, it is raised here
            raise

    def __aiter__(self) -> AsyncIterator[Item]:
        return self

    async def __anext__(self) -> Item:
        try:
            return await self._channel.get_async()
        except StopAsyncIteration:
            self._result()
            raise

    def __await__(self) -> Generator[Any, None, Result]:
        async def result():
            async for _ in self:
                pass
            return self._result()

        return result().__await__()

    def close(self) -> None:
        self.cancel()
        self._channel.wait()

    def throw(self, error: BaseException) -> None:
        self.cancel(error)
        self._channel.wait()

    def __enter__(self) -> Stream[Item, Result]:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    @property
    def result(self) -> Result:
        for _ in self:
            pass
        return self._result()


def drain(stream: Stream[Item, Result], on_item: Callable[[Item], Any] | None) -> Result:
    """The result of a stream; if `on_item` or a signal ends the wait with an error, the call fails with it."""
    try:
        for item in stream:
            if on_item:
                on_item(item)
    except BaseException as e:
        stream.throw(e)
        raise
    return stream.result
