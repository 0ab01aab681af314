"""An adapter on a tiny model: the runtime's logits against PEFT's, row by row."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from reference import peft_logits
from tiny_models import N_VOCAB, TINY_MODELS, make_model

INVOCATION = [300, 301, 300]
# LoraConfig's options; the experts' cases add the model's fused parameters, which PEFT adapts without an invocation only
CASES = {
    "lora": dict(r=8, lora_alpha=16),
    "lora, all scales": dict(
        r=4, lora_alpha=6, use_rslora=True, rank_pattern={r"(h|layers)\.0\..*": 7}, alpha_pattern={"q_proj|c_attn|qkv_proj": 11}
    ),
    "alora": dict(r=8, lora_alpha=16, alora_invocation_tokens=INVOCATION),
    "alora, all scales": dict(
        r=4,
        lora_alpha=6,
        use_rslora=True,
        rank_pattern={r"(h|layers)\.0\..*": 7},
        alpha_pattern={"q_proj|c_attn|qkv_proj": 11},
        alora_invocation_tokens=INVOCATION,
    ),
    "bias": dict(r=4, lora_alpha=6, lora_bias=True, alora_invocation_tokens=INVOCATION),
    "dora": dict(r=4, lora_alpha=6, use_dora=True),
    "experts": dict(r=3, lora_alpha=6),
    "all experts": dict(r=4, lora_alpha=6),  # of "all-linear", which PEFT makes of transformers 4's modules
    "embeddings": dict(r=4, lora_alpha=8),
}


@dataclass(frozen=True)
class Errors:
    """The worst row's |got - expected| / |expected|. base: of the rows without an adapter. change: what the adapter does to PEFT's rows."""

    base: float
    adapted: float
    change: float

    def tolerance(self, outtype: str) -> float:
        return max({"f32": 2e-5, "f16": 1e-3}[outtype], 2 * self.base)


def cases_of(name: str) -> list[str]:
    tiny = TINY_MODELS[name]
    all_linear = name in ("mixtral", "qwen2moe", "qwen3moe", "olmoe")
    return [case for case in CASES if tiny.modules and (case != "experts" or tiny.parameters) and (case != "all experts" or all_linear)]


def compare(name: str, case: str, gguf: Path, folder: Path, outtypes: list[str]) -> dict[str, Errors]:
    """The errors of the model `name` with a random adapter of `case`, which is left in `folder`, by outtype."""
    import torch

    from alora_gguf import Model
    from alora_gguf.convert import convert

    model = make_model(name)
    sequences = _sequences()
    with torch.no_grad():
        base = [model(torch.tensor([tokens])).logits[0].numpy() for tokens in sequences]
    adapter = add_adapter(model, name, case, embeddings_of(gguf))
    adapter.save_pretrained(folder)
    expected = [peft_logits(adapter, tokens, "default") for tokens in sequences]
    errors = {}
    with Model(gguf, n_ctx=512, n_batch=512, n_ubatch=24, n_threads=1, type_k="f32", type_v="f32", flash_attn=False) as runtime:
        for outtype in outtypes:
            convert(folder, folder / f"{outtype}.gguf", base=gguf, outtype=outtype)
            runtime.load_adapter(folder / f"{outtype}.gguf", outtype)
            got = runtime.logits([(tokens, outtype) for tokens in sequences] + [(tokens, None) for tokens in sequences])
            n = len(sequences)
            errors[outtype] = Errors(_worst(got[n:], base), _worst(got[:n], expected), _worst(base, expected))
    return errors


def embeddings_of(gguf: Path) -> list[str]:
    """The names of the token embeddings and, where it takes an adapter, of the output head."""
    from alora_gguf.convert.base.gguf_base import read_base
    from alora_gguf.convert.mapping.architectures import family_of
    from alora_gguf.convert.mapping.unadapted import unadapted

    base = read_base(gguf)
    family = family_of(base)
    return [family.embeddings.rpartition(".")[2], *([family.head] if "output" not in unadapted(base.architecture) else [])]


def add_adapter(model, name: str, case: str, embeddings: list[str]):
    """PEFT's model with random A and B, biases and magnitudes, with the case's options."""
    import torch
    from peft import LoraConfig, get_peft_model

    tiny = TINY_MODELS[name]
    modules = {"embeddings": embeddings, "all experts": "all-linear"}.get(case, tiny.modules)
    config = LoraConfig(
        task_type="CAUSAL_LM",
        target_modules=modules,
        init_lora_weights=False,
        fan_in_fan_out=tiny.model_type == "gpt2",
        target_parameters=tiny.parameters if case == "experts" else None,
        **CASES[case],
    )
    model = get_peft_model(model, config)
    torch.manual_seed(1)
    for key, parameter in model.named_parameters():
        if "lora_magnitude" in key:  # about the norms of the weight's rows
            parameter.data *= 1 + 0.2 * torch.randn_like(parameter)
        elif "lora_" in key:
            torch.nn.init.normal_(parameter.data, std=0.05)
    return model.eval()


def _sequences() -> list[list[int]]:
    """The invocation first, in the middle, last, twice, never, and where a ubatch is cut; one is a lone token."""
    random = np.random.default_rng(0)
    words = lambda n: random.integers(260, 300, n).tolist()
    assert max(INVOCATION) < N_VOCAB
    return [
        INVOCATION + words(9),
        words(8) + INVOCATION + words(5),
        words(13) + INVOCATION,
        words(3) + INVOCATION + words(4) + INVOCATION + words(2),
        words(11),
        words(22) + INVOCATION + words(6),
        words(1),
    ]


def _worst(got: list[np.ndarray], expected: list[np.ndarray]) -> float:
    return max(float((np.linalg.norm(g - e, axis=-1) / np.linalg.norm(e, axis=-1)).max()) for g, e in zip(got, expected))
