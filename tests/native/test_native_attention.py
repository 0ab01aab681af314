"""The attention of adapted tokens against ggml's flash attention, and against attention in float32."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from native_models import write_adapter
from native_runtime import Runtime, llama_cpp, prompt, relative_error

Types = gguf.GGMLQuantizationType
KERNELS = ["generic", "dotprod"] if platform.machine() in ("aarch64", "arm64") else ["generic", "avx2", "avx512"]
# ggml's rounds the queries to the type of the cells and adds up in f16; ours does neither
ROUNDING = {Types.F16: 2e-2, Types.BF16: 5e-2, Types.Q8_0: 5e-2}


def branches(runtime, adapter: int, n_shared: int, n_branches: int, n_steps: int) -> np.ndarray:
    """Logits of adapted sequences that go on from the cells of another, from different places, some tokens a step."""
    tokens = prompt(0, n_shared)
    assert runtime.decode((0, tokens, 0), outputs="none") == 0
    lengths = [max(1, n_shared - i) for i in range(n_branches)]
    for seq, length in enumerate(lengths, 1):
        llama_cpp.llama_memory_seq_cp(runtime.memory, 0, seq, 0, length)
        runtime.activate(seq, adapter, length)
    rows = []
    for n in [3, *[1] * n_steps]:
        rows += runtime.logits(*((seq, prompt(seq + len(rows), n), length) for seq, length in enumerate(lengths, 1)))
        lengths = [length + n for length in lengths]
    return np.concatenate(rows)


def both(zoo, monkeypatch, kind: str, type, n_threads: int = 1, **shape) -> tuple[np.ndarray, ...]:
    """The branches with our attention, with ggml's, and with all in float32."""
    results = []
    file = write_adapter(zoo.path(), zoo.model(kind).architecture, zoo.adapter(kind))
    for way, flash in ("fused", type), ("ops", type), ("ops", None):
        monkeypatch.setenv("ALORA_GRAPH", way)
        with Runtime(zoo.base(kind), n_ctx=1024, flash=flash) as runtime:
            llama_cpp.llama_set_n_threads(runtime.ctx, n_threads, n_threads)
            results.append(branches(runtime, runtime.load(file), **shape))
    return tuple(results)


@pytest.mark.parametrize("shape", [
    {"n_shared": 300, "n_branches": 6, "n_steps": 30},  # cells that all see, and cells of which each sees every sixth
    {"n_shared": 5, "n_branches": 15, "n_steps": 12},  # hardly anything is shared
    {"n_shared": 130, "n_branches": 1, "n_steps": 3},
], ids=lambda s: "-".join(map(str, s.values())))  # fmt: skip
@pytest.mark.parametrize("kernel", KERNELS)
def test_it_equals_ggmls(zoo, monkeypatch, kernel, shape):
    monkeypatch.setenv("ALORA_KERNEL", kernel)
    ours, ggmls, exact = both(zoo, monkeypatch, "dense", Types.F16, **shape)
    assert not np.array_equal(ours, ggmls)  # it is another one
    assert relative_error(ours, ggmls) < ROUNDING[Types.F16]
    assert relative_error(ours, exact) < 0.8 * relative_error(ggmls, exact)


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("kind", ["one head each", "many heads"])
def test_any_layout_of_heads(zoo, monkeypatch, kind, n_threads):
    """Each with cells of its own; and more that share them than are computed at once."""
    for shape in {"n_shared": 200, "n_branches": 1, "n_steps": 2}, {"n_shared": 70, "n_branches": 5, "n_steps": 2}:
        ours, ggmls, _ = both(zoo, monkeypatch, kind, Types.F16, n_threads, **shape)
        assert relative_error(ours, ggmls) < ROUNDING[Types.F16]


@pytest.mark.parametrize("kind", ["windows", "soft cap", "slopes"])
def test_any_scores(zoo, monkeypatch, kind):
    """Of layers that see a few tokens back; capped; with ALiBi, which makes them less the farther the cell is."""
    for shape in {"n_shared": 200, "n_branches": 1, "n_steps": 2}, {"n_shared": 70, "n_branches": 5, "n_steps": 2}:
        ours, ggmls, exact = both(zoo, monkeypatch, kind, Types.F16, **shape)
        assert not np.array_equal(ours, ggmls)
        assert relative_error(ours, ggmls) < ROUNDING[Types.F16]
        assert relative_error(ours, exact) < relative_error(ggmls, exact)


@pytest.mark.parametrize("type", ROUNDING, ids=lambda t: t.name)
def test_cells_of_any_type(zoo, monkeypatch, type):
    ours, ggmls, _ = both(zoo, monkeypatch, "wide", type, n_shared=70, n_branches=5, n_steps=4)
    assert relative_error(ours, ggmls) < ROUNDING[type]


@pytest.mark.parametrize("kind", ["experts", "hybrid"])
@pytest.mark.parametrize("n_threads", [2, 3, 16])
def test_any_number_of_threads(zoo, monkeypatch, kind, n_threads):
    shape = {"n_shared": 100, "n_branches": 1 if kind == "hybrid" else 7, "n_steps": 3}
    one, *_ = both(zoo, monkeypatch, kind, Types.F16, **shape)
    more, *_ = both(zoo, monkeypatch, kind, Types.F16, n_threads, **shape)
    assert relative_error(more, one) < 1e-3


def test_more_tokens_than_a_set_has(zoo, monkeypatch):
    """One prompt that is adapted from its first token on."""
    results = []
    file = write_adapter(zoo.path(), "llama", zoo.adapter("dense"))
    for way in "fused", "ops":
        monkeypatch.setenv("ALORA_GRAPH", way)
        with Runtime(zoo.base("dense"), flash=Types.F16) as runtime:
            runtime.activate(0, runtime.load(file))
            results += runtime.logits((0, prompt(1, 150), 0))
    assert relative_error(*results) < ROUNDING[Types.F16]


def test_base_tokens_have_ggmls(zoo):
    """Bit for bit, also beside adapted ones."""
    tokens, other = prompt(1, 20), prompt(2, 30)
    with Runtime(zoo.base("dense"), flash=Types.F16) as runtime:
        (want,) = runtime.logits((1, other, 0))
        runtime.clear()
        runtime.activate(0, zoo.load(runtime, "dense", zoo.adapter("dense")))
        _, got = runtime.logits((0, tokens, 0), (1, other, 0))
    assert np.array_equal(got, want)


@pytest.mark.parametrize("n_threads", [1, 3])
@pytest.mark.parametrize("n_adapted", [1, 5])
@pytest.mark.parametrize("n_beside", [0, 1, 40, 100])
def test_adapted_tokens_have_ours_whatever_is_beside_them(zoo, monkeypatch, n_beside, n_adapted, n_threads):
    results = {}
    file = write_adapter(zoo.path(), "llama", zoo.adapter("dense"))
    for way, n in ("fused", 0), ("fused", n_beside), ("ops", n_beside):
        monkeypatch.setenv("ALORA_GRAPH", way)
        with Runtime(zoo.base("dense"), flash=Types.F16) as runtime:
            llama_cpp.llama_set_n_threads(runtime.ctx, n_threads, n_threads)
            assert runtime.decode((0, prompt(0, 200), 0), outputs="none") == 0
            llama_cpp.llama_memory_seq_cp(runtime.memory, 0, 1, 0, 200)
            runtime.activate(1, runtime.load(file), 200)
            results[way, n] = runtime.logits((1, prompt(1, n_adapted), 200), *[(2, prompt(2, n), 0)] * bool(n))[0]
    assert relative_error(results["fused", n_beside], results["fused", 0]) < 1e-5
    if n_beside + n_adapted < 64:  # ggml's has tiles from there on, in float32
        assert relative_error(results["fused", n_beside], results["ops", n_beside]) > 1e-4


MANY = """
import sys
import numpy as np
from gguf import GGMLQuantizationType as Types
from native_runtime import Runtime, prompt

rows, length = [], 0
with Runtime(sys.argv[1], n_ctx=2048, flash=Types.F16) as runtime:
    for n in (70, 1, 5, 7, 1):  # of each of twelve conversations: below a tile, and more
        rows += runtime.logits(*[(seq, prompt(20*n + seq, n), length) for seq in range(12)], outputs="last")
        length += n
    rows += runtime.logits((3, prompt(1, 90), length), outputs="last")
    rows += runtime.logits((3, prompt(2, 1), length + 90))
np.save(sys.argv[2], np.concatenate(rows))
"""


def test_masked_cells_are_passed_by_as_in_the_unpatched_library(zoo, unpatched_lib, tmp_path):
    """Of many conversations in one cache: the unpatched library's logits, bit for bit."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    for name, env in ("patched", {}), ("unpatched", {"LLAMA_CPP_LIB_PATH": str(unpatched_lib), "ALORA_TEST_UNPATCHED": "1"}):
        done = subprocess.run(
            [sys.executable, "-c", MANY, zoo.base("dense"), tmp_path / f"{name}.npy"],
            capture_output=True,
            text=True,
            env={**os.environ, **env, "PYTHONPATH": path},
        )
        assert done.returncode == 0, done.stderr[-2000:]
    got, want = (np.load(tmp_path / f"{name}.npy") for name in ("patched", "unpatched"))
    assert np.isfinite(want).all() and np.array_equal(got, want)


MIB = 1 << 20
LAYOUTS = {"32/8 heads": (32, 8, 128, 128), "128/1 heads": (128, 1, 576, 512)}  # heads, heads of the cache, values of a key and of a value


@pytest.fixture(scope="module")
def attention_memory(pristine, tmp_path_factory):
    """By layout, tokens behind 512 cells, and threads: the bytes that are allocated before the threads, and how often these allocate."""
    if sys.platform != "linux":
        pytest.skip("a library whose allocations a program can take over")
    lib, native, program = (
        Path(llama_cpp._lib._name).parent,
        Path(__file__).parents[2] / "native",
        tmp_path_factory.mktemp("memory") / "attention_memory",
    )
    built = subprocess.run(
        [
            "c++",
            "-std=c++17",
            "-O2",
            f"-I{native}",
            *(f"-I{pristine / part}" for part in ("src", "include", "ggml/include")),
            Path(__file__).parent / "attention_memory.cpp",
            "-o",
            program,
            f"-L{lib}",
            f"-Wl,-rpath,{lib},--allow-shlib-undefined",
            "-lllama",
            "-lggml-base",
            "-pthread",
        ],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr[-2000:]

    def get(layout: tuple[int, ...], n_tokens: int, threads: list[int]) -> dict[int, tuple[int, int]]:
        ran = subprocess.run([program, *map(str, (*layout, n_tokens, 512, *threads))], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr[-2000:]
        return {n: (n_bytes, n_in_threads) for n, n_bytes, n_in_threads in (map(int, line.split()) for line in ran.stdout.splitlines())}

    return get


@pytest.mark.parametrize("n_tokens", [1, 64, 512])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_scratch_is_bounded_and_made_before_the_threads(attention_memory, layout, n_tokens):
    """4 MiB a thread, and however many threads there are: what belongs to the tokens and not to a thread is there once."""
    got = attention_memory(LAYOUTS[layout], n_tokens, [1, 2, 8, 64])
    of_tokens = 4 * n_tokens * (512 + n_tokens) * 3  # which cells they see, some numbers for each
    for n_threads, (n_bytes, n_in_threads) in got.items():
        assert n_in_threads == 0
        assert n_bytes < 4 * MIB * n_threads + of_tokens
    assert got[64][0] - got[8][0] < 4 * MIB * (64 - 8)
    assert got[1][0] >= 4 * 48 * sum(LAYOUTS[layout][2:])  # it counts: 48 queries and their sums are in it
