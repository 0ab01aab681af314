"""Options beyond a pair of matrices: what the outfile holds is PEFT's own computation."""

import numpy as np
import pytest

from alora_gguf.convert import AdapterFile, convert, describe, render
from alora_gguf.convert.lazy import Lazy
from alora_gguf.convert.peft.parameters import fold, unfold

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

TARGETS = ["o_proj", "v_proj", "down_proj"]  # weights whose rows stay in order, so that nothing is left to undo
MODULES = {"attn_output": "self_attn.o_proj", "attn_v": "self_attn.v_proj", "ffn_down": "mlp.down_proj"}


def by_module(path, peft_model):
    """(reader, pair, PEFT's layer) of every module."""
    file, layers = AdapterFile(path), dict(peft_model.base_model.model.named_modules())
    for pair in file.pairs:
        _, layer, kind, _ = pair.weight.split(".")
        yield file, pair, layers[f"model.layers.{layer}.{MODULES[kind]}"]


@pytest.mark.parametrize("options", [{}, {"use_rslora": True}, {"alora_invocation_tokens": [5]}], ids=str)
def test_lora_bias(options, adapted, model_gguf, tmp_path):
    peft_model, folder = adapted(r=4, lora_alpha=6, target_modules=TARGETS, lora_bias=True, **options)
    convert(folder, tmp_path / "out.gguf", base=model_gguf, outtype="f32")
    x = np.random.default_rng(0).normal(size=96).astype(np.float32)
    for file, pair, layer in by_module(tmp_path / "out.gguf", peft_model):
        x_in = x[: pair.a.ne[0]]
        got = pair.scale * (file.read(pair.b).astype(np.float64) @ (file.read(pair.a) @ x_in) + file.read(pair.bias))
        with torch.no_grad():
            expected = layer.scaling["default"] * layer.lora_B["default"](layer.lora_A["default"](torch.tensor(x_in))).numpy()
        assert pair.bias.type.name == "f32"
        assert np.abs(got - expected).max() <= 2e-6 * np.abs(expected).max()


@pytest.mark.parametrize("options", [{}, {"use_rslora": True, "rank_pattern": {"v_proj": 7}}], ids=str)
def test_dora(options, adapted, model_gguf, model, tmp_path):
    """The factors times W + scaling B A are the weights that PEFT merges."""
    peft_model, folder = adapted(r=4, lora_alpha=6, target_modules=TARGETS, use_dora=True, **options)
    convert(folder, tmp_path / "out.gguf", base=model_gguf, outtype="f32")
    for file, pair, layer in by_module(tmp_path / "out.gguf", peft_model):
        weight = layer.get_base_layer().weight.detach().numpy()
        update = file.read(pair.b).astype(np.float64) @ file.read(pair.a) * pair.scale
        got = file.read(pair.magnitude)[:, None] * (weight + update)
        with torch.no_grad():
            layer.merge(safe_merge=True)
            expected = layer.get_base_layer().weight.numpy().copy()
            layer.unmerge()
        assert np.abs(got - expected).max() <= 5e-6 * np.abs(expected).max()


def test_dora_on_rows_that_are_permuted_and_in_pieces(adapted, model_gguf, tiny, tmp_path, monkeypatch):
    from alora_gguf.convert.mapping import dora

    peft_model, folder = adapted(r=4, lora_alpha=6, target_modules=["q_proj"], use_dora=True)
    convert(folder, tmp_path / "whole.gguf", base=model_gguf, outtype="f32")
    monkeypatch.setattr(dora, "CHUNK", 700)
    convert(folder, tmp_path / "chunks.gguf", base=model_gguf, outtype="f32")
    file, chunks = AdapterFile(tmp_path / "whole.gguf"), AdapterFile(tmp_path / "chunks.gguf")
    layers = dict(peft_model.base_model.model.named_modules())
    for pair, other in zip(file.pairs, chunks.pairs):
        layer = layers[f"model.layers.{pair.weight.split('.')[1]}.self_attn.q_proj"]
        with torch.no_grad():
            norm = torch.linalg.norm(layer.get_base_layer().weight + layer.get_delta_weight("default"), dim=1)
            expected = (layer.lora_magnitude_vector["default"].weight / norm).numpy()
        np.testing.assert_allclose(file.read(pair.magnitude), tiny.permute(expected[:, None], tiny.N_HEAD)[:, 0], rtol=2e-6)
        np.testing.assert_allclose(chunks.read(other.magnitude), file.read(pair.magnitude), rtol=1e-6)


def test_embeddings(adapted, model_gguf, tiny, tmp_path):
    peft_model, folder = adapted(r=4, lora_alpha=6, target_modules=["embed_tokens"])
    assert convert(folder, tmp_path / "out.gguf", base=model_gguf, outtype="f32").modules == ["token_embd"]
    file = AdapterFile(tmp_path / "out.gguf")
    (pair,) = file.pairs
    layer = peft_model.base_model.model.model.embed_tokens
    assert (pair.a.ne, pair.b.ne) == ((4, tiny.N_VOCAB), (4, tiny.N_EMBD))
    got = file.read(pair.a) @ file.read(pair.b).T * pair.scale
    np.testing.assert_allclose(got, layer.get_delta_weight("default").detach().numpy(), rtol=2e-5, atol=1e-6)


def test_dora_of_embeddings(adapted, model_gguf, tmp_path):
    peft_model, folder = adapted(r=4, lora_alpha=6, target_modules=["embed_tokens"], use_dora=True)
    convert(folder, tmp_path / "out.gguf", base=model_gguf, outtype="f32")
    file = AdapterFile(tmp_path / "out.gguf")
    (pair,) = file.pairs
    layer = peft_model.base_model.model.model.embed_tokens
    tokens = [3, 7, 299]
    with torch.no_grad():
        expected, base = layer(torch.tensor(tokens)).numpy(), layer.get_base_layer()(torch.tensor(tokens)).numpy()
    got = file.read(pair.magnitude) * (base + file.read(pair.a)[tokens] @ file.read(pair.b).T * pair.scale)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_dora_needs_the_bases_weights(adapted, model, tmp_path):
    from alora_gguf.convert import ConversionError

    _, folder = adapted(r=4, target_modules=TARGETS, use_dora=True)
    model.save_pretrained(tmp_path / "hf")
    with pytest.raises(ConversionError, match="for DoRA's norms, got none; name the base model's GGUF"):
        convert(folder, tmp_path / "out.gguf", base=tmp_path / "hf")


def test_they_are_shown(adapted, model_gguf, tmp_path):
    _, folder = adapted(r=4, target_modules=TARGETS, use_dora=True)
    convert(folder, tmp_path / "out.gguf", base=model_gguf)
    description = describe(tmp_path / "out.gguf")
    assert {tuple(m["vectors"]) for m in description["modules"]} == {("lora_magnitude",)}
    assert "attn_v + lora_magnitude" in render(description)
    assert description["n_tensors"] == len(description["tensors"]) == 3 * 2 * len(TARGETS)


# -- experts -----------------------------------------------------------------------------------------


class Experts(torch.nn.Module):
    """Two parameters of one module, as transformers 5 declares a layer's experts."""

    def __init__(self):
        super().__init__()
        self.gate_up_proj = torch.nn.Parameter(torch.randn(4, 24, 10))
        self.down_proj = torch.nn.Parameter(torch.randn(4, 10, 12))

    def forward(self, x):
        return x


class Layer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.experts = Experts()


@pytest.fixture(scope="module")
def experts():
    """(PEFT's wrappers by parameter, the saved tensors)."""
    config = peft.LoraConfig(
        r=3, lora_alpha=6, target_modules=[], init_lora_weights=False, target_parameters=["experts.gate_up_proj", "experts.down_proj"]
    )
    model = peft.get_peft_model(Layer(), config)
    outer = model.base_model.model.experts
    return {w.parameter_name: w for w in (outer, outer.base_layer)}, peft.get_peft_model_state_dict(model)


def as_lazy(tensor) -> Lazy:
    values = tensor.detach().numpy()
    return Lazy.saved("file", "name", values.shape, "F32", lambda: values)


@pytest.mark.parametrize("parameter", ["gate_up_proj", "down_proj"])
def test_experts_are_unfolded_as_peft_multiplies_them(parameter, experts):
    from alora_gguf.convert.peft.config import PeftConfig
    from alora_gguf.convert.peft.parameters import parameter_of

    wrappers, saved = experts
    modules = {name.removeprefix("base_model.model.").removesuffix(".lora_A.weight"): name for name in saved if "lora_A" in name}
    config = PeftConfig("config", 3, 6, target_parameters=["experts.gate_up_proj", "experts.down_proj"])
    (module,) = [m for m in modules if parameter_of(config, m, modules) == f"experts.{parameter}"]
    a = as_lazy(saved[modules[module]])
    b = as_lazy(saved[modules[module].replace("lora_A", "lora_B")])
    unfolded = unfold(a, b, 3)
    got = unfolded[1].read() @ unfolded[0].read() * config.scaling(f"experts.{parameter}")
    expected = wrappers[parameter].get_delta_weight("default").detach().numpy()
    assert got.shape == tuple(wrappers[parameter].get_param().shape)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    for before, after in zip((a, b), fold(*unfolded)):
        assert before.shape == after.shape
        np.testing.assert_array_equal(before.read(), after.read())


@pytest.mark.parametrize("parameters", [["experts.gate_up_proj"], ["experts.w1", "experts.w2"], ["a", "b", "c"]])
def test_wrappers_that_could_be_of_any_parameter_are_of_none(parameters):
    from alora_gguf.convert.peft.config import PeftConfig
    from alora_gguf.convert.peft.parameters import parameter_of

    names = ["x.experts", "x.experts.base_layer"]
    assert parameter_of(PeftConfig("config", 3, 6, target_parameters=parameters), names[0], names) is None
