"""From the loop's thread to whoever waits: a thread, or a task of an asyncio loop."""

import asyncio
import threading
from collections import deque
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Channel(Generic[Item]):
    """Items in order, then an end. put() and end() never block; one reader."""

    def __init__(self):
        self._items: deque[Item] = deque()
        self._ended = False
        self._changed = threading.Condition()
        self._task: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None

    def put(self, item: Item) -> None:
        with self._changed:
            self._items.append(item)
            self._wake()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._wake()

    def get(self) -> Item:
        """Waits for the next item. Raises StopIteration after the last one."""
        with self._changed:
            while not self._items and not self._ended:
                self._changed.wait()
            return self._take(StopIteration)

    def wait(self) -> None:
        """Waits for the end; what is still in it stays."""
        with self._changed:
            while not self._ended:
                self._changed.wait()

    async def get_async(self) -> Item:
        """The same for a task. Raises StopAsyncIteration after the last one."""
        while True:
            with self._changed:
                if self._items or self._ended:
                    return self._take(StopAsyncIteration)
                event = asyncio.Event()
                self._task = asyncio.get_running_loop(), event
            await event.wait()

    def _take(self, ended: type[Exception]) -> Item:
        if self._items:
            return self._items.popleft()
        raise ended

    def _wake(self) -> None:
        self._changed.notify_all()
        if self._task is not None:
            (loop, event), self._task = self._task, None
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:  # that asyncio loop is closed: nobody waits
                pass
