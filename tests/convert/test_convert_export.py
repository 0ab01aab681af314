"""alora export: what PEFT loads is what was converted, and converting it again gives the same file."""

import json
import os

import numpy as np
import pytest

from alora_gguf.convert import AdapterFile, AdapterMismatchError, ConversionError, convert, export
from alora_gguf.convert.peft.safetensors_file import SafetensorsFile

ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]
CONFIGS = {
    "plain": dict(r=8, lora_alpha=16, target_modules=ALL, alora_invocation_tokens=[262, 5]),
    "patterns": dict(
        r=4,
        lora_alpha=8,
        target_modules=ALL,
        rank_pattern={"k_proj": 7, "model.layers.0.mlp.gate_proj": 2},
        alpha_pattern={"q_proj": 3, r"layers\.1\.mlp\.up_proj": 40, "down_proj": 0},
        use_rslora=True,
    ),
    "some": dict(r=3, lora_alpha=5, target_modules=["q_proj"], layers_to_transform=[1]),
    "zero_alpha": dict(r=4, lora_alpha=0, target_modules=["q_proj"]),
    "bias": dict(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], lora_bias=True),
    "dora": dict(r=4, lora_alpha=8, target_modules=["q_proj", "down_proj"], use_dora=True),
    "embeddings": dict(r=4, lora_alpha=8, target_modules=["embed_tokens", "o_proj"]),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_peft_computes_the_same_with_it(name, adapted, model, model_gguf, tmp_path):
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    peft_model, folder = adapted(**CONFIGS[name])
    convert(folder, tmp_path / "out.gguf", base=model_gguf, outtype="f32")
    tokens = torch.tensor([[5, 9, 262, 5, 17, 33, 260]])
    with torch.no_grad():
        expected = peft_model(input_ids=tokens).logits
    peft_model.unload()
    export(tmp_path / "out.gguf", tmp_path / "back", model_gguf)
    back = peft.PeftModel.from_pretrained(model, tmp_path / "back")
    with torch.no_grad():
        got = back(input_ids=tokens).logits
    back.unload()
    assert (got - expected).abs().max() <= 3e-6 * expected.abs().max()


@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "dora"])
@pytest.mark.parametrize("outtype", ["f32", "auto"])
def test_there_and_back_is_exact(name, outtype, adapted, model_gguf, tmp_path):
    _, folder = adapted(**CONFIGS[name])
    (folder / "io.yaml").write_text("model: ~\n")
    (folder / "decisions.json").write_text('{"format": 1, "temperature": {"predicate": 0.9, "choice": 1.1, "score": 3}}')
    (folder / "README.md").write_text('---\nlicense: mit\ndescription: "does: things"\n---\n')
    convert(folder, tmp_path / "1.gguf", base=model_gguf, outtype=outtype)
    export(tmp_path / "1.gguf", tmp_path / "back", model_gguf)
    convert(tmp_path / "back", tmp_path / "2.gguf", base=model_gguf, outtype=outtype)
    first, second = AdapterFile(tmp_path / "1.gguf"), AdapterFile(tmp_path / "2.gguf")
    if first.metadata.alpha == second.metadata.alpha:
        assert (tmp_path / "1.gguf").read_bytes() == (tmp_path / "2.gguf").read_bytes()
    for one, two in zip(first.pairs, second.pairs, strict=True):
        np.testing.assert_array_equal(first.read(one.a), second.read(two.a))
        np.testing.assert_allclose(first.read(one.b) * one.scale, second.read(two.b) * two.scale, rtol=3e-7)


def test_f32_values_are_pefts_own(tiny, base, tmp_path):
    tensors = tiny.adapter_tensors()
    convert(tiny.write_adapter(tmp_path / "a", tensors), tmp_path / "out.gguf", base=base, outtype="f32")
    export(tmp_path / "out.gguf", tmp_path / "back", base)
    saved = SafetensorsFile(tmp_path / "back" / "adapter_model.safetensors").tensors()
    assert saved.keys() == tensors.keys()
    for name, lazy in saved.items():
        np.testing.assert_array_equal(lazy.read(), tensors[name])


@pytest.mark.parametrize(("outtype", "dtype"), [("f32", "F32"), ("f16", "F16"), ("bf16", "BF16"), ("q8_0", "F32")])
def test_types(outtype, dtype, tiny, base, tmp_path):
    folder = tiny.write_adapter(tmp_path / "a", tiny.adapter_tensors(r=32), r=32)
    convert(folder, tmp_path / "out.gguf", base=base, outtype=outtype)
    export(tmp_path / "out.gguf", tmp_path / "back", base)
    saved = SafetensorsFile(tmp_path / "back" / "adapter_model.safetensors").tensors()
    assert {lazy.dtype for lazy in saved.values()} == {dtype}
    file = AdapterFile(tmp_path / "out.gguf")
    pair = next(pair for pair in file.pairs if pair.weight == "blk.1.ffn_down.weight")
    np.testing.assert_array_equal(saved["base_model.model.model.layers.1.mlp.down_proj.lora_B.weight"].read(), file.read(pair.b))


def test_experts_go_back_to_their_parameters(tiny, base, tmp_path):
    """fold and wrapped as PEFT nests them: tests/convert/test_convert_peft_options.py has PEFT's own."""
    from alora_gguf.convert.peft.config import PeftConfig
    from alora_gguf.convert.peft.parameters import parameter_of, wrapped

    for names in (["experts.gate_up_proj", "experts.down_proj"], ["experts.down_proj"], ["0.experts.gate_up_proj", "1.experts.down_proj"]):
        config = PeftConfig("config", 4, 8, target_parameters=names)
        saved = {wrapped(name, names): name for name in names}
        assert {where: parameter_of(config, where, saved) for where in saved} == saved


@pytest.mark.parametrize("name", ["qwen3moe", "phi3", "gpt2", "granitemoehybrid"])
def test_peft_loads_it_on_every_kind_of_family(name, models, tmp_path):
    """Experts in one parameter, fused weights, Conv1D, Mamba."""
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    from tiny_models import TINY_MODELS, make_model

    tiny = TINY_MODELS[name]
    config = peft.LoraConfig(
        r=3, lora_alpha=5, target_modules=tiny.modules, target_parameters=tiny.parameters or None, task_type="CAUSAL_LM", init_lora_weights=False
    )
    adapter = peft.get_peft_model(make_model(name), config).eval()
    for key, parameter in adapter.named_parameters():
        if "lora_" in key:
            torch.nn.init.normal_(parameter, std=0.1)
    tokens = torch.tensor([[5, 9, 17, 33, 260, 3]])
    with torch.no_grad():
        expected, base = adapter(input_ids=tokens).logits, make_model(name)(input_ids=tokens).logits
    adapter.save_pretrained(tmp_path / "adapter")
    convert(tmp_path / "adapter", tmp_path / "out.gguf", base=models[name], outtype="f32")
    export(tmp_path / "out.gguf", tmp_path / "back", models[name])
    back = peft.PeftModel.from_pretrained(make_model(name), tmp_path / "back").eval()
    with torch.no_grad():
        got = back(input_ids=tokens).logits
    assert (got - expected).abs().max() <= 1e-6 * expected.abs().max() < (expected - base).abs().max()


# -- all or nothing ------------------------------------------------------------------------------------


@pytest.fixture
def converted(tiny, base, tmp_path):
    convert(tiny.write_adapter(tmp_path / "a"), tmp_path / "out.gguf", base=base)
    return tmp_path / "out.gguf"


def test_same_files_twice(converted, base, tmp_path):
    for name in "12":
        export(converted, tmp_path / name, base)
    for file in os.listdir(tmp_path / "1"):
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()


def test_an_empty_folder_is_taken_and_no_other(converted, base, tmp_path):
    (tmp_path / "empty").mkdir()
    export(converted, tmp_path / "empty", base)
    before = json.loads((tmp_path / "empty" / "adapter_config.json").read_text())
    (tmp_path / "file").write_text("")
    for taken in ("empty", "file"):
        with pytest.raises(ConversionError, match="folder: expected a new or empty one"):
            export(converted, tmp_path / taken, base)
    with pytest.raises(ConversionError, match="folder: expected"):
        export(converted, tmp_path / "missing" / "back", base)
    assert json.loads((tmp_path / "empty" / "adapter_config.json").read_text()) == before


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_nothing_is_left_of_half_an_export(error, converted, base, tmp_path, monkeypatch):
    monkeypatch.setitem(export.__globals__, "write_safetensors", lambda *args: (_ for _ in ()).throw(error))
    (tmp_path / "out").mkdir()
    with pytest.raises((KeyboardInterrupt, ConversionError)):
        export(converted, tmp_path / "out" / "back", base)
    assert os.listdir(tmp_path / "out") == []


def test_another_base(converted, tiny, tmp_path):
    other = tiny.write_base(tmp_path / "tied.gguf", tied=True)
    with pytest.raises(AdapterMismatchError, match="alora.base.fingerprint: expected"):
        export(converted, tmp_path / "back", other)
    assert not (tmp_path / "back").exists()
