"""How long native memory lives: until it was closed, and nobody is inside any more."""

import threading
from collections.abc import Callable

from ..errors import ClosedError

_PATIENCE = 60.0  # seconds that close() waits: an interrupt (Ctrl-C) in the very line of a use can leave it counted


class Lifetime:
    """`with lifetime:` around every use of the memory, from any thread and any depth; close() frees it when the last has left.

    Raises ClosedError where a use would begin after close().
    """

    def __init__(self, what: str = "model"):
        self._what = what
        self._inside: dict[int, int] = {}  # by thread: how deep
        self._lock = threading.RLock()  # a collector may close it at any line of ours
        self._changed = threading.Condition(self._lock)
        self._free: Callable[[], None] | None = None  # from close() until it is called
        self.closing = False

    def __enter__(self) -> None:
        me, is_counted = threading.get_ident(), False
        try:
            with self._lock:
                self._inside[me] = self._inside.get(me, 0) + 1  # before the look, so that a close after it finds it
                is_counted = True
                if self._inside[me] == 1:
                    self.check()
        except BaseException:
            if is_counted:
                self.__exit__()
            raise

    def __exit__(self, *_) -> None:
        me = threading.get_ident()
        with self._lock:
            self._inside[me] -= 1
            if not self._inside[me]:
                del self._inside[me]
                self._free_if_left()

    @property
    def is_inside(self) -> bool:
        """Whether this thread is."""
        return threading.get_ident() in self._inside

    def check(self) -> None:
        """Raises ClosedError from close() on, also for those inside."""
        if self.closing:
            raise ClosedError(f"{self._what}: expected an open one, got one that was closed; load it again")

    def close(self, free: Callable[[], None]) -> None:
        """Lets nobody in from now on, waits until all have left, and calls `free`, once.

        Called by somebody inside, or where others stay for long, it does not wait: then whoever leaves last calls `free`.
        """
        with self._lock:
            if not self.closing:
                self.closing, self._free = True, free
                self._free_if_left()
            if not self.is_inside:
                self._changed.wait_for(lambda: self._free is None, _PATIENCE)

    def _free_if_left(self) -> None:
        if self._free is not None and not self._inside:
            free, self._free = self._free, None
            try:
                free()
            finally:
                self._changed.notify_all()
