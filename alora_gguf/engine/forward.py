"""PEFT's forward: the logits of whole rows, each with its adapter, in one batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import AdapterMemoryError
from ..runtime.context import Span
from .adapter import Adapter
from .engine import Engine


def logits(engine: Engine, rows: Sequence[Sequence[int]], adapters: Sequence[Adapter | None]) -> list[np.ndarray]:
    """The logits of every token of each row: float32 [len(row), n_vocab]. An adapter is active where Adapter.start_in says.

    Raises PromptError, ContextFullError, SequenceLimitError, AdapterMemoryError.
    """
    rows = [engine.vocab.check(row) for row in rows]
    engine.context.check_room(sum(map(len, rows)))
    starts = [adapter.start_in(row) if adapter else None for row, adapter in zip(rows, adapters)]
    return engine.loop.call(lambda: _logits(engine, rows, adapters, starts))


def _logits(engine: Engine, rows: Sequence[Sequence[int]], adapters: Sequence[Adapter | None], starts: Sequence[int | None]) -> list[np.ndarray]:
    used = [adapter for adapter in adapters if adapter]
    if not engine.adapters.hold(used):
        raise AdapterMemoryError("logits: expected room for the adapters of all rows, got calls that use it; wait for them to end")
    context = engine.context
    seqs: list[int] = []
    try:
        todo = []
        for tokens, adapter, start in zip(rows, adapters, starts):
            seqs.append(engine.cache.acquire())
            if adapter is not None and start is not None:
                context.activate(seqs[-1], adapter.handle, start)
            todo.append(Span(seqs[-1], tokens, 0, len(tokens)))
        parts: dict[int, list[np.ndarray]] = {seq: [] for seq in seqs}
        for batch in _split(todo, context.n_batch):
            for span, end in zip(batch, engine.cache.decode(batch)):
                n = len(span.tokens)
                parts[span.seq_id].append(context.logits(end - n + 1, n).copy())
    finally:
        for seq in seqs:
            context.release(seq)
        engine.adapters.release(used)
    return [np.concatenate(parts[seq]) for seq in seqs]


def _split(spans: Sequence[Span], n_batch: int) -> list[list[Span]]:
    """The spans in order, cut where a batch of n_batch tokens is full."""
    batches: list[list[Span]] = []
    room = 0
    for span in spans:
        done = 0
        while done < len(span.tokens):
            if not room:
                batches.append([])
                room = n_batch
            tokens = span.tokens[done : done + room]
            batches[-1].append(Span(span.seq_id, tokens, span.start + done, len(tokens)))
            done += len(tokens)
            room -= len(tokens)
    return batches
