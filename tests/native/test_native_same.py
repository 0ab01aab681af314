"""The same answer: an intrinsic's tokens are the same to the bit for the same cells before them.

Whatever else is in the batch, however many of its tokens come at once, wherever the cells lie, on any number of threads.
"""

import ctypes
from pathlib import Path

import gguf
import native_models
import numpy as np
import pytest
from native_models import finish, llama, random_adapter, write_adapter, write_model
from native_runtime import Runtime, llama_cpp, prompt

from alora_gguf.runtime.library import library

Types = gguf.GGMLQuantizationType
N_SHARED, INVOCATION, N_STEPS = 140, prompt(50, 11), 3
FILLER, SEQ = 12, 1


def answer(
    base: Path,
    files: list[Path],
    n_beside: int = 0,
    base_beside: bool = False,
    long_beside: int = 0,
    pieces: int = 11,
    filler: str = "",
    n_threads: int = 1,
    unified: bool = True,
    shared=None,
    swa_full: bool = True,
) -> np.ndarray:
    """Logits of an invocation and of the tokens after it, of a sequence that goes on from cells of the base.

    n_beside: others that go on from the same cells, by other adapters. base_beside: every second of these without one.
    long_beside: tokens of a prompt in the first batch. pieces: tokens at once. filler: what lies in the cells before.
    """
    with Runtime(base, n_ctx=4096, flash=Types.F16, unified=unified, swa_full=swa_full) as runtime:
        llama_cpp.llama_set_n_threads(runtime.ctx, n_threads, n_threads)
        if filler:
            assert runtime.decode((FILLER, prompt(9, 77), 0), outputs="none") == 0
        if filler == "gaps":
            for seq in range(13, 16):
                assert runtime.decode((seq, prompt(seq, 40), 0), outputs="none") == 0
            for seq in FILLER, 14:
                assert llama_cpp.llama_memory_seq_rm(runtime.memory, seq, -1, -1)
        if unified:
            assert runtime.restore(SEQ, shared)
        else:  # whose state is of another form
            assert runtime.decode((SEQ, prompt(1, N_SHARED), 0), outputs="none") == 0
        adapters = [runtime.load(file) for file in files]
        others = [SEQ + 1 + i for i in range(n_beside)]
        for seq in others:
            llama_cpp.llama_memory_seq_cp(runtime.memory, SEQ, seq, -1, -1)
            if not base_beside or seq % 2:
                runtime.activate(seq, adapters[seq % len(adapters)], N_SHARED)
        runtime.activate(SEQ, adapters[0], N_SHARED)

        rows, n = [], N_SHARED
        for i in range(0, len(INVOCATION), pieces):
            beside = [(seq, prompt(60 + seq, 5 + seq), N_SHARED) for seq in others if i == 0]
            beside += [(11, prompt(70, long_beside), 0)] if long_beside and i == 0 else []
            mine = INVOCATION[i : i + pieces]
            rows += runtime.logits((SEQ, mine, n), *beside)[:1]
            n += len(mine)
        for i in range(N_STEPS):
            rows += runtime.logits((SEQ, [11 + i], n + i), *((seq, [20 + seq + i], N_SHARED + 5 + seq + i) for seq in others))[:1]
        return np.concatenate(rows)


def quantize(values: np.ndarray, dtype: Types) -> np.ndarray:
    """By ggml where gguf cannot."""
    if "_K" not in dtype.name:
        return gguf.quants.quantize(values, dtype)
    n_block, n_bytes = gguf.GGML_QUANT_SIZES[dtype]
    values = np.ascontiguousarray(values, np.float32)
    out = np.zeros((*values.shape[:-1], values.shape[-1] // n_block * n_bytes), np.uint8)
    quantize_chunk = library("ggml-base").ggml_quantize_chunk
    quantize_chunk.restype = ctypes.c_size_t
    got = quantize_chunk(
        ctypes.c_int(dtype),
        values.ctypes.data_as(ctypes.c_void_p),
        out.ctypes.data_as(ctypes.c_void_p),
        *map(ctypes.c_int64, (0, values.size // values.shape[-1], values.shape[-1])),
        ctypes.c_void_p(),
    )
    assert got == out.nbytes
    return out


def of_type(path: Path, model, dtype: Types) -> Path:
    """The model with its matrices in another type."""
    write_model(path, model)
    reader, writer = gguf.GGUFReader(path), gguf.GGUFWriter(path.with_suffix(".typed"), model.architecture)
    for field in reader.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            sub = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub)
    for t in reader.tensors:
        values = np.array(t.data).reshape(tuple(reversed([int(n) for n in t.shape])))
        kind = dtype if t.name in model.weights else Types.F32
        writer.add_tensor(t.name, quantize(values, kind), raw_dtype=kind)
    finish(writer, {})
    return path.with_suffix(".typed")


WAYS = {
    "again": {},
    "one by one": {"pieces": 1},
    "four at once": {"pieces": 4},
    "beside one": {"n_beside": 1},
    "beside eight": {"n_beside": 8},
    "beside eight, half of them the base's": {"n_beside": 8, "base_beside": True},
    "beside a prompt": {"long_beside": 150},
    "in other cells": {"filler": "cells"},
    "among gaps": {"filler": "gaps"},
    "on three threads": {"n_threads": 3},
    "in a stream": {"unified": False, "n_beside": 2},
    "all of it": {"n_beside": 5, "base_beside": True, "long_beside": 90, "pieces": 2, "filler": "gaps", "n_threads": 2},
}


LONG = {"long rows": {}, "experts of long rows": {"n_expert": 4}}  # that K-quants have


@pytest.fixture(scope="module")
def setting(zoo):
    """By kind and type of the base's matrices and type of the adapters: the files, the shared cells and other options, and the answer alone."""
    known: dict[tuple, tuple] = {}

    def get(kind: str, base_type: Types, adapter_type: Types):
        key = kind, base_type, adapter_type
        if key not in known:
            with pytest.MonkeyPatch.context() as patch:
                if kind in LONG:
                    patch.setattr(native_models, "N_EMBD", 256)
                    patch.setattr(native_models, "N_FF", 512)
                model = llama(n_dim=64, **LONG[kind]) if kind in LONG else zoo.model(kind.removeprefix("small "))
                base = of_type(zoo.path(), model, base_type)
            files = [write_adapter(zoo.path(), model.architecture, random_adapter(model, seed, r=32), adapter_type) for seed in (1, 2)]
            options = {"swa_full": not kind.startswith("small ")}
            with Runtime(base, n_ctx=4096, flash=Types.F16, **options) as runtime:
                assert runtime.decode((0, prompt(1, N_SHARED), 0), outputs="none") == 0
                options["shared"] = runtime.save(0)
            known[key] = base, files, options, answer(base, files, **options)
        return known[key]

    return get


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(["kind", "base_type", "adapter_type"], [
    ("dense", Types.F32, Types.F32), ("dense", Types.F16, Types.F16), ("dense", Types.Q8_0, Types.Q8_0), ("dense", Types.Q4_0, Types.BF16),
    ("wide", Types.F32, Types.F16), ("one head each", Types.Q8_0, Types.F32), ("many heads", Types.Q8_0, Types.F32), ("tied", Types.F16, Types.F16), ("experts", Types.F32, Types.F32), ("hybrid", Types.F32, Types.F32),
    ("dense", Types.BF16, Types.F32), ("dense", Types.Q4_1, Types.Q8_0), ("hybrid", Types.Q8_0, Types.F16), ("recurrent", Types.F32, Types.F32),
    ("windows", Types.F32, Types.F32), ("small windows", Types.Q8_0, Types.F32), ("soft cap", Types.F32, Types.F32), ("slopes", Types.F32, Types.F32),
    ("long rows", Types.Q4_K, Types.F16), ("long rows", Types.Q6_K, Types.F16),
    ("experts of long rows", Types.Q4_K, Types.F16), ("experts of long rows", Types.Q6_K, Types.F16),
], ids=lambda v: v if isinstance(v, str) else v.name)  # fmt: skip
def test_the_same_answer(setting, kind, base_type, adapter_type, way):
    base, files, options, alone = setting(kind, base_type, adapter_type)
    got = answer(base, files, **options, **WAYS[way])
    assert np.array_equal(got, alone)


@pytest.mark.parametrize(["kind", "base_type", "adapter_type"], [
    ("dense", Types.F32, Types.F32), ("experts of long rows", Types.Q6_K, Types.F16),
], ids=lambda v: v if isinstance(v, str) else v.name)  # fmt: skip
def test_rows_that_are_multiplied_together_differ(setting, monkeypatch, kind, base_type, adapter_type):
    """What ggml makes of several rows at once is not what it makes of each: the tests above can fail."""
    base, files, options, alone = setting(kind, base_type, adapter_type)
    monkeypatch.setenv("ALORA_ROWS", "together")
    together = answer(base, files, **options)
    assert not np.array_equal(together, alone) and np.allclose(together, alone, atol=1e-4)
    assert not np.array_equal(answer(base, files, **options, pieces=1), together)


@pytest.mark.parametrize(["kind", "base_type", "adapter_type"], [
    ("dense", Types.F32, Types.F32), ("experts of long rows", Types.Q6_K, Types.F16), ("soft cap", Types.F32, Types.F32), ("slopes", Types.F32, Types.F32),
], ids=lambda v: v if isinstance(v, str) else v.name)  # fmt: skip
def test_the_base_beside_them_is_the_bases(setting, kind, base_type, adapter_type):
    """Rows that are computed alone leave the others what they were."""
    base, files, options, _ = setting(kind, base_type, adapter_type)
    with Runtime(base, n_ctx=4096, flash=Types.F16) as runtime:
        rows = (3, prompt(3, 40), 0), (SEQ, INVOCATION, N_SHARED)
        assert runtime.restore(SEQ, options["shared"])
        want, _ = runtime.logits(*rows)
        runtime.clear()
        assert runtime.restore(SEQ, options["shared"])
        runtime.activate(SEQ, runtime.load(files[0]), N_SHARED)
        got, _ = runtime.logits(*rows)
    assert np.array_equal(got, want)
