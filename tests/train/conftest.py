"""What the tests of training share: a tiny random model, and its PyTorch twin with an adapter that is not zero."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))

INVOCATION = "<|im_start|>mood\n"


@pytest.fixture(scope="session")
def tiny_base(base_q4: Path, tmp_path_factory) -> Path:
    """A plain transformer of two layers with the embedded model's vocabulary and chat template."""
    from tiny import llama

    return llama(base_q4, tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture
def tiny_peft(tiny_base: Path):
    """The tiny model under a LoRA of rank 4 on all linear layers, random enough to matter."""
    import torch
    from peft import LoraConfig, get_peft_model

    from alora_gguf.train.base import load_base

    model = load_base(tiny_base, "tiny", torch.device("cpu"), "float32")
    torch.manual_seed(0)
    model = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, target_modules=list(TARGETS), task_type="CAUSAL_LM"))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(std=0.1)
    return model


TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
