"""A tiny random model of every family that parity is checked with: transformers makes it, upstream converts it."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from upstream import convert_models

N_VOCAB = 320
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
MLP = ["gate_proj", "up_proj", "down_proj"]
COMMON = dict(vocab_size=N_VOCAB, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
              num_key_value_heads=2, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0,
              tie_word_embeddings=False)
MOE = dict(num_experts_per_tok=2, num_local_experts=4)
GRANITE = dict(embedding_multiplier=6.0, logits_scaling=4.0, residual_multiplier=0.4, attention_multiplier=0.2)


@dataclass(frozen=True)
class TinyModel:
    """modules: PEFT's target_modules; parameters: its target_parameters, of fused experts; upstream: options of the converter."""

    model_type: str
    config: dict
    modules: list[str]
    parameters: list[str] = field(default_factory=list)
    upstream: dict = field(default_factory=dict)


TINY_MODELS = {
    "llama": TinyModel("llama", COMMON, [*ATTENTION, *MLP, "lm_head"]),
    "llama (q, k, v fused)": TinyModel("llama", COMMON, [*ATTENTION, *MLP], upstream={"fuse_qkv": True}),
    "mistral": TinyModel("mistral", COMMON | dict(head_dim=32, sliding_window=None), [*ATTENTION, *MLP]),
    "mixtral": TinyModel("mixtral", COMMON | MOE | dict(sliding_window=None), ATTENTION,
                         ["mlp.experts.gate_up_proj", "mlp.experts.down_proj", "mlp.gate.weight"]),
    "qwen2": TinyModel("qwen2", COMMON | dict(tie_word_embeddings=True), [*ATTENTION, *MLP]),
    "qwen3": TinyModel("qwen3", COMMON | dict(head_dim=32), [*ATTENTION, *MLP]),
    "qwen3moe": TinyModel("qwen3_moe", COMMON | dict(head_dim=16, moe_intermediate_size=48, num_experts_per_tok=2, num_experts=4),
                          ATTENTION, ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]),
    "qwen3moe (gate, up fused)": TinyModel(
        "qwen3_moe", COMMON | dict(head_dim=16, moe_intermediate_size=48, num_experts_per_tok=2, num_experts=4),
        ATTENTION, ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"], upstream={"fuse_gate_up_exps": True}),
    "gemma2": TinyModel("gemma2", COMMON | dict(head_dim=16, query_pre_attn_scalar=16, sliding_window=64, tie_word_embeddings=True),
                        [*ATTENTION, *MLP]),
    "gemma3": TinyModel("gemma3_text", COMMON | dict(head_dim=16, query_pre_attn_scalar=16, sliding_window=64, tie_word_embeddings=True),
                        [*ATTENTION, *MLP]),
    "phi3": TinyModel("phi3", COMMON, ["qkv_proj", "o_proj", "gate_up_proj", "down_proj"]),
    "granite": TinyModel("granite", COMMON | GRANITE, [*ATTENTION, *MLP]),
    "granitemoe": TinyModel("granitemoe", COMMON | GRANITE | MOE, ATTENTION,
                            ["experts.gate_up_proj", "experts.down_proj"]),
    "granitemoeshared": TinyModel("granitemoeshared", COMMON | GRANITE | MOE | dict(shared_intermediate_size=80),
                                  [*ATTENTION, "input_linear", "output_linear"], ["experts.gate_up_proj"]),
    "granitemoehybrid": TinyModel(
        "granitemoehybrid", COMMON | GRANITE | MOE | dict(
            num_hidden_layers=3, shared_intermediate_size=80, mamba_n_heads=8, mamba_d_head=16, mamba_d_state=16, mamba_chunk_size=16,
            layer_types=["mamba", "attention", "mamba"]),
        [*ATTENTION, "in_proj", "out_proj", "input_linear", "output_linear"]),
    "olmo2": TinyModel("olmo2", COMMON, [*ATTENTION, *MLP]),
    "smollm3": TinyModel("smollm3", COMMON | dict(no_rope_layers=[1, 0]), [*ATTENTION, *MLP]),
    "stablelm": TinyModel("stablelm", COMMON | dict(use_qkv_bias=True), [*ATTENTION, *MLP]),
    "gpt2": TinyModel("gpt2", dict(vocab_size=N_VOCAB, n_positions=256, n_embd=64, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=2),
                      ["c_attn", "c_proj", "c_fc"]),
    "exaone4": TinyModel("exaone4", COMMON | dict(sliding_window=None, layer_types=["full_attention"] * 2), [*ATTENTION, *MLP]),
    "starcoder2": TinyModel("starcoder2", COMMON, [*ATTENTION, "c_fc", "c_proj"]),
}


def make_model(name: str):
    """The model in float32, its weights random and large enough that every part of it matters."""
    import torch
    import transformers

    tiny = TINY_MODELS[name]
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(tiny.model_type, **tiny.config)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.ndim > 1 or key.endswith("bias") and not key.endswith("dt_bias"):
                parameter.normal_(0, 0.1)
    return model


def write_models(names: list[str], folder: Path) -> dict[str, Path]:
    """The models' GGUFs in float32; beside each a folder of its name, as transformers saved it."""
    jobs = []
    for i, name in enumerate(names):
        path = folder / f"model-{i}"
        model = make_model(name)
        model.save_pretrained(path)
        _as_upstream_reads(path)
        jobs.append({"model": str(path), "gguf": f"{path}.gguf", **TINY_MODELS[name].upstream})
    convert_models(jobs)
    return {name: Path(job["gguf"]) for name, job in zip(names, jobs)}


def _as_upstream_reads(folder: Path) -> None:
    """What upstream's converters look for and transformers 5 saves otherwise."""
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] == "granitemoehybrid":
        config["layer_types"] = ["mamba" if kind == "linear_attention" else "attention" for kind in config["layer_types"]]
    if config["model_type"] == "gpt2":
        config["n_ctx"] = config["n_positions"]
    (folder / "config.json").write_text(json.dumps(config))
    vocab = {f"w{i}": i for i in range(config["vocab_size"])}  # gemma3 counts it
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}, "added_tokens": []}))
