"""A llama_context and its sequences through ctypes alone: llama.h, and native/alora.h as native declares it.

It imports as well beside a libllama without the patch, for everything but adapters.
"""

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType

if os.environ.get("ALORA_TEST_UNPATCHED"):
    import llama_cpp.llama_cpp as llama_cpp

    assert not hasattr(llama_cpp._lib, "alora_abi_version")
    llama_cpp.llama_backend_init()
    _quiet = llama_cpp.llama_log_callback(lambda level, text, _: None)
    llama_cpp.llama_log_set(_quiet, None)
else:
    from alora_gguf.runtime import native
    from alora_gguf.runtime.library import llama_cpp

Row = tuple[int, list[int] | np.ndarray, int]  # sequence, tokens or embeddings [n, n_embd], position of the first


class Refused(Exception):
    """A negative status of an alora_ function, and its one line."""

    def __init__(self, status: int):
        self.status, self.line = status, native.alora_last_error().decode(errors="replace")
        super().__init__(self.line)


class Runtime:
    """A model with one context of float32 cells, whose logits do not depend on flash attention's f16.

    flash: flash attention after all, on cells of this type. on_node: gets the address of each ggml_tensor before it is computed.
    """

    def __init__(
        self,
        path: Path,
        n_ctx: int = 512,
        n_ubatch: int = 512,
        n_seq_max: int = 16,
        unified: bool = True,
        model=None,
        flash: GGMLQuantizationType | None = None,
        on_node: Callable[[int], None] | None = None,
        swa_full: bool = True,
    ):
        self.model = model or llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        assert self.model, path
        self._owns_model = not model
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch, params.n_seq_max, params.kv_unified = n_ctx, n_ctx, n_ubatch, n_seq_max, unified
        params.type_k = params.type_v = flash or 0
        params.swa_full = swa_full
        params.flash_attn_type = flash is not None
        params.n_threads = params.n_threads_batch = 1
        params.no_perf = False
        if on_node:
            self._on_node = llama_cpp.ggml_backend_sched_eval_callback(lambda node, ask, _: bool(on_node(node)))
            params.cb_eval = self._on_node
        self.ctx = llama_cpp.llama_init_from_model(self.model, params)
        assert self.ctx
        self.memory = llama_cpp.llama_get_memory(self.ctx)
        self.n_vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))

    def close(self) -> None:
        if self.ctx:
            llama_cpp.llama_free(self.ctx)
            if self._owns_model:
                llama_cpp.llama_model_free(self.model)
            self.ctx = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # decoding

    def decode(self, *rows: Row, outputs: str = "all", also: tuple[int, ...] = ()) -> int:
        """llama_decode's status for one batch; every token belongs to the sequences `also` too."""
        n = sum(len(tokens) for _, tokens, _ in rows)
        n_embd = rows[0][1].shape[1] if isinstance(rows[0][1], np.ndarray) else 0
        batch = llama_cpp.llama_batch_init(n, n_embd, 1 + len(also))
        i = 0
        for seq, tokens, start in rows:
            for k, token in enumerate(tokens):
                if n_embd:
                    np.ctypeslib.as_array(batch.embd, shape=(n, n_embd))[i] = token
                else:
                    batch.token[i] = token
                batch.pos[i], batch.n_seq_id[i] = start + k, 1 + len(also)
                for s, seq_id in enumerate((seq, *also)):
                    batch.seq_id[i][s] = seq_id
                batch.logits[i] = outputs == "all" or outputs == "last" and k == len(tokens) - 1
                i += 1
        batch.n_tokens = n
        status = llama_cpp.llama_decode(self.ctx, batch)
        llama_cpp.llama_batch_free(batch)
        return status

    def logits(self, *rows: Row, outputs: str = "all") -> list[np.ndarray]:
        """float32 [len(tokens) or 1, n_vocab] of each row, all in one batch."""
        assert self.decode(*rows, outputs=outputs) == 0
        lengths = [len(tokens) if outputs == "all" else 1 for _, tokens, _ in rows]
        out = np.ctypeslib.as_array(llama_cpp.llama_get_logits(self.ctx), shape=(sum(lengths), self.n_vocab)).copy()
        return np.split(out, np.cumsum(lengths)[:-1])

    def clear(self) -> None:
        llama_cpp.llama_memory_clear(self.memory, True)

    def save(self, seq: int, flags: int = 0) -> ctypes.Array:
        state = (ctypes.c_uint8 * llama_cpp.llama_state_seq_get_size_ext(self.ctx, seq, flags))()
        assert llama_cpp.llama_state_seq_get_data_ext(self.ctx, state, len(state), seq, flags) == len(state)
        return state

    def restore(self, seq: int, state: ctypes.Array, flags: int = 0) -> int:
        """Bytes read; 0 if the state was refused."""
        return llama_cpp.llama_state_seq_set_data_ext(self.ctx, state, len(state), seq, flags)

    def save_all(self) -> ctypes.Array:
        state = (ctypes.c_uint8 * llama_cpp.llama_state_get_size(self.ctx))()
        return (ctypes.c_uint8 * llama_cpp.llama_state_get_data(self.ctx, state, len(state))).from_buffer(state)

    def restore_all(self, state: ctypes.Array) -> int:
        return llama_cpp.llama_state_set_data(self.ctx, state, len(state))

    @property
    def n_reused(self) -> int:
        return llama_cpp.llama_perf_context(self.ctx).n_reused

    # adapters

    def load(self, path: Path) -> int:
        out = ctypes.c_uint64()
        _check(native.alora_adapter_load(self.ctx, str(path).encode(), ctypes.byref(out)))
        return out.value

    def activate(self, seq: int, adapter: int, start: int = 0, scale: float = 1.0) -> None:
        _check(native.alora_seq_activate(self.ctx, seq, adapter, start, scale))

    def deactivate(self, seq: int, adapter: int = 0) -> int:
        return _check(native.alora_seq_deactivate(self.ctx, seq, adapter))

    def activations(self, seq: int) -> list[tuple[int, int, float]]:
        out = (native.alora_activation * 16)()
        n = _check(native.alora_seq_activations(self.ctx, seq, out, len(out)))
        return [(a.adapter, a.start, a.scale) for a in out[:n]]


def free(adapter: int) -> None:
    _check(native.alora_adapter_free(adapter))


def _check(status: int) -> int:
    if status < 0:
        raise Refused(status)
    return status


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """The worst row's |got - expected| / |expected|, in the Euclidean norm."""
    return float((np.linalg.norm(got - expected, axis=-1) / np.linalg.norm(expected, axis=-1)).max())


def prompt(seed: int, n: int) -> list[int]:
    return np.random.default_rng(seed).integers(3, 300, n).tolist()
