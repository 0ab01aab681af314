"""From the loop's thread to whoever waits: threads, or tasks of asyncio loops."""

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Channel(Generic[Item]):
    """Items in order, then an end. put() and end() never block. Any number of readers; each item is one's."""

    def __init__(self):
        self._items: deque[Item] = deque()
        self._changed = threading.Condition()
        self._tasks: list[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = []
        self.ended = False  # what is still in it stays

    def put(self, item: Item) -> None:
        with self._changed:
            self._items.append(item)
            self._wake()

    def end(self) -> None:
        with self._changed:
            self.ended = True
            self._wake()

    def get(self) -> Item:
        """Waits for the next item. Raises StopIteration after the last one."""
        with self._changed:
            while not self._items and not self.ended:
                self._changed.wait()
            return self._take(StopIteration)

    def wait(self) -> None:
        """Waits for the end; what is still in it stays."""
        with self._changed:
            while not self.ended:
                self._changed.wait()

    async def get_async(self) -> Item:
        """The same for a task. Raises StopAsyncIteration after the last one."""
        while True:
            await self._until(lambda: self._items or self.ended)
            with self._changed:
                if self._items or self.ended:  # else another reader was faster
                    return self._take(StopAsyncIteration)

    async def wait_async(self) -> None:
        """The same as wait(), for a task."""
        await self._until(lambda: self.ended)

    async def some_async(self, seconds: float) -> bool:
        """Waits until there is an item, or none will come, but not longer; whether it is so. Takes none."""
        try:
            await asyncio.wait_for(self._until(lambda: self._items or self.ended), seconds)
        except asyncio.TimeoutError:  # which is the other only from Python 3.11 on
            return False
        return True

    async def _until(self, is_so: Callable[[], object]) -> None:
        while True:
            event = asyncio.Event()
            with self._changed:
                if is_so():
                    return
                self._tasks.append((asyncio.get_running_loop(), event))
            try:
                await event.wait()
            except BaseException:  # it waits no longer
                with self._changed:
                    self._tasks = [task for task in self._tasks if task[1] is not event]
                raise

    def _take(self, ended: type[Exception]) -> Item:
        if self._items:
            return self._items.popleft()
        raise ended

    def _wake(self) -> None:
        self._changed.notify_all()
        tasks, self._tasks = self._tasks, []
        for loop, event in tasks:
            try:
                loop.call_soon_threadsafe(event.set)
            except RuntimeError:  # that asyncio loop is closed: nobody waits
                pass


def in_event_loop() -> bool:
    """Whether an asyncio loop runs on this thread, which must not be kept waiting."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
