"""Embeddings of texts, by models that pool: one vector for each."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ._library import llama_cpp
from .context import Span
from .errors import ContextFullError, PromptError

if TYPE_CHECKING:
    from .model import Model


def embed(model: "Model", rows: Sequence[Sequence[int]]) -> list[np.ndarray]:
    """The embedding of each row of tokens: float32 [n_embd], of length 1.

    Raises PromptError if the model does not pool, or ContextFullError for more tokens than one graph takes.
    """
    model.check_open()
    if not model.context.pools:
        raise PromptError(f"{model.path.name}: expected a model that pools its tokens into an embedding, got one that does not; load an embedding model")
    rows = [model.vocab.check(row) for row in rows]
    for row in rows:
        if len(row) > model.context.n_ubatch:
            raise ContextFullError(f"embedding: expected at most {model.context.n_ubatch} tokens (n_ubatch), got {len(row)}; shorten the text")
    return [model.loop.call(lambda row=row: _embed(model, row)) for row in rows]


def _embed(model: "Model", row: Sequence[int]) -> np.ndarray:
    context = model.context
    seq = model.cache.acquire()
    llama_cpp.llama_set_embeddings(context.ptr, True)
    try:
        model.cache.decode([Span(seq, row, 0, "all")])
        vector = llama_cpp.llama_get_embeddings_seq(context.ptr, seq)
        embedding = np.ctypeslib.as_array(vector, (llama_cpp.llama_model_n_embd_out(llama_cpp.llama_get_model(context.ptr)),)).copy()
    finally:
        llama_cpp.llama_set_embeddings(context.ptr, False)
        context.release(seq)
    return embedding / max(float(np.linalg.norm(embedding)), 1e-12)
