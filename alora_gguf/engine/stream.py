"""A call's chunks as they come, for threads and for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any, Generic, TypeVar

from .call import Call
from .channel import in_event_loop

Item = TypeVar("Item")
Result = TypeVar("Result")


class Stream(Generic[Item, Result]):
    """The chunks of a call as they come, for `for` or `async for`; then `result`, or `await` of it.

    The call runs whether anybody reads or not. cancel() ends it before its next token, from any thread or
    signal handler; what has come until then is the result, and part of the conversation.
    Whoever leaves before the end wants none of it: a `for` or `async for` that is left, a task that is
    cancelled, close() or aclose(), the end of a `with` or `async with`, a stream that nobody holds any more.
    The call ends as by cancel(), but nothing of it becomes part of the conversation, which takes the next
    question at once. close() and the end of a `with` also wait for that, but not where an asyncio loop runs;
    there aclose() and `async with` do. throw() ends the call as one that failed, with an error.

    Where an asyncio loop runs, prompts are made on another thread: what is wrong with them is raised by the
    first chunk, or the result.
    """

    def __init__(self, call: Call[Item]):
        self._call = call
        self._has_ended = False  # and somebody knows

    def cancel(self, error: BaseException | None = None) -> None:
        self._call.cancel(error)

    def __iter__(self) -> Iterator[Item]:
        return _Reader(self)

    def __next__(self) -> Item:
        try:
            return self._call.channel.get()
        except StopIteration:
            pass
        self._has_ended = True
        self._call.result()  # if the call failed, it is raised here
        raise StopIteration

    def __aiter__(self) -> AsyncIterator[Item]:
        return _Reader(self)

    async def __anext__(self) -> Item:
        try:
            return await self._call.channel.get_async()
        except StopAsyncIteration:
            pass
        except BaseException:  # the task is cancelled
            self._leave()
            raise
        self._has_ended = True
        await asyncio.to_thread(self._call.result)  # what an io.yaml makes of a text can take a while
        raise StopAsyncIteration

    def __await__(self) -> Generator[Any, None, Result]:
        async def result() -> Result:
            while not self._has_ended:
                try:
                    await self.__anext__()
                except StopAsyncIteration:
                    pass
            made: Result = self._call.result()
            return made

        return result().__await__()

    @property
    def result(self) -> Result:
        while not self._has_ended:
            try:
                next(self)
            except StopIteration:
                pass
        made: Result = self._call.result()
        return made

    @property
    def progress(self) -> tuple[int, int]:
        """How many tokens of the prompt are in the cache by now, and how many there are; of several calls, of all."""
        return self._call.progress

    def close(self) -> None:
        self._leave()
        self._wait()

    async def aclose(self) -> None:
        self._leave()
        await self._call.channel.wait_async()

    def throw(self, error: BaseException) -> None:
        self._call.cancel(error)
        self._wait()

    def __enter__(self) -> Stream[Item, Result]:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Stream[Item, Result]:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        self._leave()

    def _leave(self) -> None:
        if not self._has_ended:
            self._call.abandon()

    def _wait(self) -> None:
        if not in_event_loop():
            self._call.channel.wait()


class _Reader(Generic[Item]):
    """What `for` and `async for` read a stream through: where it goes before the end, they were left."""

    def __init__(self, stream: Stream[Item, Any]):
        self._stream = stream

    def __iter__(self) -> _Reader[Item]:
        return self

    __aiter__ = __iter__

    def __next__(self) -> Item:
        return next(self._stream)

    def __anext__(self) -> Awaitable[Item]:
        return self._stream.__anext__()

    def __del__(self) -> None:
        self._stream._leave()


_END: Any = object()


def drain(stream: Stream[Item, Result], on_item: Callable[[Item], Any] | None) -> Result:
    """The result of a stream; if `on_item` or a signal ends the wait with an error, the call fails with it."""
    try:
        while (item := next(stream, _END)) is not _END:
            if on_item:
                on_item(item)
        return stream.result
    except BaseException as e:
        stream.throw(e)
        raise
