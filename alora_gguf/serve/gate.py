"""How many generations run at once, and how many requests wait for that."""

import asyncio
from collections import deque

from ..errors import copied
from .problem import Problem


class Gate:
    """Lets `n_running` in at once, in the order in which they came; `n_waiting` may wait. One event loop's."""

    def __init__(self, n_running: int, n_waiting: int):
        self._n_max, self._n_waiting_max = n_running, n_waiting
        self._waiting: deque[tuple[int, asyncio.Future]] = deque()
        self.n_running = 0

    @property
    def n_waiting(self) -> int:
        return len(self._waiting)

    def check(self, n: int) -> None:
        """Raises Problem if `n` may never run at once."""
        if n > self._n_max:
            raise Problem(400, f"n: expected at most {self._n_max} choices, got {n}; ask for fewer", param="n")

    async def enter(self, n: int = 1) -> None:
        """Waits until `n` more may run. Raises Problem: 400 if they never may, 429 if too many wait already."""
        self.check(n)
        if not self._waiting and self.n_running + n <= self._n_max:
            self.n_running += n
            return
        if len(self._waiting) >= self._n_waiting_max:
            raise Problem(
                429,
                f"server: expected at most {self._n_waiting_max} requests to wait, got one more; try again later",
                code="rate_limit_exceeded",
                headers={"Retry-After": "1"},
            )
        entry = n, asyncio.get_running_loop().create_future()
        self._waiting.append(entry)
        try:
            await entry[1]
        except asyncio.CancelledError:
            if entry in self._waiting:
                self._waiting.remove(entry)
                self._admit()
            elif entry[1].exception() is None:  # let in at the same moment
                self.leave(n)
            raise

    def refuse(self, problem: Problem) -> None:
        """Sends those away that wait."""
        while self._waiting:
            self._waiting.popleft()[1].set_exception(copied(problem))

    def leave(self, n: int = 1) -> None:
        self.n_running -= n
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self.n_running + self._waiting[0][0] <= self._n_max:
            n, entered = self._waiting.popleft()
            self.n_running += n
            entered.set_result(None)
