"""A call under way: what the loop does for it, and how it is ended from outside."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from ..errors import copied
from .channel import Channel, in_event_loop

Item = TypeVar("Item")


class Cancellable(Protocol):
    def cancel(self, error: BaseException | None = None) -> None: ...


class Call(Generic[Item]):
    """From before its requests are made until it has a result, or whoever wanted that has left.

    `channel` has what comes of it, for a Stream. `on_drop` is called when nothing of it is to be kept.
    """

    def __init__(self, on_drop: Callable[[], None] = lambda: None):
        self.channel: Channel[Item] = Channel()
        self.on_drop = on_drop
        self.cancelled = False
        self._error: BaseException | None = None  # that it failed with as a whole
        self._under_way: list[Cancellable] = []
        self._result: Callable[[], Any] | None = None
        self._made: tuple[Any] | None = None

    def begin(self, prepare: Callable[[], None], *, aside: bool) -> None:
        """Runs `prepare`, which makes requests, lets the call follow() them and submits them.

        With `aside` it runs on a thread of its own where this one has an asyncio loop to run, and what it raises
        is raised where the stream is read; else here.
        """
        try:
            if aside and in_event_loop():
                threading.Thread(target=self._begin_aside, args=(prepare,), name="alora_gguf call", daemon=True).start()
            else:
                prepare()
        except BaseException:
            self.abandon()
            raise

    def follow(self, result: Callable[[], Any], *under_way: Cancellable) -> None:
        """From now on it ends with these; `result` gives what came of them, once the channel has ended."""
        self._result = result
        self._under_way += under_way
        if self.cancelled:  # it was before there were any
            self.cancel(self._error)

    def cancel(self, error: BaseException | None = None) -> None:
        """Ends it before its next token, as failed if there is an error; from any thread or signal handler."""
        self.cancelled = True
        if error is not None:
            self._error = self._error or error
            self.on_drop()
        for one in list(self._under_way):
            one.cancel(error)

    def abandon(self) -> None:
        """Nobody wants it any more: it ends, and nothing of it is kept. If it was cancelled before, that holds: what came is."""
        if not self.cancelled:
            self.on_drop()  # before it ends, so that nobody keeps it at its end
            self.cancel()

    def result(self) -> Any:
        """After the channel's end. Raises what the call failed with, to each caller an error of its own."""
        if self._error is not None:
            raise copied(self._error)
        if self._made is None:
            assert self._result is not None  # what has ended and did not fail is followed
            self._made = (self._result(),)
        return self._made[0]

    @property
    def progress(self) -> tuple[int, int]:
        """How many tokens of the prompts are in the cache, and how many there are."""
        of_each: list[tuple[int, int]] = [getattr(one, "progress", (0, 0)) for one in list(self._under_way)]  # watchers have none
        return sum(n for n, _ in of_each), sum(n for _, n in of_each)

    def _begin_aside(self, prepare: Callable[[], None]) -> None:
        try:
            prepare()
        except BaseException as e:
            self.cancel(e)
            self.channel.end()
