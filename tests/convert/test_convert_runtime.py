"""The runtime computes PEFT's logits with every kind of tensor that an outfile can hold; alora verify sees it, and sees when not."""

import json
import shutil

import numpy as np
import pytest

from alora_gguf import cli
from alora_gguf.convert import ConversionError, convert
from alora_gguf.errors import AloraError
from alora_gguf.verify.parity import verify

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

CONFIGS = {
    "alora": dict(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "down_proj"], alora_invocation_tokens=[262, 5]),
    "alora_bias": dict(r=4, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "down_proj"], lora_bias=True, alora_invocation_tokens=[262, 5]),
    "bias": dict(r=4, lora_alpha=6, target_modules=["k_proj", "up_proj"], lora_bias=True),
    "dora": dict(r=4, lora_alpha=6, target_modules=["q_proj", "k_proj", "o_proj", "down_proj"], use_dora=True),
    "embeddings": dict(r=4, lora_alpha=6, target_modules=["embed_tokens", "o_proj"]),
    "dora_embeddings": dict(r=4, lora_alpha=6, target_modules=["embed_tokens", "o_proj"], use_dora=True),
    "output_head": dict(r=4, lora_alpha=6, target_modules=["lm_head"]),
}


@pytest.fixture(scope="module")
def hf_base(model, tmp_path_factory):
    """The random llama as transformers saves it."""
    folder = tmp_path_factory.mktemp("hf")
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", CONFIGS)
def test_peft_and_the_runtime_agree(name, adapted, model_gguf, hf_base, tmp_path):
    _, folder = adapted(**CONFIGS[name])
    convert(folder, tmp_path / "out.gguf", base=model_gguf, outtype="f32")
    done = verify(folder, tmp_path / "out.gguf", model_gguf, hf_base=hf_base)
    assert done.passed and done.tolerance == 2e-5 and done.limit == 2e-5
    assert any(prompt.start is not None for prompt in done.prompts)
    for prompt in done.prompts:
        assert (prompt.effect == 0) if prompt.start is None else (prompt.effect > 1000 * prompt.error)


def active_from(start: int):
    """A hook on PEFT's layers: before `start` the base layer's result."""

    def hook(module, args, output):
        output = output.clone()
        output[:, :start] = module.get_base_layer()(args[0])[:, :start]
        return output

    return hook


@pytest.mark.parametrize("name", ["bias", "dora", "dora_embeddings"])
def test_an_invocation_that_peft_does_not_know(name, adapted, model_gguf, tmp_path):
    """--invocation on a plain LoRA: the base before the start, PEFT's layers from there on."""
    from alora_gguf import Model

    peft_model, folder = adapted(**CONFIGS[name])
    convert(folder, tmp_path / "out.gguf", base=model_gguf, outtype="f32", invocation=[262, 5])
    tokens, start = [7, 8, 9, 30, 262, 5, 17, 33, 260], 4
    hooks = [m.register_forward_hook(active_from(start)) for m in peft_model.modules() if isinstance(m, peft.tuners.lora.LoraLayer)]
    with torch.no_grad():
        expected = peft_model(input_ids=torch.tensor([tokens])).logits[0].numpy()
    for hook in hooks:
        hook.remove()
    with Model(model_gguf, n_ctx=64, type_k="f32", type_v="f32", flash_attn=False) as model:
        model.load_adapter(tmp_path / "out.gguf", name="a")
        (got,), (base,) = model.logits([(tokens, "a")]), model.logits([(tokens, None)])
    np.testing.assert_array_equal(got[:start], base[:start])
    assert np.abs(got - base)[start:].max() > 0.01
    assert (np.linalg.norm(got - expected, axis=1) / np.linalg.norm(expected, axis=1)).max() < 2e-5


def test_the_command(adapted, model_gguf, hf_base, tmp_path, capsys):
    _, folder = adapted(**CONFIGS["alora"])
    convert(folder, tmp_path / "out.gguf", base=model_gguf)
    args = ["verify", str(folder), str(tmp_path / "out.gguf"), "--base", str(model_gguf), "--hf-base", str(hf_base)]
    assert cli.main(args) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["active", "from", "error", "base", "error", "effect"]
    assert "nowhere" in out and out.endswith("passed: at most 1.0e-03 is allowed\n")
    assert cli.main([*args, "--tolerance", "1e-9", "--json"]) == 1  # f16 is not that exact
    assert json.loads(capsys.readouterr().out)["passed"] is False


def test_a_wrong_file_fails(adapted, model_gguf, hf_base, tmp_path, capsys):
    _, folder = adapted(**CONFIGS["alora"])
    config = json.loads((folder / "adapter_config.json").read_text())
    shutil.copytree(folder, tmp_path / "other")
    (tmp_path / "other" / "adapter_config.json").write_text(json.dumps(config | {"lora_alpha": 17}))
    convert(tmp_path / "other", tmp_path / "out.gguf", base=model_gguf, outtype="f32")
    args = ["verify", str(folder), str(tmp_path / "out.gguf"), "--base", str(model_gguf), "--hf-base", str(hf_base)]
    assert cli.main(args) == 1
    assert "FAILED" in capsys.readouterr().out


def test_what_cannot_be_compared(adapted, model_gguf, hf_base, tmp_path):
    _, folder = adapted(**CONFIGS["alora"])
    convert(folder, tmp_path / "out.gguf", base=model_gguf, invocation=[9])
    with pytest.raises(ConversionError, match=r"expected alora_invocation_tokens \[9\].*got \[262, 5\]"):
        verify(folder, tmp_path / "out.gguf", model_gguf, hf_base=hf_base)
    with pytest.raises(AloraError, match="--hf-base"):
        verify(folder, tmp_path / "out.gguf", model_gguf, hf_base=tmp_path)
    with pytest.raises(AloraError):
        verify(tmp_path, tmp_path / "out.gguf", model_gguf)
