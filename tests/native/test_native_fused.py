"""The fused way on the CPU against plain ops, and both against models with the adapter merged in."""

import os
import platform
import subprocess
import sys

import gguf
import numpy as np
import pytest
from native_models import N_FF, TinyAdapter, TinyModel, finish, llama, random_adapter, write_adapter, write_model
from native_runtime import Refused, Runtime, llama_cpp, prompt, relative_error
from rpc_server import rpc_server

TOLERANCE = 2e-5
Types = gguf.GGMLQuantizationType

# The fused way computes in F32; ggml's products round the activations to the type of the weights.
ROUNDING = {Types.F32: 1e-5, Types.F16: 3e-3, Types.BF16: 3e-2, Types.Q8_0: 3e-2}
# one that the processor lacks is the generic one again
KERNELS = ["generic", "dotprod"] if platform.machine() in ("aarch64", "arm64") else ["generic", "avx2", "avx512"]


@pytest.fixture(params=["fused", "ops"])
def way(request, monkeypatch) -> str:
    monkeypatch.setenv("ALORA_GRAPH", request.param)
    return request.param


def differ(got: np.ndarray, want: np.ndarray, base: np.ndarray) -> float:
    """How far they are apart, as a part of what the adapter does."""
    return float(np.linalg.norm(got - want) / np.linalg.norm(want - base))


def mixed_batch(path, files, monkeypatch, way: str, kernel: str = "generic") -> list[np.ndarray]:
    """Logits with each adapter on a sequence of its own, all of them on another, none on the last."""
    monkeypatch.setenv("ALORA_GRAPH", way)
    monkeypatch.setenv("ALORA_KERNEL", kernel)
    with Runtime(path) as runtime:
        for i, file in enumerate(files):
            adapter = runtime.load(file)
            runtime.activate(i, adapter, 3 + i, 1.0 + i)
            runtime.activate(len(files), adapter, 4, 0.5)
        return runtime.logits(*((i, prompt(i, 10 + i), 0) for i in range(len(files) + 2)))


@pytest.mark.parametrize("kind", ["dense", "tied", "experts", "hybrid"])
@pytest.mark.parametrize("type", ROUNDING, ids=lambda t: t.name)
@pytest.mark.parametrize("kernel", KERNELS)
def test_both_ways_agree(zoo, kind, type, kernel, monkeypatch):
    files = [write_adapter(zoo.path(), zoo.model(kind).architecture, zoo.adapter(kind, seed, r=32), type) for seed in (1, 2)]
    fused = mixed_batch(zoo.base(kind), files, monkeypatch, "fused", kernel)
    ops = mixed_batch(zoo.base(kind), files, monkeypatch, "ops")
    with Runtime(zoo.base(kind)) as runtime:
        base = runtime.logits(*((i, prompt(i, 10 + i), 0) for i in range(len(files) + 2)))
    assert np.array_equal(fused[-1], base[-1]) and np.array_equal(ops[-1], base[-1])
    for got, want, without in zip(fused[:-1], ops, base):
        assert differ(got, want, without) < ROUNDING[type]


@pytest.mark.parametrize("r", [1, 2, 5, 8, 12, 16, 20, 40])
@pytest.mark.parametrize("kernel", KERNELS)
def test_any_rank(zoo, r, kernel, monkeypatch):
    adapter, tokens = zoo.adapter("dense", r=r), prompt(1, 70)
    monkeypatch.setenv("ALORA_KERNEL", kernel)
    with Runtime(zoo.base("dense")) as runtime:
        runtime.activate(0, zoo.load(runtime, "dense", adapter), 2)
        got = runtime.logits((0, tokens, 0))[0]
    assert relative_error(got, zoo.expected("dense", tokens, 2, (adapter, 1.0))) < TOLERANCE


@pytest.mark.parametrize("n_threads", [2, 3, 16])
def test_any_number_of_threads(zoo, n_threads):
    adapter, tokens = zoo.adapter("experts", r=12), prompt(1, 20)
    with Runtime(zoo.base("experts")) as runtime:
        llama_cpp.llama_set_n_threads(runtime.ctx, n_threads, n_threads)
        runtime.activate(0, zoo.load(runtime, "experts", adapter), 5)
        got = runtime.logits((0, tokens, 0))[0]
    assert relative_error(got, zoo.expected("experts", tokens, 5, (adapter, 1.0))) < TOLERANCE


# bias and magnitude


def with_vectors(seed: int, r: int = 8) -> tuple[TinyAdapter, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """An adapter of some linear weights of each kind, and a bias and a magnitude for most."""
    names = [f"blk.{i}.{name}.weight" for i in (0, 1) for name in ("attn_q", "attn_output", "ffn_up", "ffn_down")]
    adapter = random_adapter(llama(), seed, names, r=r)
    rng = np.random.default_rng(seed + 100)
    vector = lambda name, mean, std: rng.normal(mean, std, adapter.pairs[name][1].shape[0]).astype(np.float32)
    return adapter, {n: vector(n, 0, 0.1) for n in names[:6]}, {n: vector(n, 1, 0.2) for n in names[2:]}


def write_with_vectors(path, adapter: TinyAdapter, bias: dict, magnitude: dict, dtype=np.float32):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", adapter.alpha)
    tensors = {f"{n}.lora_{ab}": x for n, pair in adapter.pairs.items() for ab, x in zip("ab", pair)}
    tensors |= {f"{n}.lora_bias": x for n, x in bias.items()}
    for name, x in magnitude.items():
        writer.add_tensor(f"{name}.lora_magnitude", x.astype(dtype))
    finish(writer, tensors)
    return path


def merged_with_vectors(*uses: tuple) -> TinyModel:
    """The model with each (adapter, bias, magnitude) times its scale in its weights, each relative to the base's product."""
    model = llama()
    tensors = dict(model.tensors)
    for (adapter, bias, magnitude), scale in uses:
        for name in adapter.pairs:
            weight = model.tensors[name].astype(np.float64)
            g = magnitude.get(name, np.ones(len(weight)))[:, None].astype(np.float64)
            tensors[name] = tensors[name] + (g - 1) * weight + g * scale * adapter.delta(name)
            if name in bias:
                key = name.replace(".weight", ".bias")
                s = scale * adapter.alpha / adapter.pairs[name][0].shape[0]
                tensors[key] = tensors.get(key, 0) + s * bias[name]
    return model._replace(tensors={n: t.astype(np.float32) for n, t in tensors.items()})


@pytest.mark.parametrize("scales", [(1.0,), (0.5,), (1.0, 0.7, -1.0)])
def test_bias_and_magnitude_equal_the_merged_model(zoo, way, scales):
    adapters = [with_vectors(seed, r=4 + 4 * seed) for seed in range(len(scales))]
    tokens = prompt(1, 24)
    with Runtime(zoo.base("dense")) as runtime:
        base = runtime.logits((1, tokens, 0))[0]
        for adapter, scale in zip(adapters, scales):
            runtime.activate(0, runtime.load(write_with_vectors(zoo.path(), *adapter)), 0, scale)
        got, other = runtime.logits((0, tokens, 0), (2, tokens, 0))
    with Runtime(write_model(zoo.path(), merged_with_vectors(*zip(adapters, scales)))) as runtime:
        want = runtime.logits((0, tokens, 0))[0]
    assert relative_error(got, want) < TOLERANCE
    assert np.array_equal(other, base)


def test_vectors_that_do_not_fit_are_refused(zoo):
    adapter, bias, magnitude = with_vectors(1)
    name = next(iter(bias))
    bad = {
        "shape": ({name: np.ones(7, np.float32)}, {}, np.float32),
        "nan": ({name: np.full(64, np.nan, np.float32)}, {}, np.float32),
        "type": ({}, magnitude, np.float16),
        "no pair": ({"blk.0.attn_k.weight": np.ones(32, np.float32)}, {}, np.float32),
    }
    with Runtime(zoo.base("dense")) as runtime:
        for what, (b, m, dtype) in bad.items():
            with pytest.raises(Refused, match="expected"):
                runtime.load(write_with_vectors(zoo.path(), adapter, b, m, dtype))
                pytest.fail(what)


def test_vectors_of_experts_are_refused(zoo):
    adapter = zoo.adapter("experts", weights=["blk.0.ffn_up_exps.weight"])
    with Runtime(zoo.base("experts")) as runtime, pytest.raises(Refused, match="experts"):
        runtime.load(write_with_vectors(zoo.path(), adapter, {"blk.0.ffn_up_exps.weight": np.ones(N_FF, np.float32)}, {}))


# plain ops for few of many rows

FEW = [(60, {0: 55}), (40, {0: 38, 1: 30}), (50, {}), (12, {1: 0})]  # length, start of each adapter


def few_of_many(runtime, files, outputs: str = "all") -> list[np.ndarray]:
    runtime.clear()
    loaded = [runtime.load(file) for file in files]
    for seq, (_, starts) in enumerate(FEW):
        for i, start in starts.items():
            runtime.activate(seq, loaded[i], start, 1.0 + i)
    return runtime.logits(*((seq, prompt(seq, n), 0) for seq, (n, _) in enumerate(FEW)), outputs=outputs)


@pytest.mark.parametrize("kind", ["dense", "tied", "experts", "hybrid"])
@pytest.mark.parametrize("outputs", ["all", "last"])
def test_an_adapter_of_few_tokens_computes_their_rows(zoo, kind, outputs, monkeypatch):
    model = zoo.model(kind)
    files = [
        write_adapter(zoo.path(), model.architecture, zoo.adapter(kind, 1)),
        write_adapter(zoo.path(), model.architecture, zoo.adapter(kind, 2, r=7, weights=model.weights[2:8])),
    ]
    results = {}
    for way in ("fused", "ops"):
        monkeypatch.setenv("ALORA_GRAPH", way)
        with Runtime(zoo.base(kind)) as runtime:
            base = runtime.logits(*((seq, prompt(seq, n), 0) for seq, (n, _) in enumerate(FEW)), outputs=outputs)
            results[way] = few_of_many(runtime, files, outputs)
    for fused, ops, unadapted, (n, starts) in zip(results["fused"], results["ops"], base, FEW):
        assert relative_error(ops, fused) < TOLERANCE
        n_before = min(starts.values(), default=n) if outputs == "all" else len(ops) * (not starts)
        assert np.array_equal(ops[:n_before], unadapted[:n_before])


def test_few_of_many_rows_with_bias_and_magnitude(zoo, monkeypatch):
    adapter, bias, magnitude = with_vectors(1)
    for vectors in (bias, {}), (bias, magnitude):
        files = [write_with_vectors(zoo.path(), adapter, *vectors), write_adapter(zoo.path(), "llama", zoo.adapter("dense", 2))]
        results = []
        for way in ("fused", "ops"):
            monkeypatch.setenv("ALORA_GRAPH", way)
            with Runtime(zoo.base("dense")) as runtime:
                results.append(np.concatenate(few_of_many(runtime, files)))
        assert relative_error(*results) < TOLERANCE


def test_a_graph_of_plain_ops_serves_about_as_many_rows(zoo, monkeypatch):
    monkeypatch.setenv("ALORA_GRAPH", "ops")
    with Runtime(zoo.base("dense")) as runtime:
        adapter = zoo.load(runtime, "dense", zoo.adapter("dense"))

        def reused(n_active: int) -> bool:
            before = runtime.n_reused
            runtime.clear()
            runtime.activate(0, adapter, 64 - n_active)
            runtime.logits((0, prompt(1, 64), 0))
            return runtime.n_reused > before

        assert [reused(n) for n in (5, 8, 6, 9, 16, 40, 64)] == [False, True, True, False, True, False, True]


# one graph for all adapters


def test_adapters_take_turns_in_one_graph(zoo):
    """Different ranks and different targets, one after another and together: nothing is built again."""
    adapters = [zoo.adapter("dense", 1), zoo.adapter("dense", 2, r=7), zoo.adapter("dense", 3, weights=["blk.0.attn_q.weight"])]
    with Runtime(zoo.base("dense")) as runtime:
        loaded = [zoo.load(runtime, "dense", a) for a in adapters]
        for adapter in loaded:
            runtime.activate(0, adapter, 4)  # makes it known to the context
        runtime.logits((0, prompt(1, 4), 0))
        runtime.logits((0, [5], 4))
        before = runtime.n_reused
        for i in range(9):
            runtime.deactivate(0)
            runtime.activate(0, loaded[i % 3], 4)
            runtime.logits((0, [6 + i], 5 + i))
        assert runtime.n_reused == before + 9


def test_a_batch_without_adapters_is_the_bases_graph(zoo):
    adapter, tokens = zoo.adapter("dense"), prompt(2, 30)
    with Runtime(zoo.base("dense")) as runtime:
        before = runtime.logits((0, tokens, 0))[0]
        loaded = zoo.load(runtime, "dense", adapter)
        runtime.activate(0, loaded, 30)
        runtime.logits((0, tokens, 30))
        runtime.clear()
        runtime.activate(1, loaded, 0)
        assert np.array_equal(runtime.logits((0, tokens, 0))[0], before)


# two devices

SPLIT = """
import ctypes
import sys
import numpy as np
from alora_gguf.runtime.rpc import devices, relays_to
from native_runtime import Runtime, llama_cpp, prompt
base, endpoint, out, *files = sys.argv[1:]
params = llama_cpp.llama_model_default_params()
servers = devices(relays_to([endpoint]))
params.devices = ctypes.cast(servers, ctypes.c_void_p)
params.n_gpu_layers = {n_gpu_layers}
model = llama_cpp.llama_model_load_from_file(base.encode(), params)
with Runtime(base, model=model) as runtime:
    for i, file in enumerate(files):
        adapter = runtime.load(file)
        runtime.activate(i, adapter, 3 + i)
        runtime.activate(len(files), adapter, 4, 0.5)
    np.save(out, np.concatenate(runtime.logits(*((i, prompt(i, 40), 0) for i in range(len(files) + 2)))))
"""


@pytest.mark.parametrize("kind, n_gpu_layers", [("dense", 1), ("dense", 2), ("tied", 2), ("experts", 2), ("hybrid", 2)])
def test_layers_on_another_device_have_plain_ops_and_the_others_fused_ones(zoo, kind, n_gpu_layers, tmp_path):
    files = [write_adapter(zoo.path(), zoo.model(kind).architecture, zoo.adapter(kind, seed)) for seed in (1, 2)]
    results = []
    with rpc_server() as endpoint:
        for n in (n_gpu_layers, 0):
            out = tmp_path / f"{n}.npy"
            done = subprocess.run(
                [sys.executable, "-c", SPLIT.format(n_gpu_layers=n), str(zoo.base(kind)), endpoint, str(out), *map(str, files)],
                capture_output=True,
                check=False,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            )
            assert done.returncode == 0, done.stderr[-2000:]
            results.append(np.load(out))
    assert relative_error(*results) < TOLERANCE
