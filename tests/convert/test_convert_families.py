"""Every architecture: its weights against transformers' own, and the runtime's logits against PEFT's."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from alora_gguf import Model
from alora_gguf.convert import ConversionError, convert
from alora_gguf.convert.base.gguf_base import read_base
from alora_gguf.convert.lazy import Lazy
from alora_gguf.convert.mapping.architectures import FAMILIES
from alora_gguf.convert.mapping.place import place
from alora_gguf.convert.mapping.restore import restore
from alora_gguf.convert.mapping.unadapted import unadapted
from alora_gguf.convert.update import EMBEDDING, EXPERTS, LINEAR, ROWS, Update

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from family_parity import add_adapter, cases_of, compare  # noqa: E402
from reference import peft_logits, relative_error  # noqa: E402
from tiny_models import TINY_MODELS, make_model  # noqa: E402

# In docs/benchmarks/parity.md are all cases of all families; these are what can break on its own.
TESTED = [
    (name, case)
    for name in TINY_MODELS
    for case in cases_of(name)
    if case in ("alora, all scales", "experts", "all experts")
    or case == "embeddings"
    and name in ("llama", "qwen2", "gemma3", "granite", "gpt2")
    or case in ("lora", "bias", "dora")
    and name == "llama, q k v fused"
]


def tensor(values: np.ndarray, name: str = "tensor") -> Lazy:
    return Lazy(Path("adapter"), name, values.shape, "F32", lambda: values)


def identity(n: int, n_expert: int = 0) -> Lazy:
    eye = np.eye(n, dtype=np.float32)
    return tensor(np.broadcast_to(eye, (n_expert, n, n)) if n_expert else eye)


def updates_that_are_the_weights(model) -> list[Update]:
    """An update of every module that takes one, whose B A is the module's own weight."""
    updates = []
    for name, module in model.named_modules():
        kind = type(module).__name__
        for key, parameter in module.named_parameters(recurse=False):
            weight = parameter.detach().numpy()
            if isinstance(module, torch.nn.Embedding):
                if "wpe" not in name:
                    updates.append(Update(name, EMBEDDING, tensor(weight.T.copy()), identity(weight.shape[1]), 1.0))
            elif weight.ndim == 3 and key in ("gate_up_proj", "down_proj"):
                weight = weight.swapaxes(1, 2) if getattr(module, "is_transposed", False) else weight
                updates.append(Update(f"{name}.{key}", EXPERTS, identity(weight.shape[2], weight.shape[0]), tensor(weight), 1.0))
            elif weight.ndim == 2 and key == "weight" and not name.endswith("dt_proj"):  # an adapter of it does nothing in PEFT
                weight = weight.T if kind == "Conv1D" else weight
                updates.append(Update(name, LINEAR, identity(weight.shape[1]), tensor(weight), 1.0))
    return updates


def weights_of(gguf_path: Path) -> dict[str, np.ndarray]:
    import gguf

    return {t.name: t.data for t in gguf.GGUFReader(gguf_path).tensors}


def product(update) -> np.ndarray:
    if getattr(update, "role", None) == ROWS:
        return update.a.read() @ update.b.read().T * update.scaling
    return update.b.read() @ update.a.read() * update.scaling


def test_the_table_has_no_family_that_is_not_proved(models):
    assert {read_base(path).architecture for path in models.values()} == FAMILIES.keys()


@pytest.mark.parametrize("name", TINY_MODELS)
def test_every_weight_is_placed_where_upstream_put_it_and_back(name, models):
    base, weights = read_base(models[name]), weights_of(models[name])
    updates = []
    for update in updates_that_are_the_weights(make_model(name)):
        try:
            place([update], base)
            updates.append(update)
        except ConversionError as error:
            assert "which it multiplies elsewhere" in str(error) and unadapted(base.architecture)
    placed = place(updates, base)
    for update in placed:
        np.testing.assert_array_equal(product(update), weights[update.weight if update.weight in weights else "token_embd.weight"])

    refused = {f"blk.{layer}.{kind}.weight" for kind in unadapted(base.architecture) for layer in range(base.n_layer)} | {"output.weight"}
    others = ("ssm_conv1d.weight", "ssm_norm.weight", "position_embd.weight", "attn_k_b.weight", "attn_v_b.weight", "ssm_dt.weight")
    for weight, values in weights.items():
        if values.ndim > 1 and weight.endswith(".weight") and not weight.endswith(others):
            assert weight in {update.weight for update in placed} | refused

    # gate and up of a dense granitemoehybrid are those of a granite too
    names = {} if name == "granitemoehybrid, dense" else {update.module: update for update in updates}
    restored = restore(placed, base)
    assert not names or {update.module for update in restored} == names.keys()
    for update in restored:
        if update.module in names:
            assert update.kind == names[update.module].kind
            np.testing.assert_array_equal(product(update), product(names[update.module]))
    again = {update.weight: update for update in place(restored, base)}
    for update in placed:
        np.testing.assert_array_equal(product(again[update.weight]), product(update))


@pytest.mark.parametrize(("name", "case"), TESTED)
def test_logits_are_pefts(name, case, models, tmp_path):
    for outtype, errors in compare(name, case, models[name], tmp_path, ["f32", "f16"]).items():
        assert errors.base < 1e-3
        assert errors.change > 0.05, "the adapter does nothing"
        assert errors.adapted < errors.tolerance(outtype)


@pytest.mark.parametrize("name", [name for name, tiny in TINY_MODELS.items() if tiny.modules])
def test_attention_of_adapted_tokens_is_ggmls(name, models, tmp_path, monkeypatch):
    """Flash attention, where ours takes the place of ggml's if it knows what the family has: sinks, windows, soft caps."""
    add_adapter(make_model(name), name, "lora", []).save_pretrained(tmp_path)
    convert(tmp_path, tmp_path / "adapter.gguf", base=models[name], outtype="f32")
    tokens = np.random.default_rng(0).integers(260, 300, 70).tolist()
    rows = {}
    for way in "fused", "ops":
        monkeypatch.setenv("ALORA_GRAPH", way)
        with Model(models[name], n_ctx=512, n_threads=1, flash_attn=True) as model:
            model.load_adapter(tmp_path / "adapter.gguf")
            rows[way] = model.logits([(tokens[:n], "adapter") for n in (70, 3)])
    for ours, ggmls in zip(rows["fused"], rows["ops"]):
        assert relative_error(ours, ggmls) < 2e-2  # which rounds to f16


UNPATCHED = """
import json, sys
import numpy as np
import llama_cpp
f32 = llama_cpp.GGML_TYPE_F32
for job in json.load(sys.stdin):
    llama = llama_cpp.Llama(job["base"], lora_path=job["adapter"], n_ctx=64, n_threads=1, logits_all=True, type_k=f32, type_v=f32,
                            flash_attn=False, verbose=False)
    llama.eval(job["tokens"])
    np.save(job["out"], llama.scores[:len(job["tokens"])])
"""


def test_unpatched_llama_cpp_loads_and_applies_every_familys_adapter(models, tmp_path, unpatched_lib):
    tokens, jobs, expected = [260, 281, 299, 5, 264, 277], [], []
    for name in [name for name in TINY_MODELS if cases_of(name)]:
        folder = tmp_path / models[name].stem
        adapter = add_adapter(make_model(name), name, "experts" if TINY_MODELS[name].parameters else "lora", [])
        adapter.save_pretrained(folder)
        convert(folder, folder / "adapter.gguf", base=models[name], outtype="f32")
        jobs.append({"base": str(models[name]), "adapter": str(folder / "adapter.gguf"), "tokens": tokens, "out": str(folder / "logits.npy")})
        expected.append(peft_logits(adapter, tokens, "default"))
    done = subprocess.run(
        [sys.executable, "-c", UNPATCHED],
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        env={**os.environ, "LLAMA_CPP_LIB_PATH": str(unpatched_lib)},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    for job, logits in zip(jobs, expected):
        # 16-bit GELU tables make some bases differ by 5e-4 already
        assert relative_error(np.load(job["out"]), logits) < 1.5e-3, job["base"]


# -- what the models above do not have ------------------------------------------------------------


def random_update(module: str, n_in: int, n_out: int, r: int = 3, scaling: float = 2.0, seed: int = 0) -> Update:
    random = np.random.default_rng([seed, *module.encode()])
    a, b = random.normal(size=(r, n_in)), random.normal(size=(n_out, r))
    return Update(module, LINEAR, tensor(a.astype(np.float32)), tensor(b.astype(np.float32)), scaling)


def test_separate_projections_on_a_fused_base_keep_their_scales(models):
    base = read_base(models["phi3"])
    q = random_update("model.layers.1.self_attn.q_proj", 64, 64, r=2, scaling=0.5)
    v = random_update("model.layers.1.self_attn.v_proj", 64, 32, r=5, scaling=-4.0)
    up = random_update("model.layers.0.mlp.up_proj", 64, 96)
    by_weight = {update.weight: update for update in place([v, up, q], base)}
    expected = np.concatenate([product(q), np.zeros((32, 64)), product(v)])
    assert by_weight["blk.1.attn_qkv.weight"].rank == 7
    np.testing.assert_allclose(product(by_weight["blk.1.attn_qkv.weight"]), expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(product(by_weight["blk.0.ffn_up.weight"]), np.concatenate([np.zeros((96, 64)), product(up)]), rtol=1e-6)


def test_a_fused_adapter_on_a_base_of_parts_shares_lora_a(models):
    base = read_base(models["qwen2"])
    qkv = random_update("model.layers.0.self_attn.qkv_proj", 64, 128)
    with pytest.raises(ConversionError, match="no adapter of it"):  # transformers' qwen2 has no such module
        place([qkv], base)
    gate_up = random_update("model.layers.0.shared_mlp.input_linear", 64, 192)
    gate, up = place([gate_up], read_base(models["granitemoehybrid, dense"]))
    assert gate.a is up.a is gate_up.a
    np.testing.assert_array_equal(np.concatenate([product(gate), product(up)]), product(gate_up))


def test_experts_of_transformers_4_become_one_update(models):
    base = read_base(models["mixtral"])
    experts = {
        0: random_update("model.layers.0.block_sparse_moe.experts.0.w1", 64, 96, r=2, scaling=1.0),
        3: random_update("model.layers.0.block_sparse_moe.experts.3.w1", 64, 96, r=4, scaling=3.0),
    }
    (placed,) = place(list(experts.values()), base)
    assert (placed.weight, placed.a.shape, placed.b.shape) == ("blk.0.ffn_gate_exps.weight", (4, 4, 64), (4, 96, 4))
    got = product(placed)
    for i in range(4):
        np.testing.assert_allclose(got[i], product(experts[i]) if i in experts else np.zeros((96, 64)), rtol=1e-6, atol=1e-6)


def test_experts_with_rows_and_columns_swapped(models):
    """As older versions of PEFT trained them."""
    base = read_base(models["mixtral"])
    random = np.random.default_rng(0)
    a, b = random.normal(size=(4, 3, 96)).astype(np.float32), random.normal(size=(4, 64, 3)).astype(np.float32)
    down = Update("model.layers.1.mlp.experts.down_proj", EXPERTS, tensor(a), tensor(b), 1.0)
    swapped = replace(down, a=tensor(b.transpose(0, 2, 1)), b=tensor(a.transpose(0, 2, 1)))
    (expected,), (got,) = place([down], base), place([swapped], base)
    np.testing.assert_array_equal(product(got), product(expected))


@pytest.mark.parametrize(
    ("module", "weight"),
    [
        ("model.language_model.layers.1.self_attn.v_proj", "blk.1.attn_v.weight"),
        ("language_model.model.layers.1.self_attn.v_proj", "blk.1.attn_v.weight"),
        ("model.layers.1.self_attn.v_proj.weight", "blk.1.attn_v.weight"),
        ("language_model.lm_head", "output.weight"),
    ],
)
def test_names_of_other_wrappers(module, weight, models):
    (placed,) = place([random_update(module, 64, 320 if weight == "output.weight" else 32)], read_base(models["llama"]))
    assert placed.weight == weight


def test_bias_moves_with_the_rows(models):
    base = read_base(models["llama, q k v fused"])
    q, k = (random_update(f"model.layers.0.self_attn.{p}_proj", 64, n, scaling=s) for p, n, s in (("q", 64, 1.0), ("k", 32, 2.0)))
    k = replace(k, bias=tensor(np.arange(32, dtype=np.float32)))
    (fused,) = place([q, k], base)
    (alone,) = place([k], read_base(models["llama"]))
    assert fused.scaling == 2.0
    np.testing.assert_array_equal(fused.bias.read(), [0] * 64 + alone.bias.read().tolist() + [0] * 32)
    assert alone.bias.read()[:4].tolist() == [0, 8, 1, 9]  # heads of 16 rows


@pytest.mark.parametrize(
    ("updates", "says"),
    [
        (["model.layers.0.self_attn.rotary_emb"], "no adapter of it can be used on llama models"),
        (["model.layers.2.self_attn.q_proj"], "in layers 0 to 1"),
        (["model.layers.00.self_attn.q_proj"], "no adapter of it"),
        (["model.blocks.0.self_attn.q_proj"], "no adapter of it"),
        (["model.vision_tower.layers.0.self_attn.q_projection"], "no adapter of it"),
        (["model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.q_proj.weight"], "blk.0.attn_q.weight once"),
        (["model.layers.0.self_attn.o_proj.weight", "model.layers.0.self_attn.k_proj"], r"lora_A \[r, 64\] and lora_B \[32, r\]"),
        (["model.layers.0.mlp.experts.0.up_proj"], "no such tensor"),
    ],
)
def test_what_has_no_place_is_refused(updates, says, models):
    with pytest.raises(ConversionError, match=says) as caught:
        place([random_update(module, 64, 64) for module in updates], read_base(models["llama"]))
    assert "\n" not in str(caught.value)


def test_weights_outside_the_adapted_paths_are_refused(models):
    with pytest.raises(ConversionError, match="attn_kv_b, which it multiplies elsewhere"):
        place([random_update("model.layers.0.self_attn.kv_b_proj", 32, 128)], read_base(models["deepseek2"]))
