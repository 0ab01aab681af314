"""A GGUF base model, opened: weights, vocabulary and a context, as llama.cpp has them."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gguf

from ..errors import ModelLoadError
from .context import Context
from .cores import usable_cores
from .library import llama_cpp, take_error
from .memory import all_memory
from .rpc import devices, relays_to
from .rpc_relay import check_servers
from .vocab import Vocab

_CACHE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "bf16": 30}
_N_MOST = 2**31 - 1


class Loaded(NamedTuple):
    """Closed by closing its context, then its vocabulary, which owns the model.

    cell_types   of the cache: type_k, type_v and flash_attn_type, ggml's numbers
    """

    path: Path
    vocab: Vocab
    context: Context
    cell_types: list[int]


def load(
    path: Path,
    *,
    n_ctx: int,
    n_batch: int,
    n_ubatch: int,
    n_seq_max: int | None,
    n_threads: int | None,
    n_threads_batch: int | None,
    n_gpu_layers: int,
    main_gpu: int,
    split_mode: int | None,
    tensor_split: Sequence[float] | None,
    use_mmap: bool,
    use_mlock: bool,
    type_k: str | int | None,
    type_v: str | int | None,
    flash_attn: bool | None,
    offload_kqv: bool,
    op_offload: bool | None,
    swa_full: bool | None,
    rope_freq_base: float,
    rope_freq_scale: float,
    rpc_servers: Sequence[str],
) -> Loaded:
    """Model says what the arguments are. Raises ModelLoadError."""
    if not path.is_file():
        raise ModelLoadError(f"{path}: expected a GGUF file, got {'a folder' if path.is_dir() else 'nothing'}; check the path")
    for name, value, least, most in (
        ("n_ctx", n_ctx, 0, _N_MOST),
        ("n_batch", n_batch, 1, _N_MOST),
        ("n_ubatch", n_ubatch, 1, _N_MOST),
        ("n_seq_max", 1 if n_seq_max is None else n_seq_max, 1, 256),
        ("n_threads", n_threads or 1, 1, 512),
        ("n_threads_batch", n_threads_batch or 1, 1, 512),
    ):
        check_number(name, value, least, most)

    relays = relays_to(rpc_servers)
    mp = llama_cpp.llama_model_default_params()
    kept: list[Any] = [devices(relays)]  # what the parameters point to
    mp.devices = ctypes.cast(kept[0], ctypes.c_void_p)
    mp.n_gpu_layers = 0x7FFFFFFF if n_gpu_layers < 0 else n_gpu_layers
    mp.main_gpu = main_gpu
    if split_mode is not None:
        mp.split_mode = split_mode
    if tensor_split is not None:
        kept.append((ctypes.c_float * llama_cpp.LLAMA_MAX_DEVICES)(*tensor_split))
        mp.tensor_split = kept[-1]
    mp.load_mode = _load_mode(use_mmap, use_mlock)

    cores = usable_cores()
    cp = llama_cpp.llama_context_default_params()
    cp.n_ctx = n_ctx
    cp.n_batch = min(n_batch, n_ctx) if n_ctx else n_batch
    cp.n_ubatch = min(n_ubatch, cp.n_batch)
    cp.n_threads = n_threads or cores
    cp.n_threads_batch = n_threads_batch or n_threads or cores
    cp.kv_unified = True  # forks share cells instead of copying them
    cp.offload_kqv = offload_kqv
    if type_k is not None:
        cp.type_k = _cache_type("type_k", type_k)
    if type_v is not None:
        cp.type_v = _cache_type("type_v", type_v)
    if flash_attn is not None:
        cp.flash_attn_type = int(flash_attn)
    if op_offload is not None:
        cp.op_offload = op_offload
    if swa_full is not None:
        cp.swa_full = swa_full
    cp.rope_freq_base = rope_freq_base
    cp.rope_freq_scale = rope_freq_scale

    take_error()
    model = llama_cpp.llama_model_load_from_file(os.fsencode(path), mp)
    if not model:
        check_servers(relays, ModelLoadError)
        raise ModelLoadError(f"{path}: expected a GGUF model, got: {_reason('check the file')}")
    recurrent = llama_cpp.llama_model_is_recurrent(model) or llama_cpp.llama_model_is_hybrid(model)
    cp.n_seq_max = n_seq_max or (16 if recurrent else 256)
    cp.n_outputs_max = max(cp.n_batch, cp.n_seq_max)  # with fewer than sequences, llama_context aborts
    if not n_gpu_layers and not relays and not recurrent:
        n_cells = n_ctx or llama_cpp.llama_model_n_ctx_train(model)
        if (n_bytes := _n_bytes(model, n_cells, cp.type_k, cp.type_v)) > 2 * (all_memory() or n_bytes):
            llama_cpp.llama_model_free(model)
            raise ModelLoadError(
                f"{path}: expected a context that fits into memory, got {n_cells} cells of {n_bytes / 1e9:,.0f} GB; give a smaller n_ctx"
            )
    take_error()
    context = llama_cpp.llama_init_from_model(model, cp)
    if not context:
        llama_cpp.llama_model_free(model)
        check_servers(relays, ModelLoadError)
        raise ModelLoadError(f"{path}: expected a context of {n_ctx} cells, got: {_reason('give a smaller n_ctx or other options')}")
    vocab = Vocab(model)
    owner = Context(
        context, vocab.n_tokens, rolls_back=not recurrent, n_swa=llama_cpp.llama_model_n_swa(model), on_cpu=not n_gpu_layers, relays=relays
    )
    return Loaded(path, vocab, owner, [cp.type_k, cp.type_v, cp.flash_attn_type])


def _n_bytes(model: Any, n_cells: int, type_k: int, type_v: int) -> int:
    """Of the keys and values of so many cells, if all layers keep all of them.

    Where the system promises more memory than there is, allocating them succeeds, and the process is killed when it writes to them.
    """
    n_values = llama_cpp.llama_model_n_embd(model) // max(1, llama_cpp.llama_model_n_head(model)) * llama_cpp.llama_model_n_head_kv(model)
    sizes = [gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(kind)] for kind in (type_k, type_v)]
    return llama_cpp.llama_model_n_layer(model) * n_cells * sum(n_values * n_bytes // n for n, n_bytes in sizes)


def check_number(name: str, value: object, least: int, most: int) -> None:
    """Raises ModelLoadError."""
    if not (isinstance(value, int) and least <= value <= most):
        raise ModelLoadError(f"{name}: expected a whole number from {least} to {most}, got {value!r}")


def _cache_type(name: str, value: str | int) -> int:
    number = _CACHE_TYPES.get(value.lower()) if isinstance(value, str) else value
    if number is None or number not in _CACHE_TYPES.values():  # of another, ggml aborts
        raise ModelLoadError(f"{name}: expected one of {', '.join(_CACHE_TYPES)}, got {value!r}")
    return number


def _reason(advice: str) -> str:
    """The library's error, and what to do about it."""
    reason = take_error() or "no reason given"
    no_memory = any(said in reason for said in ("bad_alloc", "allocate memory", "insufficient memory"))
    return f"{reason}; {'make room in memory, or take a smaller n_ctx or model' if no_memory else advice}"


def _load_mode(use_mmap: bool, use_mlock: bool) -> int:
    return {
        (False, False): llama_cpp.LLAMA_LOAD_MODE_NONE,
        (True, False): llama_cpp.LLAMA_LOAD_MODE_MMAP,
        (False, True): llama_cpp.LLAMA_LOAD_MODE_MLOCK,
        (True, True): llama_cpp.LLAMA_LOAD_MODE_MMAP_MLOCK,
    }[use_mmap, use_mlock]
