"""The reference: PEFT on the embedded model's own weights, dequantised, in float32."""

from pathlib import Path

import numpy as np

# (targets, rank, alpha, further LoraConfig fields) of the random adapters that parity is checked with
RANDOM_ADAPTERS = {
    "all": (["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], 8, 16, {}),
    "attention": (["q_proj", "k_proj", "v_proj"], 32, 32, {"use_rslora": True}),
    "ffn": (["gate_proj", "down_proj"], 5, 6, {"rank_pattern": {"layers.3.mlp.down_proj": 11}}),
}
INVOCATIONS = {"all": [1000, 2000], "attention": [7, 7, 9], "ffn": [42]}

# the attention in 32 bits, so that tokens hardly depend on the shape of the batches that they were decoded in;
# flash attention computes in f16
PRECISE = {"type_k": "f32", "type_v": "f32", "flash_attn": False}


def load_base(path: Path):
    """The model of a GGUF file as transformers' AutoModelForCausalLM in float32."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    model.hf_quantizer, model.is_quantized = None, False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.config._name_or_path = "HuggingFaceTB/SmolLM2-135M-Instruct"
    return model.eval()


def add_random_adapter(model, name: str, seed: int):
    """Adds the named one of RANDOM_ADAPTERS to a base or PEFT model; returns the PEFT model."""
    import torch
    from peft import LoraConfig, get_peft_model

    targets, rank, alpha, options = RANDOM_ADAPTERS[name]
    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=targets, task_type="CAUSAL_LM", alora_invocation_tokens=INVOCATIONS[name], **options)
    if hasattr(model, "peft_config"):
        model.add_adapter(name, config)
    else:
        model = get_peft_model(model, config, adapter_name=name)
    torch.manual_seed(seed)
    for key, parameter in model.named_parameters():
        if f".{name}." in key:
            # B is zero at first. Much stronger than this, and single rows become so ill-conditioned
            # that PEFT in float32 is off from PEFT in float64 by more than the tolerance.
            torch.nn.init.normal_(parameter.data, std=0.02)
    return model.eval()


def peft_logits(model, tokens, adapter: str | None) -> np.ndarray:
    """float32 [len(tokens), n_vocab] of PEFT's own forward."""
    import torch

    ids = torch.tensor([list(tokens)])
    with torch.no_grad():
        if adapter is None:
            with model.disable_adapter():
                return model(input_ids=ids).logits[0].numpy()
        model.set_adapter(adapter)
        return model(input_ids=ids).logits[0].numpy()


def relative_error(got: np.ndarray, expected: np.ndarray) -> float:
    """The worst row's |got - expected| / |expected|, in the Euclidean norm."""
    return float((np.linalg.norm(got - expected, axis=-1) / np.linalg.norm(expected, axis=-1)).max())
