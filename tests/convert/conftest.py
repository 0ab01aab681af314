"""A tiny llama, PEFT folders beside it, and transformers' models."""

from pathlib import Path

import pytest
from tiny_peft import (
    MODULES,
    N_EMBD,
    N_FF,
    N_HEAD,
    N_HEAD_KV,
    N_LAYER,
    N_VOCAB,
    WEIGHTS,
    adapter_tensors,
    permute,
    safetensors_bytes,
    unpermute,
    write_adapter,
    write_base,
)


class Tiny:
    """What a test needs of tiny_peft.py."""

    N_LAYER, N_EMBD, N_FF, N_HEAD, N_HEAD_KV, N_VOCAB = N_LAYER, N_EMBD, N_FF, N_HEAD, N_HEAD_KV, N_VOCAB
    MODULES, WEIGHTS = MODULES, WEIGHTS
    permute, unpermute = staticmethod(permute), staticmethod(unpermute)
    write_base, write_adapter = staticmethod(write_base), staticmethod(write_adapter)
    adapter_tensors, safetensors_bytes = staticmethod(adapter_tensors), staticmethod(safetensors_bytes)


@pytest.fixture(scope="session")
def tiny() -> type[Tiny]:
    return Tiny


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    return write_base(tmp_path_factory.mktemp("base") / "base.gguf")


@pytest.fixture(scope="session")
def model(tiny):
    """A random llama of transformers'."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=tiny.N_VOCAB,
        hidden_size=tiny.N_EMBD,
        intermediate_size=tiny.N_FF,
        num_hidden_layers=tiny.N_LAYER,
        num_attention_heads=tiny.N_HEAD,
        num_key_value_heads=tiny.N_HEAD_KV,
        max_position_embeddings=256,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )
    model = transformers.LlamaForCausalLM(config).eval()
    for parameter in model.parameters():  # the default 0.02 makes attention nearly uniform
        torch.nn.init.normal_(parameter, std=0.1)
    return model


@pytest.fixture(scope="session")
def model_gguf(model, tiny, tmp_path_factory) -> Path:
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    return tiny.write_base(tmp_path_factory.mktemp("model") / "model.gguf", weights)


@pytest.fixture(scope="session")
def models(tmp_path_factory) -> dict[str, Path]:
    """The GGUF of every tiny model of tests/tiny_models.py."""
    pytest.importorskip("torch")
    from tiny_models import TINY_MODELS, write_models

    return write_models(list(TINY_MODELS), tmp_path_factory.mktemp("families"))


@pytest.fixture
def adapted(model, tmp_path):
    """(PEFT model, its saved folder) for a LoraConfig's options, with random A and B."""
    torch, peft = pytest.importorskip("torch"), pytest.importorskip("peft")
    wrapped = []

    def make(**options):
        config = peft.LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **options)
        peft_model = peft.get_peft_model(model, config).eval()
        wrapped.append(peft_model)
        torch.manual_seed(1)
        for name, parameter in peft_model.named_parameters():
            if "lora_" in name and "magnitude" not in name:
                torch.nn.init.normal_(parameter, std=0.1)
            elif "magnitude" in name:
                parameter.data *= torch.empty_like(parameter).uniform_(0.5, 1.5)
        peft_model.save_pretrained(tmp_path / "adapter")
        return peft_model, tmp_path / "adapter"

    yield make
    for peft_model in wrapped:
        peft_model.unload()


@pytest.fixture
def refusal(base, tmp_path):
    """Converts what must be refused; returns the one line and checks that nothing was left."""
    from alora_gguf.convert import ConversionError, convert

    def run(folder: Path, base_path=base, **options) -> str:
        out = tmp_path / "out"
        out.mkdir(exist_ok=True)
        with pytest.raises(ConversionError) as caught:
            convert(folder, out / "adapter.gguf", base=base_path, **options)
        line = str(caught.value)
        assert "\n" not in line and "expected" in line and "got" in line and "; " in line
        assert list(out.iterdir()) == []
        return line

    return run
