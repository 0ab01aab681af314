"""Whatever is wrong with an adapter or a base: one line that names it, and no outfile."""

import struct

import numpy as np
import pytest

A = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
B = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight"


# -- the folder and its config ---------------------------------------------------------------------


def test_no_folder(tmp_path, refusal):
    assert "got nothing" in refusal(tmp_path / "missing")


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_missing_file(name, tiny, tmp_path, refusal):
    folder = tiny.write_adapter(tmp_path / "a")
    (folder / name).unlink()
    assert name in refusal(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "\x00\xff", "[" * 100_000, '{"r": 4}', '{"peft_type": "LORA", "r": 1' + "0" * 5000 + "}"])
def test_bad_json(text, tiny, tmp_path, refusal):
    folder = tiny.write_adapter(tmp_path / "a")
    (folder / "adapter_config.json").write_bytes(text.encode("latin-1"))
    assert "adapter_config.json" in refusal(folder)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("r", 0),
        ("r", "8"),
        ("r", True),
        ("r", 2**40),
        ("r", [8]),
        ("lora_alpha", "16"),
        ("lora_alpha", float("nan")),
        ("lora_alpha", 1e300),
        ("use_rslora", "yes"),
        ("rank_pattern", {"q_proj": 0}),
        ("rank_pattern", {"(": 4}),
        ("rank_pattern", []),
        ("alpha_pattern", {"q_proj": None}),
        ("target_modules", {"q_proj": 1}),
        ("target_modules", "("),
        ("target_modules", [1]),
        ("layers_to_transform", "0"),
        ("layers_pattern", ["("]),
        ("base_model_name_or_path", 5),
        ("alora_invocation_tokens", []),
        ("alora_invocation_tokens", [-1]),
        ("alora_invocation_tokens", [1.5]),
        ("alora_invocation_tokens", ["a"]),
        ("alora_invocation_tokens", "text"),
        ("alora_invocation_tokens", [True]),
    ],
)
def test_bad_value(option, value, tiny, tmp_path, refusal):
    assert f"option {option}:" in refusal(tiny.write_adapter(tmp_path / "a", **{option: value}))


def test_invocation_token_beyond_the_vocabulary(tiny, tmp_path, refusal):
    line = refusal(tiny.write_adapter(tmp_path / "a", alora_invocation_tokens=[1, tiny.N_VOCAB]))
    assert f"ids below {tiny.N_VOCAB}" in line and f"got {tiny.N_VOCAB}" in line


def test_a_hostile_name_stays_on_one_line(tiny, tmp_path, refusal):
    line = refusal(tiny.write_adapter(tmp_path / "a", **{"x\n\x1b[2J\u202e": 1}))
    assert "\x1b" not in line and "\u202e" not in line


# -- safetensors ------------------------------------------------------------------------------------


def test_truncated_at_every_boundary(tiny, tmp_path, refusal):
    folder = tiny.write_adapter(tmp_path / "a")
    file = folder / "adapter_model.safetensors"
    raw = file.read_bytes()
    for n in (0, 1, 7, 8, 9, 100, len(raw) // 2, len(raw) - 1):
        file.write_bytes(raw[:n])
        assert "adapter_model.safetensors" in refusal(folder)
    file.write_bytes(raw + b"\0")
    assert str(len(raw) + 1) in refusal(folder)


@pytest.mark.parametrize(
    "header",
    [
        {A: {"data_offsets": [0, 2**62]}},
        {A: {"data_offsets": [8, 1032]}},
        {A: {"data_offsets": [-4, 1020]}},
        {A: {"data_offsets": [1024, 0]}},
        {A: {"data_offsets": [0]}},
        {A: {"data_offsets": "0"}},
        {A: {"data_offsets": [0, 1e3]}},
        {A: {"shape": [4, 65]}},
        {A: {"shape": [2**62, 2**62]}},
        {A: {"shape": [-4, -64]}},
        {A: {"shape": 256}},
        {A: {"shape": [True, 256]}},
        {A: {"dtype": "F64"}},
        {A: {"dtype": "Q4"}},
        {A: {"dtype": None}},
        {A: {"dtype": ["F32"]}},
        {A: []},
        {A: None},
    ],
)
def test_header_that_lies(header, tiny, tmp_path, refusal):
    assert A in refusal(tiny.write_adapter(tmp_path / "a", header=header))


@pytest.mark.parametrize("header", [b"", b"[]", b"{", b'{"a": {}, "a": {}}', b"\xff\xff", b"[" * 100_000])
def test_header_that_is_no_json_object(header, tiny, tmp_path, refusal):
    folder = tiny.write_adapter(tmp_path / "a")
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    assert "header" in refusal(folder)


def test_header_length_beyond_the_file(tiny, tmp_path, refusal):
    folder = tiny.write_adapter(tmp_path / "a")
    (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", 2**63) + b"{}")
    assert str(2**63) in refusal(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_values_that_are_not_finite(value, dtype, tiny, tmp_path, refusal):
    tensors = tiny.adapter_tensors(dtype=dtype)
    tensors[B][3, 1] = value
    line = refusal(tiny.write_adapter(tmp_path / "a", tensors))
    assert B in line and "index 13" in line


def test_values_beyond_f16(tiny, tmp_path, refusal, base):
    from alora_gguf.convert import convert

    tensors = tiny.adapter_tensors()
    tensors[A][0, 0] = 70000
    folder = tiny.write_adapter(tmp_path / "a", tensors)
    assert "--outtype f32" in refusal(folder, outtype="f16")
    assert convert(folder, tmp_path / "ok.gguf", base=base, outtype="bf16").written


@pytest.mark.parametrize("alpha", [1e-30, 1e-44])
@pytest.mark.parametrize("b", [0.0, 1.0])
def test_fold_beyond_f32(alpha, b, tiny, tmp_path, refusal):
    tensors = tiny.adapter_tensors(modules=["self_attn.q_proj"])
    tensors[B][:] = b
    tensors[B][0, 0] = 1
    folder = tiny.write_adapter(tmp_path / "a", tensors, target_modules=["q_proj"], lora_alpha=alpha, alpha_pattern={"q_proj": 3e37})
    assert "q_proj" in refusal(folder, outtype="f32")


# -- tensors against config and base -----------------------------------------------------------------


def without(tensors, *names):
    return {name: values for name, values in tensors.items() if name not in names}


def renamed(tensors, old, new):
    return {name.replace(old, new): values for name, values in tensors.items()}


@pytest.mark.parametrize("name", [A, B])
def test_missing_half(name, tiny, tmp_path, refusal):
    line = refusal(tiny.write_adapter(tmp_path / "a", without(tiny.adapter_tensors(), name)))
    assert "layers.0.self_attn.q_proj" in line and "only" in line


def test_no_tensors(tiny, tmp_path, refusal):
    assert "got none" in refusal(tiny.write_adapter(tmp_path / "a", {}))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("base_model.model.model.embed_tokens.lora_embedding_A", "lora_embedding_A only"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", "use_dora"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_B.bias", "lora_bias"),
        ("base_model.model.model.layers.0.self_attn.q_proj.lora_RA", "NoRA"),
        ("base_model.model.lm_head.weight", "whole weight"),
        ("base_model.model.model.norm.modules_to_save.weight", "whole weight"),
        ("model.layers.0.self_attn.q_proj.lora_A.weight", "two"),  # it is there with the prefix too
        ("base_model.model.lm_head.base_layer.weight", "base_layer only"),
    ],
)
def test_tensor_that_is_no_pair(name, reason, tiny, tmp_path, refusal):
    tensors = tiny.adapter_tensors() | {name: np.zeros((4, 4), np.float32)}
    line = refusal(tiny.write_adapter(tmp_path / "a", tensors))
    assert reason in line


@pytest.mark.parametrize(("name", "shape"), [(A, (4, 63)), (B, (65, 4)), (A, (5, 64)), (B, (64, 5)), (A, (256,)), (A, (4, 64, 1)), (B, (0, 4))])
def test_shape(name, shape, tiny, tmp_path, refusal):
    tensors = tiny.adapter_tensors() | {name: np.zeros(shape, np.float32)}
    assert "layers.0.self_attn.q_proj" in refusal(tiny.write_adapter(tmp_path / "a", tensors))


def test_rank_of_another_config(tiny, tmp_path, refusal):
    assert "rank 8 as adapter_config.json says" in refusal(tiny.write_adapter(tmp_path / "a", r=8))


def test_modules_that_the_config_does_not_target(tiny, tmp_path, refusal):
    assert "targets" in refusal(tiny.write_adapter(tmp_path / "a", target_modules=["q_proj", "v_proj"]))
    assert "targets" in refusal(tiny.write_adapter(tmp_path / "b", exclude_modules=["mlp.up_proj"]))
    assert "layers.1" in refusal(tiny.write_adapter(tmp_path / "c", layers_to_transform=0))


@pytest.mark.parametrize("targets", [["q_proj", "v_proj"], r".*\.self_attn\.(q|v)_proj", "all-linear"])
def test_a_module_that_the_base_has_and_the_file_does_not(targets, tiny, tmp_path, refusal):
    tensors = tiny.adapter_tensors(modules=["self_attn.q_proj"])
    line = refusal(tiny.write_adapter(tmp_path / "a", tensors, target_modules=targets))
    assert "module model.layers.0.self_attn." in line and "expected its tensors" in line


@pytest.mark.parametrize("targets", [["q_proj"], r".*\.self_attn\.q_proj"])
def test_a_layer_that_the_base_has_and_the_file_does_not(targets, tiny, tmp_path, refusal):
    tensors = {name: values for name, values in tiny.adapter_tensors(modules=["self_attn.q_proj"]).items() if ".layers.1." not in name}
    assert "module model.layers.1.self_attn.q_proj" in refusal(tiny.write_adapter(tmp_path / "a", tensors, target_modules=targets))


@pytest.mark.parametrize("new", ["layers.7", "layers.x", "layers.-1", "blocks.0", "layers.00"])
def test_unknown_module(new, tiny, tmp_path, refusal):
    tensors = renamed(tiny.adapter_tensors(), "layers.0", new)
    assert new in refusal(tiny.write_adapter(tmp_path / "a", tensors))


def test_module_that_no_adapter_reaches(tiny, tmp_path, refusal):
    tensors = renamed(tiny.adapter_tensors(modules=["self_attn.q_proj"]), "self_attn.q_proj", "self_attn.rotary_emb")
    assert "rotary_emb" in refusal(tiny.write_adapter(tmp_path / "a", tensors, target_modules=["rotary_emb"]))


def test_output_head_of_a_resized_vocabulary(tiny, tmp_path, refusal):
    shapes = {"lora_A": (4, tiny.N_EMBD), "lora_B": (tiny.N_VOCAB, 4), "base_layer": (tiny.N_VOCAB + 8, tiny.N_EMBD)}
    tensors = {f"base_model.model.lm_head.{part}.weight": np.zeros(shape, np.float32) for part, shape in shapes.items()}
    assert "resized" in refusal(tiny.write_adapter(tmp_path / "a", tensors, target_modules=["lm_head"]))


# -- the base ------------------------------------------------------------------------------------------


def test_base_that_is_missing_or_no_gguf(tiny, tmp_path, refusal):
    folder = tiny.write_adapter(tmp_path / "a")
    (tmp_path / "text.gguf").write_text("not a model")
    (tmp_path / "empty.gguf").write_bytes(b"")
    (tmp_path / "nothing").mkdir()
    assert "missing.gguf" in refusal(folder, tmp_path / "missing.gguf")
    assert "magic" in refusal(folder, tmp_path / "text.gguf")
    assert "empty" in refusal(folder, tmp_path / "empty.gguf")
    assert "--base" in refusal(folder, tmp_path / "nothing")


def test_base_that_is_an_adapter(tiny, tmp_path, refusal, base):
    from alora_gguf.convert import convert

    folder = tiny.write_adapter(tmp_path / "a")
    convert(folder, tmp_path / "adapter.gguf", base=base)
    assert "name the base model" in refusal(folder, tmp_path / "adapter.gguf")


def test_unknown_architecture(tiny, tmp_path, refusal):
    base = tiny.write_base(tmp_path / "b.gguf", architecture="no-such")
    line = refusal(tiny.write_adapter(tmp_path / "a"), base)
    assert "general.architecture" in line and "got no-such" in line


def test_base_that_lacks_a_part(tiny, tmp_path, refusal):
    folder = tiny.write_adapter(tmp_path / "a")
    tiny.write_base(tmp_path / "base.gguf", split_max_tensors=10)
    first, second = sorted(tmp_path.glob("base-*.gguf"))[:2]
    assert "the first of" in refusal(folder, second)
    second.unlink()
    assert second.name in refusal(folder, first)


def test_no_base_named(tiny, tmp_path, refusal):
    assert "--base" in refusal(tiny.write_adapter(tmp_path / "a"), None)


@pytest.mark.parametrize("name", ["io.yaml", "README.md"])
@pytest.mark.parametrize("raw", [b"\xff\xfe", b"a\0b", "\u00e9".encode() * 600_000], ids=["no utf-8", "zero", "large"])
def test_text_beside_the_adapter_that_is_no_text(name, raw, tiny, tmp_path, refusal):
    folder = tiny.write_adapter(tmp_path / "a")
    (folder / name).write_bytes(raw)
    assert name in refusal(folder)


def test_outtype(tiny, tmp_path, refusal):
    assert "got q4_0" in refusal(tiny.write_adapter(tmp_path / "a"), outtype="q4_0")
