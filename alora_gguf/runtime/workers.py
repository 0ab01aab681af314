"""Threads for what may take long, so that nobody else waits for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Generic, TypeVar

from .cores import usable_cores

Made = TypeVar("Made")


class Job(Generic[Made]):
    """Something that a worker does; `on_end` is called on its thread when it is done, if it is set before."""

    def __init__(self, function: Callable[[], Made]):
        self.done = False
        self.on_end: Callable[[], None] | None = None
        self._function: Callable[[], Made] | None = function
        self._made: list[Made] = []
        self._error: BaseException | None = None
        self._ended = threading.Lock()
        self._ended.acquire()

    def wait(self, seconds: float = -1) -> bool:
        """Whether it is done within so many seconds; without them it waits until it is. One thread at a time may wait."""
        if not self.done and self._ended.acquire(timeout=seconds):
            self._ended.release()
        return self.done

    def result(self) -> Made:
        """What it made, or raises what it raised, once it is done."""
        if self._error is not None:
            raise self._error
        return self._made[0]

    def run(self) -> None:
        function, self._function = self._function, None
        assert function is not None  # nobody else runs it
        try:
            self._made.append(function())
        except BaseException as e:
            self._error = e
        del function  # what waits for it may be the last to know what it knows
        self.done = True
        self._ended.release()
        if self.on_end is not None:
            self.on_end()


class Workers:
    """Threads on a quarter of the cores, begun when they are needed, and one more for each job that takes long.

    One thread may call it.
    """

    def __init__(self, n: int | None = None):
        self._n = n or max(1, usable_cores() // 4)
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._long: list[Job] = []

    def submit(self, function: Callable[[], Made]) -> Job[Made]:
        job = Job(function)
        self._begin_thread()
        self._jobs.put(job)
        return job

    def takes_long(self, job: Job) -> None:
        """The others are not to wait for it."""
        if job not in self._long and not job.done:
            self._long.append(job)
            self._begin_thread()

    def close(self) -> None:
        """Waits for what is under way."""
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _begin_thread(self) -> None:
        """If there are too few."""
        self._long = [job for job in self._long if not job.done]
        if len(self._threads) < self._n + len(self._long):
            self._threads.append(threading.Thread(target=self._work, name="alora_gguf mask", daemon=True))
            self._threads[-1].start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.run()
            del job
