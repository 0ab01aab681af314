"""Where llama.cpp's converters store a weight's rows in another order than transformers.

Every function gives an index array [n_rows]: row i in GGUF is row index[i] in transformers. Raises
ValueError or ZeroDivisionError where the rows do not divide into the model's heads.
"""

from collections.abc import Callable

import numpy as np

from ..base.gguf_base import Base

# (base, layer, n_rows) -> index array
Order = Callable[[Base, int, int], np.ndarray]


def query_rows(base: Base, layer: int, n_rows: int) -> np.ndarray:
    return interleaved_rows(n_rows, base.n_head[layer])


def key_rows(base: Base, layer: int, n_rows: int) -> np.ndarray:
    return interleaved_rows(n_rows, base.n_head_kv[layer])


def grouped_qkv_rows(base: Base, layer: int, n_rows: int) -> np.ndarray:
    """q, k, v in one weight, in transformers as groups of the query heads of one key head, then its k, v.

    Source: FalconModel.modify_tensors in llama.cpp's conversion/falcon.py, and gptneox.py and
    bloom.py, where every head is a group.
    """
    n_head, n_head_kv = base.n_head[layer], base.n_head_kv[layer]
    groups = np.arange(n_rows).reshape(n_head_kv, n_head // n_head_kv + 2, -1)
    return np.concatenate([groups[:, :-2].reshape(-1), groups[:, -2].reshape(-1), groups[:, -1].reshape(-1)])


def alternating_rows(base: Base, layer: int, n_rows: int) -> np.ndarray:
    """gate and up in one weight, in transformers row by row in turn. Source: llama.cpp's conversion/gpt_oss.py."""
    return np.arange(n_rows).reshape(-1, 2).T.reshape(-1)


def interleaved_rows(n_rows: int, n_head: int) -> np.ndarray:
    """Rotary embeddings on neighbouring pairs: transformers rotates row i of a head with row i + d/2, ggml 2i with 2i + 1.

    Source: LlamaModel.permute in llama.cpp's conversion/llama.py.
    """
    return np.arange(n_rows).reshape(n_head, 2, n_rows // n_head // 2).swapaxes(1, 2).reshape(-1)
