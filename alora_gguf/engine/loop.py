"""The thread that owns the context, and in which every generation advances."""

import atexit
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..errors import ClosedError, ContextFullError, SequenceLimitError, copied
from ..runtime.constraint import SECONDS
from ..runtime.context import Context
from ..runtime.workers import Workers
from .adapters import Registry
from .cache import Cache
from .pace import Pace
from .request import Request

Result = TypeVar("Result")

_log = logging.getLogger("alora_gguf")

TILE = 64  # ggml_fa_tile_config::Q
_PATIENCE = 0.005  # seconds that a step waits for what constraints allow, before it leaves out whom it is not known of


class Late(NamedTuple):
    """Whose token cannot be sampled yet: by which logits it will be, float32 [1, n_vocab], and until when, by time.perf_counter()."""

    logits: np.ndarray
    until: float


class Loop:
    """Runs requests from any number of threads, together: what one ubatch holds a step, in one batch or a few.

    A step has one token of every generation and, in the room that is left, the prompts that wait,
    in equal shares: nobody's tokens are later by more than a ubatch for them. When the context is
    full, what nobody uses goes first; then the youngest request waits until another has ended.
    Its thread decodes and samples, and puts what comes of it into queues. What a constraint allows is found by workers,
    meanwhile: whose takes long is left out of the next steps, and the others go on. An error of any kind that
    comes up for one request ends that one.

    `free` is called after close(), once, when nothing is under way any more: on the loop's thread, if there is one.
    """

    def __init__(self, context: Context, cache: Cache, adapters: Registry, free: Callable[[], None] = lambda: None):
        self._context = context
        self._cache = cache
        self._adapters = adapters
        self._free_all = free
        self._pace = Pace()
        self._changed = threading.Condition()
        self._arrived: list[Request] = []
        self._calls: list[tuple[Callable[[], Any], Future]] = []
        self._waiting: list[Request] = []
        self._running: list[Request] = []
        self._late: dict[Request, Late] = {}  # of these, those that a worker looks for
        self._workers = Workers()
        self._n_arrived = 0
        self._is_full = False  # until a request ends
        self._closing = False
        self._thread: threading.Thread | None = None

    # from any thread

    def submit(self, *requests: Request) -> None:
        """Takes requests that begin together. Raises ContextFullError, and takes none, if a prompt can never fit."""
        for request in requests:
            self._context.check_room(request.n_prompt)
        with self._changed:
            self._start()
            for request in requests:
                request.arrival = self._n_arrived = self._n_arrived + 1
            self._arrived += requests
            self._changed.notify()

    def call(self, function: Callable[[], Result]) -> Result:
        """Runs a function on the loop's thread, between two steps: it may use the context. Returns or raises as it does."""
        if threading.current_thread() is self._thread:
            return function()
        future: Future = Future()
        with self._changed:
            self._start()
            self._calls.append((function, future))
            self._changed.notify()
        return future.result()

    def close(self, wait: bool = True) -> None:
        """Ends the thread; requests that are not done fail with ClosedError. On the loop's own thread it does not wait for that."""
        with self._changed:
            first, self._closing = not self._closing, True
            self._changed.notify()
            if first and self._thread is None:
                self._free_all()
        if wait and self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        atexit.unregister(self.close)

    def _start(self) -> None:
        if self._closing:
            raise ClosedError("model: expected an open one, got one that was closed; load it again")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="alora_gguf", daemon=True)
            self._thread.start()
            atexit.register(self.close)  # a thread in a decode must not outlive the library

    # on the loop's thread

    def _run(self) -> None:
        while True:
            with self._changed:
                while not (self._closing or self._arrived or self._calls or self._waiting or self._running):
                    self._changed.wait()
                self._waiting += self._arrived
                calls, self._arrived, self._calls = self._calls, [], []
                if self._closing:
                    break
            self._attempt(self._end_cancelled)  # a call finds nothing of what was cancelled before it
            while calls:
                _call(*calls.pop(0))  # kept nowhere: what a call knows is freed with the last that knows it elsewhere
            self._attempt(self._step)
        closed = ClosedError("model: expected it open until the call's end, got one that was closed; close it later")
        for _, future in calls:
            future.set_exception(copied(closed))
        self._fail_all(closed)
        self._workers.close()
        self._free_all()

    def _attempt(self, part: Callable[[], None]) -> None:
        try:
            part()
        except BaseException as e:  # of no request: whoever waits has to hear of it
            _log.exception("a step of the engine failed")
            self._fail_all(e)

    def _end_cancelled(self) -> None:
        for request in [r for r in (*self._running, *self._waiting) if r.cancelled]:
            self._end(request)

    def _step(self) -> None:
        t_start = time.perf_counter()
        self._end_cancelled()
        self._go_on_with_late()
        self._admit()
        self._wait_for_late()
        parts = self._fill()
        if self._late and not parts:
            self._rest()
        for batch in _batches(parts, self._context.on_cpu):
            self._advance([part for part in batch if part[0].branch is not None], t_start)
        n_front = sum(n for r, n in parts if not r.background)
        if n_front:
            self._pace.record(n_front, sum(n for _, n in parts) - n_front, time.perf_counter() - t_start)

    def _advance(self, parts: list[tuple[Request, int]], t_start: float) -> None:
        """Decodes so many tokens of each, and samples where they were the last ones."""
        for part in list(parts):
            request, n = part
            try:
                if n == request.n_pending:
                    request.look_ahead(self._workers)
            except BaseException as e:  # as where no more threads can be begun
                parts.remove(part)
                self._fail(request, e)
        outputs = self._decode(parts)
        for request, n in parts:
            request.note(n)
            request.served = t_start
        for (request, _), (first, n) in zip(parts, outputs):
            if n:
                self._sample(request, first, n)
            elif request.branch is not None and not request.n_pending:  # at its checkpoint, which stays; it goes on from there
                self._leave(request)
        self._wait_for_late()

    def _sample(self, request: Request, first: int = 0, n: int = 0) -> None:
        """Its next token, by the logits of `n` from batch index `first` on, or by those that were found with its path."""
        try:
            if not n:
                kept = self._cache.logits(request.place)
                assert kept is not None  # which is why it has nothing to decode
                logits = kept[None]
                request.look_ahead(self._workers)
            else:
                logits = self._context.logits(first, n)
                is_kept = not request.n_pending and self._cache.keep(request.place, logits[-1])
                if is_kept and not self._context.rolls_back:
                    return self._leave(request)  # the state stays, as at a checkpoint
        except BaseException as e:
            return self._fail(request, e)
        self._draw(request, logits)

    def _draw(self, request: Request, logits: np.ndarray) -> None:
        try:
            if not request.advance(logits):
                self._late[request] = Late(logits[-1:], 0.0)
        except BaseException as e:  # as a grammar that cannot be followed
            return self._fail(request, e)
        if request.finish_reason is not None:
            self._end(request)

    def _wait_for_late(self) -> None:
        """A little, while the logits are those of this batch; then whoever's token is not known is left out until it is."""
        now = time.perf_counter()
        while (request := next((r for r, late in self._late.items() if not late.until), None)) is not None:
            job = request.looked_for(self._workers)
            logits = self._late.pop(request).logits
            if job.wait(max(0.0, now + _PATIENCE - time.perf_counter())):
                self._draw(request, logits)
            else:
                job.on_end = self._wake
                self._workers.takes_long(job)
                self._late[request] = Late(logits.copy(), now + SECONDS)

    def _go_on_with_late(self) -> None:
        for request, late in list(self._late.items()):
            if request.looked_for(self._workers).done:
                del self._late[request]
                self._draw(request, late.logits)
            elif time.perf_counter() >= late.until:
                self._fail(request, request.too_slow())

    def _rest(self) -> None:
        """There is nothing to decode: until a worker is done, something comes, or for a while, as somebody may have been cancelled."""
        with self._changed:
            if not (self._closing or self._arrived or self._calls or any(r.looked_for(self._workers).done for r in self._late)):
                self._changed.wait(0.01)

    def _wake(self) -> None:
        with self._changed:
            self._changed.notify()

    def _admit(self) -> None:
        for request in sorted(self._waiting, key=lambda r: (r.background, r.arrival)):
            if self._is_full:
                return
            try:
                if not self._begin(request):
                    continue
            except BaseException as e:
                if isinstance(e, SequenceLimitError) and self._running:
                    return  # until one of them has ended
                self._fail(request, e)
                continue
            self._waiting.remove(request)
            self._running.append(request)
            if not request.n_pending:
                self._sample(request)

    def _begin(self, request: Request) -> bool:
        """Whether it has a place in the cache, and its adapters are in memory; if not, or if that failed, it holds nothing."""
        if not self._adapters.hold(request.adapters):
            return False
        begun = False
        try:
            begun = request.begin(self._cache, self._context)
        finally:
            if not begun:
                self._let_go(request)
        return begun

    def _fill(self) -> list[tuple[Request, int]]:
        """Who gets how many tokens decoded in the next batch."""
        room = self._context.n_ubatch
        running = [r for r in self._running if r not in self._late] if self._late else self._running
        parts = _shares([r for r in running if not r.background], room)
        if len(parts) < len(running):
            n = sum(n for _, n in parts)
            room = min(room - n, self._pace.allowance(n)) if parts else room
            parts += _shares([r for r in running if r.background], room)
        return parts

    def _decode(self, parts: list[tuple[Request, int]]) -> list[tuple[int, int]]:
        """Decodes a batch, and makes room for it; takes out of `parts` whoever has to wait.

        Returns where in the batch each one's logits begin, and of how many tokens there are some.
        """
        while parts:
            spans = [request.span(n) for request, n in parts]
            try:
                return [(end - span.n_outputs + 1, span.n_outputs) for span, end in zip(spans, self._cache.decode(spans))]
            except ContextFullError as e:
                last = max(self._running, key=lambda r: (r.background, r.arrival))
                n = parts[0][1]
                if len(self._running) == 1 and (less := last.less(n)):
                    parts[:] = [(last, less)]
                    continue
                parts[:] = [part for part in parts if part[0] is not last]
                if len(self._running) > 1:
                    self._leave(last)
                    self._is_full = True
                elif last.place.ready_end >= last.n_prompt:
                    last.end_of_room()
                    self._end(last)
                else:
                    self._fail(last, e)
            except Exception as e:  # of all that are in this batch, and of no others
                for request, _ in parts:
                    self._cache.discard(request.place)
                    request.branch = None
                    self._fail(request, e)
                parts.clear()
        return []

    def _leave(self, request: Request) -> None:
        """Back to those that wait; what it has computed can go if it must, and is found again if not."""
        self._free(request)
        self._waiting.append(request)

    def _end(self, request: Request) -> None:
        try:
            if request in self._waiting:
                self._waiting.remove(request)
            self._free(request)
            self._is_full = False
        finally:
            request.finish()

    def _fail(self, request: Request, error: BaseException) -> None:
        request.error = request.error or error
        self._end(request)

    def _fail_all(self, error: BaseException) -> None:
        for request in [*self._running, *self._waiting]:
            try:
                self._fail(request, error)
            except BaseException:  # the next one has to hear of it too
                _log.exception("a call could not be ended cleanly")

    def _free(self, request: Request) -> None:
        """Takes it out of the running ones, if it is there."""
        self._late.pop(request, None)
        if request in self._running:
            self._running.remove(request)
            self._let_go(request)

    def _let_go(self, request: Request) -> None:
        self._adapters.release(request.adapters)
        request.leave(self._cache)


def _call(function: Callable[[], Any], future: Future) -> None:
    try:
        future.set_result(function())
    except BaseException as e:
        future.set_exception(e)


def _shares(requests: Sequence[Request], room: int) -> list[tuple[Request, int]]:
    """Divides `room` tokens: nobody waits for a long prompt, and what short ones leave over is its."""
    parts = []
    waiting = sorted(requests, key=lambda r: (r.n_pending, r.served))
    for i, request in enumerate(waiting):
        n = min(request.n_pending, max(1, room // (len(waiting) - i)), room)
        if n <= 0:
            break
        parts.append((request, n))
        room -= n
    return parts


def _batches(parts: Sequence[tuple[Request, int]], on_cpu: bool) -> list[list[tuple[Request, int]]]:
    """The parts in the batches that they are computed in: one, but for many tokens on the CPU.

    There ggml's attention takes TILE tokens and more in tiles, in which each pays for the cells of all. So tokens of
    the base are kept below that, unless they are of one conversation, and apart from adapted ones, whose attention
    is another.
    """
    if not on_cpu or sum(n for _, n in parts) < TILE:
        return [list(parts)] if parts else []
    batches: list[list[tuple[Request, int]]] = []
    n_last = TILE
    for request, n in parts:
        n = min(n, request.n_base)
        if n:
            if n_last + n >= TILE and not (batches and request.kin is not None and batches[-1][-1][0].kin is request.kin):
                batches.append([])
                n_last = 0
            batches[-1].append((request, n))
            n_last += n
    adapted = [(request, n - request.n_base) for request, n in parts if n > request.n_base]
    return [*batches, adapted] if adapted else batches
