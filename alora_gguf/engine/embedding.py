"""Embeddings of texts, by models that pool: one vector for each."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from ..errors import ContextFullError, PromptError
from ..runtime.context import Span
from ..runtime.library import llama_cpp
from .engine import Engine


def embed(engine: Engine, rows: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """The embedding of each row of tokens: float32 [n_embd], of length 1.

    Raises PromptError if the model does not pool, or ContextFullError for more tokens than one graph takes.
    """
    engine.check_open()
    if not engine.context.pools:
        raise PromptError(
            f"{engine.path.name}: expected a model that pools its tokens into an embedding, got one that does not; load an embedding model"
        )
    rows = [engine.vocab.check(row) for row in rows]
    for row in rows:
        if len(row) > engine.context.n_ubatch:
            raise ContextFullError(f"embedding: expected at most {engine.context.n_ubatch} tokens (n_ubatch), got {len(row)}; shorten the text")
    return [engine.loop.call(partial(_embed, engine, row)) for row in rows]


def _embed(engine: Engine, row: Sequence[int]) -> np.ndarray:
    context = engine.context
    seq = engine.cache.acquire()
    llama_cpp.llama_set_embeddings(context.ptr, True)
    try:
        engine.cache.decode([Span(seq, row, 0, len(row))])
        vector = llama_cpp.llama_get_embeddings_seq(context.ptr, seq)
        embedding = np.ctypeslib.as_array(vector, (llama_cpp.llama_model_n_embd_out(llama_cpp.llama_get_model(context.ptr)),)).copy()
    finally:
        llama_cpp.llama_set_embeddings(context.ptr, False)
        context.release(seq)
    return embedding / max(float(np.linalg.norm(embedding)), 1e-12)
