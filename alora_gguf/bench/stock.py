"""The unpatched library through stock bindings, by their low-level functions: no Llama object's Python time."""

import ctypes
import os
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..errors import BenchError
from .steps import N_PAST, N_WARM, Steps
from .worker import Settings

N_SEQ_MAX = 64


class Span(NamedTuple):
    """As alora_gguf.context.Span, which cannot be imported without our library."""

    seq_id: int
    tokens: Sequence[int]
    start: int
    outputs: str = "last"


class Stock(Steps):
    """One set of adapters for all tokens of a decode, so each change of the adapter is a switch before it."""

    def __init__(self, settings: Settings):
        os.environ["LLAMA_CPP_LIB_PATH"] = str(settings.unpatched)
        from llama_cpp import llama_cpp

        lib: Any = llama_cpp
        self._lib, self._log = lib, lib.llama_log_callback(lambda *_: None)
        lib.llama_log_set(self._log, None)
        lib.llama_backend_init()
        mp = lib.llama_model_default_params()
        mp.n_gpu_layers = 0
        model = lib.llama_model_load_from_file(os.fsencode(settings.model), mp)
        cp = lib.llama_context_default_params()
        cp.n_ctx, cp.n_batch, cp.n_ubatch, cp.n_seq_max = settings.n_ctx, settings.n_ubatch, settings.n_ubatch, N_SEQ_MAX
        cp.n_threads = cp.n_threads_batch = settings.n_threads
        cp.kv_unified, cp.flash_attn_type = True, 1
        context = model and lib.llama_init_from_model(model, cp)
        if not context:
            raise BenchError(f"{settings.model}: expected a model that the unpatched library loads, got none; check the file")
        self.adapters = {name: lib.llama_adapter_lora_init(model, os.fsencode(path)) for name, path in settings.adapters.items()}
        super().__init__(StockContext(lib, context, lib.llama_vocab_n_tokens(lib.llama_model_get_vocab(model))), Span)

    def activate(self, seq_id: int, name: str | None, start: int) -> None:
        """From the next decode on, whatever its sequence and positions."""
        adapters = [self.adapters[name]] if name else []
        array = (self._lib.llama_adapter_lora_p_ctypes * 1)(*adapters)
        self._lib.llama_set_adapters_lora(self.context.ptr, array, len(adapters), (ctypes.c_float * 1)(1.0))

    def switch(self, names: Sequence[str], n_steps: int) -> list[float]:
        """One sequence for each name, one token each, a switch before each: milliseconds of all of them together."""
        seqs, ms = self._forks([None] * len(names)), []
        for step in range(N_WARM + n_steps):
            began = time.perf_counter()
            for i, (seq, name) in enumerate(zip(seqs, names)):
                self.activate(seq, name, 0)
                self._timed([Span(seq, [1000 + i + step], N_PAST + step)])
            ms.append((time.perf_counter() - began) * 1e3)
        self.activate(seqs[0], None, 0)
        self._release(seqs)
        return ms[N_WARM:]

    def _release(self, seqs: Sequence[int]) -> None:
        self.activate(seqs[0], None, 0)
        super()._release(seqs)


class StockContext:
    """A llama_context with the methods of alora_gguf.context.Context that the tasks need."""

    def __init__(self, lib: Any, ptr: int, n_vocab: int):
        self.ptr = ptr
        self.n_batch = n = lib.llama_n_batch(ptr)
        self._lib, self._n_vocab, self._memory = lib, n_vocab, lib.llama_get_memory(ptr)
        self._free = list(range(N_SEQ_MAX))
        self._batch = lib.llama_batch_init(n, 0, 1)
        view = lambda pointer, dtype: np.ctypeslib.as_array(pointer, (n,)).view(dtype)
        self._tokens, self._pos = view(self._batch.token, np.int32), view(self._batch.pos, np.int32)
        self._outputs = view(self._batch.logits, np.int8)
        self._seqs = np.zeros(n, np.int32)
        self._batch.seq_id = ctypes.cast((ctypes.c_void_p * n)(*(self._seqs.ctypes.data + 4 * np.arange(n)).tolist()), type(self._batch.seq_id))
        view(self._batch.n_seq_id, np.int32)[:] = 1

    def decode(self, spans: Sequence[Span]) -> list[int]:
        ends, n = [], 0
        for span in spans:
            end = n + len(span.tokens)
            self._tokens[n:end] = span.tokens
            self._pos[n:end] = np.arange(span.start, span.start + len(span.tokens))
            self._seqs[n:end] = span.seq_id
            self._outputs[n:end] = 0
            self._outputs[end - 1] = span.outputs != "none"
            ends.append(end - 1)
            n = end
        self._batch.n_tokens = n
        status = self._lib.llama_decode(self.ptr, self._batch)
        if status:
            raise BenchError(f"decode of {n} tokens: expected success, got status {status}; give a smaller model")
        return ends

    def logits(self, first: int, n: int) -> np.ndarray:
        row = self._lib.llama_get_logits_ith(self.ptr, first)
        buffer: Any = (ctypes.c_float * (n * self._n_vocab)).from_address(ctypes.addressof(row.contents))
        return np.frombuffer(buffer, np.float32).reshape(n, self._n_vocab)

    def acquire(self) -> int:
        return self._free.pop()

    def release(self, seq_id: int) -> None:
        self._lib.llama_memory_seq_rm(self._memory, seq_id, -1, -1)
        self._free.append(seq_id)

    def truncate(self, seq_id: int, n: int) -> None:
        self._lib.llama_memory_seq_rm(self._memory, seq_id, n, -1)

    def fork(self, src: int, dst: int, n: int) -> None:
        self._lib.llama_memory_seq_cp(self._memory, src, dst, 0, n)
