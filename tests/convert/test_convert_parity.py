"""The converted tensors are PEFT's, and unpatched llama.cpp computes PEFT's logits with them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from alora_gguf.convert import AdapterFile, convert

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

ALL_LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
CONFIGS = {
    "plain": dict(r=8, lora_alpha=16, target_modules=ALL_LINEAR),
    "attention": dict(r=3, lora_alpha=5, target_modules=["q_proj", "k_proj", "v_proj"]),
    "rslora": dict(r=8, lora_alpha=12, use_rslora=True, target_modules=ALL_LINEAR),
    "alpha_pattern": dict(r=4, lora_alpha=8, target_modules=ALL_LINEAR, alpha_pattern={"q_proj": 3, r"layers\.1\.mlp\.up_proj": 40, "down_proj": 0}),
    "rank_pattern": dict(r=4, lora_alpha=8, target_modules=ALL_LINEAR, rank_pattern={"k_proj": 7, "model.layers.0.mlp.gate_proj": 2}),
    "all_patterns": dict(
        r=4,
        lora_alpha=8,
        use_rslora=True,
        target_modules=ALL_LINEAR,
        rank_pattern={"self_attn.k_proj": 16},
        alpha_pattern={"^model.layers.0.self_attn.k_proj": 1, "up_proj": 2},
    ),
    "zero_alpha": dict(r=4, lora_alpha=0, target_modules=ALL_LINEAR, alpha_pattern={"v_proj": 6}),
    "layers": dict(r=4, lora_alpha=8, target_modules=ALL_LINEAR, layers_to_transform=[1], layers_pattern="layers"),
    "regex": dict(r=4, lora_alpha=8, target_modules=r".*\.mlp\.(gate|up)_proj", fan_in_fan_out=True),
    "output_head": dict(r=4, lora_alpha=8, target_modules=["lm_head", "o_proj"]),
}
EMBEDDINGS = {"embeddings": dict(r=4, lora_alpha=8, target_modules=["embed_tokens", "o_proj"])}


def by_weight(peft_model, tiny):
    """GGUF weight name -> (module, heads whose rows are permuted or 0)."""
    modules = {}
    for name, module in peft_model.base_model.model.named_modules():
        if not isinstance(module, peft.tuners.lora.LoraLayer):
            continue
        if name == "lm_head":
            modules["output.weight"] = (module, 0)
            continue
        _, _, layer, rest = name.split(".", 3)
        n_head = {"self_attn.q_proj": tiny.N_HEAD, "self_attn.k_proj": tiny.N_HEAD_KV}.get(rest, 0)
        modules[f"blk.{layer}.{tiny.WEIGHTS[rest]}.weight"] = (module, n_head)
    return modules


@pytest.mark.parametrize("name", CONFIGS)
def test_update_of_every_weight_is_pefts(name, adapted, model_gguf, tiny, tmp_path):
    peft_model, folder = adapted(**CONFIGS[name])
    convert(folder, tmp_path / "out.gguf", base=model_gguf, outtype="f32")
    adapter = AdapterFile(tmp_path / "out.gguf")
    modules = by_weight(peft_model, tiny)
    assert {pair.weight for pair in adapter.pairs} == modules.keys()
    for pair in adapter.pairs:
        module, n_head = modules[pair.weight]
        a, b = adapter.read(pair.a), adapter.read(pair.b)
        b = tiny.unpermute(b, n_head) if n_head else b
        expected_a, expected_b = (side["default"].weight.detach().numpy() for side in (module.lora_A, module.lora_B))
        np.testing.assert_array_equal(a, expected_a)
        fold = module.scaling["default"] / pair.scale
        np.testing.assert_array_equal(b, (expected_b * np.float64(fold)).astype(np.float32))
        expected = module.get_delta_weight("default").detach().numpy()
        update = (b.astype(np.float64) @ a) * pair.scale
        assert np.abs(update - expected).max() <= 2e-6 * max(np.abs(expected).max(), 1e-30)


@pytest.mark.parametrize(("outtype", "tolerance"), [("f16", 1e-3), ("bf16", 1e-2), ("q8_0", 3e-2)])
def test_update_in_fewer_bits_is_close(outtype, tolerance, adapted, model_gguf, tiny, tmp_path):
    peft_model, folder = adapted(r=32, lora_alpha=48, use_rslora=True, target_modules=ALL_LINEAR)
    convert(folder, tmp_path / "out.gguf", base=model_gguf, outtype=outtype)
    adapter = AdapterFile(tmp_path / "out.gguf")
    modules = by_weight(peft_model, tiny)
    for pair in adapter.pairs:
        assert {pair.a.type.name, pair.b.type.name} == {outtype}
        module, n_head = modules[pair.weight]
        b = adapter.read(pair.b)
        update = ((tiny.unpermute(b, n_head) if n_head else b) @ adapter.read(pair.a)) * pair.scale
        expected = module.get_delta_weight("default").detach().numpy()
        assert np.abs(update - expected).max() <= tolerance * np.abs(expected).max()


LOGITS = """
import json, sys
import numpy as np
import llama_cpp
base, adapter, tokens, out = sys.argv[1:]
tokens = json.loads(tokens)
f32 = llama_cpp.GGML_TYPE_F32
llama = llama_cpp.Llama(base, lora_path=adapter or None, n_ctx=64, n_threads=1, logits_all=True, type_k=f32, type_v=f32,
                        flash_attn=False, verbose=False)
llama.eval(tokens)
np.save(out, llama.scores[:len(tokens)])
if adapter:
    handle = llama._lora_adapter
    n = llama_cpp.llama_adapter_get_alora_n_invocation_tokens(handle)
    print(json.dumps(llama_cpp.llama_adapter_get_alora_invocation_tokens(handle)[:n] if n else []))
"""


@pytest.fixture
def unpatched(tmp_path):
    """Logits [n_tokens, n_vocab] of an unpatched libllama, and the invocation tokens that it read."""
    library = os.environ.get("ALORA_UNPATCHED_LIB")
    if not library:
        pytest.skip("ALORA_UNPATCHED_LIB names no folder with an unpatched libllama")

    def run(base, adapter, tokens):
        out = tmp_path / "logits.npy"
        done = subprocess.run(
            [sys.executable, "-c", LOGITS, str(base), str(adapter or ""), json.dumps(tokens), str(out)],
            env={**os.environ, "LLAMA_CPP_LIB_PATH": library},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return np.load(out), json.loads(done.stdout.splitlines()[-1]) if adapter else []

    return run


def relative_error(actual, expected):
    """The largest over rows of max |difference| / max |expected|."""
    return (np.abs(actual - expected).max(axis=1) / np.abs(expected).max(axis=1)).max()


@pytest.mark.parametrize("name", ["plain", "all_patterns", "zero_alpha", "output_head", "embeddings"])
def test_logits_of_unpatched_llama_cpp_are_pefts(name, adapted, model, model_gguf, tmp_path, unpatched):
    tokens = np.random.default_rng(2).integers(3, 300, 24).tolist()
    with torch.no_grad():
        base_logits = model(torch.tensor([tokens])).logits[0].numpy()
    peft_model, folder = adapted(**(CONFIGS | EMBEDDINGS)[name])
    convert(folder, tmp_path / "out.gguf", base=model_gguf, outtype="f32")
    with torch.no_grad():
        expected = peft_model(torch.tensor([tokens])).logits[0].numpy()
    assert relative_error(base_logits, expected) > 0.01, "the adapter does nothing"
    actual, _ = unpatched(model_gguf, tmp_path / "out.gguf", tokens)
    assert relative_error(actual, expected) < 2e-5


@pytest.mark.parametrize(("outtype", "tolerance"), [("f16", 1e-3), ("bf16", 1e-2), ("q8_0", 2e-2), ("auto", 2e-5)])
def test_unpatched_llama_cpp_takes_every_type(outtype, tolerance, adapted, model_gguf, tmp_path, unpatched):
    tokens = np.random.default_rng(2).integers(3, 300, 24).tolist()
    peft_model, folder = adapted(r=32, lora_alpha=16, target_modules=ALL_LINEAR)
    convert(folder, tmp_path / "out.gguf", base=model_gguf, outtype=outtype)
    with torch.no_grad():
        expected = peft_model(torch.tensor([tokens])).logits[0].numpy()
    actual, _ = unpatched(model_gguf, tmp_path / "out.gguf", tokens)
    assert relative_error(actual, expected) < tolerance


def test_unpatched_llama_cpp_adds_a_chain(adapted, model, model_gguf, tmp_path, unpatched):
    tokens = np.random.default_rng(2).integers(3, 300, 24).tolist()
    peft_model, folder = adapted(r=4, lora_alpha=8, target_modules=ALL_LINEAR)
    peft_model.add_adapter(
        "second",
        peft.LoraConfig(r=7, lora_alpha=5, use_rslora=True, target_modules=["q_proj", "up_proj"], init_lora_weights=False, task_type="CAUSAL_LM"),
    )
    peft_model.save_pretrained(tmp_path / "both", selected_adapters=["second"])
    convert([folder, tmp_path / "both" / "second"], tmp_path / "out.gguf", base=model_gguf, outtype="f32")
    peft_model.base_model.set_adapter(["default", "second"])
    with torch.no_grad():
        expected = peft_model(torch.tensor([tokens])).logits[0].numpy()
    actual, _ = unpatched(model_gguf, tmp_path / "out.gguf", tokens)
    assert relative_error(actual, expected) < 2e-5


LOADS = """
import sys
import llama_cpp.llama_cpp as lib
lib.llama_backend_init()
model = lib.llama_model_load_from_file(sys.argv[1].encode(), lib.llama_model_default_params())
print(bool(lib.llama_adapter_lora_init(model, sys.argv[2].encode())))
"""


@pytest.mark.parametrize(("option", "loads"), [({}, "True"), ({"use_dora": True}, "False"), ({"lora_bias": True}, "False")])
def test_unpatched_llama_cpp_refuses_what_it_cannot_apply(option, loads, adapted, model_gguf, tmp_path):
    """Rather than to apply a part of it."""
    library = os.environ.get("ALORA_UNPATCHED_LIB")
    if not library:
        pytest.skip("ALORA_UNPATCHED_LIB names no folder with an unpatched libllama")
    _, folder = adapted(r=4, lora_alpha=8, target_modules=["q_proj"], **option)
    convert(folder, tmp_path / "out.gguf", base=model_gguf)
    done = subprocess.run(
        [sys.executable, "-c", LOADS, str(model_gguf), str(tmp_path / "out.gguf")],
        check=True,
        env={**os.environ, "LLAMA_CPP_LIB_PATH": library},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.stdout == f"{loads}\n"


def test_unpatched_llama_cpp_reads_the_invocation(adapted, model_gguf, tmp_path, unpatched):
    _, folder = adapted(r=4, lora_alpha=8, target_modules=ALL_LINEAR, alora_invocation_tokens=[262, 5, 262])
    convert(folder, tmp_path / "out.gguf", base=model_gguf)
    _, tokens = unpatched(model_gguf, tmp_path / "out.gguf", [5, 6, 7])
    assert tokens == [262, 5, 262]
