"""How long native memory lives: until it was closed, and nobody is inside any more."""

import threading
from collections.abc import Callable

from .errors import ClosedError


class Lifetime:
    """`with lifetime:` around every use of the memory, from any thread and any depth; close() frees it when the last has left.

    Raises ClosedError where a use would begin after close().
    """

    def __init__(self, what: str = "model"):
        self._what = what
        self._inside: dict[int, int] = {}  # by thread: how deep
        self._changed = threading.Condition()
        self._free: Callable[[], None] | None = None  # once it was closed
        self._freed = False

    def __enter__(self) -> None:
        me = threading.get_ident()
        with self._changed:
            self._inside[me] = self._inside.get(me, 0) + 1  # before the look: a collector may close it at any line of ours
            if not self.closing or self._inside[me] > 1:
                return
            self._leave(me)
        raise self.error()

    def __exit__(self, *_) -> None:
        with self._changed:
            self._leave(threading.get_ident())

    @property
    def closing(self) -> bool:
        return self._free is not None

    def check(self) -> None:
        """Raises ClosedError from close() on, also for those inside."""
        if self.closing:
            raise self.error()

    def error(self) -> ClosedError:
        return ClosedError(f"{self._what}: expected an open one, got one that was closed; load it again")

    def close(self, free: Callable[[], None]) -> None:
        """Lets nobody in from now on, waits until all have left, and calls `free`, once.

        Called by somebody inside it does not wait: then whoever leaves last calls `free`.
        """
        with self._changed:
            if not self.closing:
                self._free = free
                self._free_if_left()
            while not self._freed and threading.get_ident() not in self._inside:
                self._changed.wait()

    def _leave(self, me: int) -> None:
        self._inside[me] -= 1
        if not self._inside[me]:
            del self._inside[me]
            self._free_if_left()

    def _free_if_left(self) -> None:
        if self.closing and not self._inside and not self._freed:
            self._freed = True
            try:
                self._free()
            finally:
                self._changed.notify_all()
