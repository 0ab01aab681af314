"""Targets that no tensor names: what PEFT accepts is a note, what was saved in part is refused."""

import pytest

from alora_gguf.convert import ConversionError, convert


def test_names_that_the_model_does_not_have_are_a_note(tiny, base, tmp_path):
    tensors = tiny.adapter_tensors()
    plain = tiny.write_adapter(tmp_path / "plain", tensors)
    more = [*(module.split(".")[1] for module in tiny.MODULES), "c_attn", "in_proj"]
    other = tiny.write_adapter(tmp_path / "other" / "plain", tensors, target_modules=more)
    assert convert(plain, tmp_path / "plain.gguf", base=base).notes == []
    notes = convert(other, tmp_path / "other.gguf", base=base).notes
    assert len(notes) == 2 and "target_modules, c_attn" in notes[0] and "target_modules, in_proj" in notes[1]
    assert (tmp_path / "plain.gguf").read_bytes() == (tmp_path / "other.gguf").read_bytes()


def test_names_of_a_module_without_any_tensor_beside_it_are_a_note(tiny, base, tmp_path):
    """The base's GGUF has an MLP, and its model may call it by other names: dense GraniteMoeHybrid's is in shared_mlp."""
    tensors = tiny.adapter_tensors(modules=["self_attn.q_proj"])
    [note] = convert(tiny.write_adapter(tmp_path / "a", tensors, target_modules=["q_proj", "up_proj"]), tmp_path / "out.gguf", base=base).notes
    assert "target_modules, up_proj" in note


@pytest.mark.torch
@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("granitemoehybrid", dict(target_modules=["q_proj", "in_proj"], layers_to_transform=[1])),
        ("granitemoehybrid, dense", dict(target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])),
        ("granite", dict(target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "qkv_proj", "dense"])),
        ("nemotron", dict(target_modules=["q_proj", "v_proj", "gate_proj", "up_proj", "down_proj"])),
        ("phi3", dict(target_modules=["q_proj", "k_proj", "qkv_proj", "o_proj", "gate_proj"])),
        ("mamba2", dict(target_modules=["in_proj", "x_proj"])),
    ],
)
def test_what_peft_saves_is_taken(family, options, models, tmp_path):
    """PEFT itself says which targets a model has: it takes a list with others in it."""
    peft = pytest.importorskip("peft")
    from tiny_models import make_model

    model = peft.get_peft_model(make_model(family), peft.LoraConfig(r=4, task_type="CAUSAL_LM", init_lora_weights=False, **options))
    model.save_pretrained(tmp_path / "adapter")
    saved = {name.rpartition(".lora_")[0].rpartition(".")[2] for name in peft.get_peft_model_state_dict(model)}
    notes = convert(tmp_path / "adapter", tmp_path / "out.gguf", base=models[family]).notes
    assert {target for target in options["target_modules"] if any(f"target_modules, {target}:" in note for note in notes)} == {
        *options["target_modules"]
    } - saved
    assert saved < {*options["target_modules"]}


@pytest.mark.torch
def test_peft_warns_of_what_is_refused(model, model_gguf, tiny, tmp_path):
    """A layer that the config targets, and the file does not have: PEFT loads that, and says that keys are missing."""
    peft = pytest.importorskip("peft")
    from safetensors.torch import load_file, save_file

    wrapped = peft.get_peft_model(model, peft.LoraConfig(r=4, task_type="CAUSAL_LM", target_modules=["q_proj"], init_lora_weights=False))
    wrapped.save_pretrained(tmp_path / "adapter")
    model = wrapped.unload()
    convert(tmp_path / "adapter", tmp_path / "out.gguf", base=model_gguf)
    file = tmp_path / "adapter" / "adapter_model.safetensors"
    save_file({name: value for name, value in load_file(file).items() if ".layers.1." not in name}, file, metadata={"format": "pt"})
    with pytest.raises(ConversionError, match=r"layers\.1\.self_attn\.q_proj: expected its tensors"):
        convert(tmp_path / "adapter", tmp_path / "out.gguf", base=model_gguf)
    with pytest.warns(UserWarning, match="missing adapter keys"):
        peft.PeftModel.from_pretrained(model, tmp_path / "adapter").unload()
