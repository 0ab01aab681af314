"""Cells of the cache as bytes, and bytes as cells again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from ..errors import ContextFullError, SavedConversationError, SequenceLimitError
from .cache import n_common
from .engine import Engine

_MOST_ASIDE, _MOST_ASIDES = 512, 2048  # cells of one, and of all of them
_SAMPLES, _SAMPLE_BYTES = 256, 4096


class Cells(NamedTuple):
    """The cells of a path from `start` on, as Context.state() gives them. keys: what is in all cells from the first on, as in Cache.keys."""

    keys: list[int]
    start: int
    state: memoryview


def read_cells(engine: Engine, path: Sequence[int], asides: Sequence[Sequence[int]]) -> Iterator[tuple[int | None, Cells]]:
    """What the cache has of `path`, and of paths that leave it: (None, its cells), then (index of an aside, those that only it has).

    An aside is left away where its cells had to go, are there already, or are too many, and where memory has no ranges of cells.
    On the loop's thread.
    """
    cache, context = engine.cache, engine.context
    seq = cache.acquire()

    def state(source: int, start: int, end: int) -> memoryview:
        try:
            if start:
                context.share(source, seq, start, end)
            else:
                context.fork(source, seq, end)
            return context.state(seq)
        finally:
            context.clear(seq)

    try:
        held = cache.holder(path)
        if held is None:
            return
        paths, room = [list(path[: held[1]])], _MOST_ASIDES
        yield None, Cells(paths[0], 0, state(held[0], 0, held[1]))
        for i, aside in enumerate(asides) if context.has_ranges else ():
            start = max(n_common(aside, other) for other in paths)
            n_own = len(aside) - n_common(aside, path)
            held = cache.holder(aside)
            if held is None or held[1] < len(aside) or not 0 < len(aside) - start <= min(n_own, room, _MOST_ASIDE):
                continue
            paths.append(list(aside))
            yield i, Cells(paths[-1], start, state(held[0], start, len(aside)))
            room -= len(aside) - start
    finally:
        context.release(seq)


def write_cells(engine: Engine, cells: Sequence[Cells], where: str) -> None:
    """Puts what is not there yet into the cache: the first path, and of the others what there is room for.

    On the loop's thread. Raises ContextFullError if the first does not fit, or SavedConversationError for a state of other cells.
    """
    cache, context = engine.cache, engine.context
    is_there = lambda keys: (cache.holder(keys) or (0, 0))[1] == len(keys)
    cells = [one for one in cells if not one.start or context.has_ranges]
    if all(is_there(one.keys) for one in cells):
        return
    if len(cells[0].keys) > context.n_ctx:
        raise ContextFullError(f"{where}: expected {context.n_ctx} cells at most (n_ctx), got {len(cells[0].keys)}; give a larger n_ctx")
    seqs = [cache.acquire()]
    try:
        with contextlib.suppress(SequenceLimitError):
            while len(seqs) < len(cells):
                seqs.append(cache.acquire())
        while cache.n_cells + sum(len(one.keys) - one.start for one in cells if not is_there(one.keys)) > context.n_ctx and cache.evict():
            pass
        for keys, start, state in cells:
            if not seqs or is_there(keys):
                continue
            held = cache.holder(keys[:start]) if start else (None, 0)
            if held is None or held[1] < start:
                continue
            if not context.restore(seqs[-1], state):
                if start:
                    continue
                raise ContextFullError(f"{where}: expected room for {len(keys)} cells, got less; end a call or give a larger n_ctx")
            if not context.spans(seqs[-1], start, len(keys)):
                raise SavedConversationError(f"{where}: expected cells from {start} up to {len(keys)} in a state, got others; the file is damaged")
            if held[0] is not None:
                context.share(held[0], seqs[-1], 0, start)
            cache.adopt(keys, seqs.pop(), start)
    finally:
        for seq in seqs:
            context.release(seq)


def digest_of(path: Path) -> str:
    """A model's identity: the size of its file, its first MiB, and samples from all over it."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        size = f.seek(0, os.SEEK_END)
        digest.update(struct.pack("<Q", size))
        f.seek(0)
        digest.update(f.read(1 << 20))
        for i in range(_SAMPLES):
            f.seek(size * i // _SAMPLES)
            digest.update(f.read(_SAMPLE_BYTES))
    return digest.hexdigest()
