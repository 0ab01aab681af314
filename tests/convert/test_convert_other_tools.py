"""Files of other programs: read to the bytes that PEFT's own file gives, or refused with the reason."""

import json

import numpy as np
import pytest

from alora_gguf.convert import convert

PREFIX = "base_model.model."
LAYER = "model.layers.0."


def converted(folder, base, out) -> bytes:
    convert(folder, out, base=base)
    return out.read_bytes()


@pytest.fixture
def plain(tiny, base, tmp_path) -> bytes:
    return converted(tiny.write_adapter(tmp_path / "plain" / "same"), base, tmp_path / "plain.gguf")


def in_layers(wrapper):
    """Wraps every layer, and every projection in it."""
    return lambda name: ".".join(part + (f".{wrapper}" if part.isdecimal() or part.endswith("_proj") else "") for part in name.split("."))


LAYOUTS = {
    "peft's names in a model": lambda name: name.replace(".weight", ".default.weight"),
    "another name of the adapter": lambda name: name.replace(".weight", ".reward-2.weight"),
    "torch.compile": lambda name: f"_orig_mod.{name}",
    "torch.compile, inside": lambda name: name.replace(PREFIX, f"{PREFIX}_orig_mod."),
    "torch.compile, every layer": in_layers("_orig_mod"),
    "FSDP": lambda name: f"_fsdp_wrapped_module.{in_layers('_fsdp_wrapped_module')(name)}",
    "activation checkpoints": in_layers("_checkpoint_wrapped_module"),
    "FSDP and activation checkpoints": in_layers("_fsdp_wrapped_module._checkpoint_wrapped_module"),
    "DDP": lambda name: f"module.{name}",
    "DDP, inside": lambda name: name.replace(PREFIX, f"{PREFIX}module."),
    "DDP of torch.compile of a model": lambda name: f"module._orig_mod.{name.replace('.weight', '.default.weight')}",
    "Fabric": lambda name: f"_forward_module.{name}",
}


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("layout", [*LAYOUTS, "none"])
def test_names_of_wrappers(layout, prefix, plain, tiny, base, tmp_path):
    rename = LAYOUTS.get(layout, lambda name: name)
    tensors = {rename(name).replace(PREFIX, PREFIX if prefix else ""): values for name, values in tiny.adapter_tensors().items()}
    assert converted(tiny.write_adapter(tmp_path / "same", tensors), base, tmp_path / "out.gguf") == plain


@pytest.mark.parametrize("targets", [r"model\.layers\.\d+\.(self_attn|mlp)\.\w+_proj", "all-linear"])
def test_a_pattern_of_targets_is_matched_without_wrappers(targets, plain, tiny, base, tmp_path):
    tensors = {in_layers("_orig_mod")(name): values for name, values in tiny.adapter_tensors().items()}
    assert converted(tiny.write_adapter(tmp_path / "same", tensors, target_modules=targets), base, tmp_path / "out.gguf") == plain


@pytest.mark.torch
@pytest.mark.parametrize("dora", [False, True])
def test_the_state_dict_of_a_compiled_model_in_peft(dora, model, model_gguf, tmp_path):
    """torch's own wrapper, and the names that the state dict has."""
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    from safetensors.torch import save_file

    options = dict(r=4, task_type="CAUSAL_LM", target_modules=["q_proj", "down_proj"], use_dora=dora, init_lora_weights=False)
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**options))
    folder = tmp_path / "same"
    wrapped.save_pretrained(folder)
    expected = converted(folder, model_gguf, tmp_path / "plain.gguf")
    state = {name: value.clone() for name, value in torch.compile(wrapped).state_dict().items() if "lora_" in name}
    assert all(name.startswith("_orig_mod.") and ".default" in name for name in state)
    save_file(state, folder / "adapter_model.safetensors")
    wrapped.unload()
    assert converted(folder, model_gguf, tmp_path / "out.gguf") == expected


def test_two_adapters_in_one_file(tiny, tmp_path, refusal):
    both = {name.replace(".weight", f".{which}.weight"): v for which in ("policy", "value") for name, v in tiny.adapter_tensors().items()}
    assert "expected one adapter, got tensors of policy, value" in refusal(tiny.write_adapter(tmp_path / "a", both))


def test_a_tensor_under_two_names(tiny, tmp_path, refusal):
    tensors = tiny.adapter_tensors()
    name = f"{PREFIX}{LAYER}self_attn.q_proj.lora_A.weight"
    assert "got two" in refusal(tiny.write_adapter(tmp_path / "a", tensors | {f"_orig_mod.{name}": tensors[name]}))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("_fsdp_wrapped_module._flat_param", "FULL_STATE_DICT"),
        ("lora_unet_down_blocks_0_attentions_0.lora_down.weight", "image models"),
        ("model.layers.0.self_attn.q_proj.lora_a", "MLX"),
        ("decoder.layers.0.self_attention.linear_qkv.adapter.linear_in.weight", "NeMo"),
        (f"{PREFIX}{LAYER}self_attn.q_proj.hada_w1_a", "another method"),
        (f"{PREFIX}{LAYER}mlp.up_proj.base_layer.weight.absmax", "quantised base"),
        (f"{PREFIX}{LAYER}self_attn.q_proj.lora_C.weight", "newer alora_gguf"),
        (f"{PREFIX}model.norm.modules_to_save.default.weight", "whole weight"),
        ("lm_head.weight", "whole weight"),
    ],
)
def test_what_is_not_read_says_whose_it_is(name, reason, tiny, tmp_path, refusal):
    line = refusal(tiny.write_adapter(tmp_path / "a", tiny.adapter_tensors() | {name: np.ones((4, 4), np.float32)}))
    assert reason in line and name in line


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: {}, "none"),
        (lambda tensors: {name: v.reshape(-1)[:0] for name, v in tensors.items()}, "28 of 28 without values"),
        (lambda tensors: {name: v.reshape(-1)[:0] if ".layers.0." in name else v for name, v in tensors.items()}, "14 of 28 without values"),
        (lambda tensors: {name: v.reshape(-1)[:5] for name, v in tensors.items()}, "28 flat tensors"),
    ],
)
def test_shards_that_were_not_gathered(change, reason, tiny, tmp_path, refusal):
    line = refusal(tiny.write_adapter(tmp_path / "a", change(tiny.adapter_tensors())))
    assert f"got {reason}" in line and "ZeRO-3" in line and "zero_to_fp32.py" in line


# -- MLX ---------------------------------------------------------------------------------------------


def write_mlx(folder, tiny, tensors=None, *, scale=2.0, fields=(), parameters=()):
    """What mlx_lm.lora writes: matrices transposed, one factor and no alpha."""
    folder.mkdir(parents=True)
    if tensors is None:
        tensors = tiny.adapter_tensors()
    names = {".lora_A.weight": ".lora_a", ".lora_B.weight": ".lora_b"}
    mlx = {}
    for name, values in tensors.items():
        ending = next((ending for ending in names if name.endswith(ending)), "")
        mlx[name.removeprefix(PREFIX).removesuffix(ending) + names.get(ending, "")] = np.ascontiguousarray(values.T)
    (folder / "adapters.safetensors").write_bytes(tiny.safetensors_bytes(mlx))
    config = {
        "fine_tune_type": "lora",
        "model": "mlx-community/Tiny-4bit",
        "num_layers": 2,
        "train": True,
        "lora_parameters": {"rank": 4, "dropout": 0.0, "scale": scale, **dict(parameters)},
        **dict(fields),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_mlx(plain, tiny, base, tmp_path):
    """PEFT's plain one has rank 4 and alpha 8, a factor of 2."""
    assert converted(write_mlx(tmp_path / "same", tiny), base, tmp_path / "out.gguf") == plain


def test_mlx_of_the_last_layers_alone(tiny, base, tmp_path):
    tensors = {name: values for name, values in tiny.adapter_tensors(modules=["self_attn.q_proj"]).items() if ".layers.1." in name}
    done = convert(write_mlx(tmp_path / "same", tiny, tensors), tmp_path / "out.gguf", base=base)
    assert (done.n_pairs, done.notes) == (1, [])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (dict(fields={"fine_tune_type": "dora"}), "got dora"),
        (dict(fields={"fine_tune_type": "full"}), "got full"),
        (dict(fields={"lora_parameters": None}), "lora_parameters"),
        (dict(parameters={"alpha": 16.0}), "alpha / rank"),
        (dict(scale="20"), "scale"),
        (dict(scale=None), "scale"),
        (dict(tensors={}), "got none"),
        (dict(tensors={f"{PREFIX}{LAYER}self_attn.q_proj.m": np.ones(64, np.float32)}), "DoRA"),
        (dict(tensors={f"{PREFIX}{LAYER}self_attn.q_proj.lora_A.weight": np.ones((4, 64), np.float32)}), "[64, 4] and none"),
        (dict(tensors={f"{PREFIX}{LAYER}mlp.switch_mlp.up_proj.lora_A.weight": np.ones((4, 4, 4), np.float32)}), "[4, 4, 4] and none"),
    ],
)
def test_mlx_that_cannot_be_read(change, reason, tiny, tmp_path, refusal):
    assert reason in refusal(write_mlx(tmp_path / "a", tiny, **change))


def test_mlx_without_its_tensors(tiny, tmp_path, refusal):
    folder = write_mlx(tmp_path / "a", tiny)
    (folder / "adapters.safetensors").unlink()
    assert "adapters.safetensors" in refusal(folder)


def test_mlx_wherever_an_adapter_is_taken(plain, tiny, base, tmp_path, monkeypatch):
    """What is kept of a conversion is another's as soon as the tensors are others."""
    from alora_gguf.hub import converted as kept

    monkeypatch.setattr(kept, "cache_folder", lambda: tmp_path / "cache")
    folder = write_mlx(tmp_path / "same", tiny)
    first = kept.as_gguf(folder, base)
    tensors = {name: values + 1 for name, values in tiny.adapter_tensors().items()}
    other = kept.as_gguf(write_mlx(tmp_path / "other" / "same", tiny, tensors), base)
    assert first != other and first.read_bytes() == plain != other.read_bytes()
