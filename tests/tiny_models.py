"""A tiny random model of every family that parity is checked with: transformers makes it, upstream converts it."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from upstream import convert_models

N_VOCAB = 320
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
SHARED_MLP = ["input_linear", "output_linear"]
COMMON = dict(
    vocab_size=N_VOCAB,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=256,
    bos_token_id=1,
    eos_token_id=2,
    pad_token_id=0,
    tie_word_embeddings=False,
)
FIRST = dict(vocab_size=N_VOCAB, bos_token_id=1, eos_token_id=2)  # of configs that name their sizes otherwise
HEADS_OF_16 = COMMON | dict(head_dim=16)
MHA = dict(num_key_value_heads=4)
TIED = dict(tie_word_embeddings=True)
MOE = dict(num_experts_per_tok=2, num_local_experts=4)
QWEN_MOE = dict(num_experts_per_tok=2, num_experts=4, moe_intermediate_size=48)
SHARED_MOE = dict(num_experts_per_tok=2, n_routed_experts=4, n_shared_experts=1, first_k_dense_replace=1, moe_intermediate_size=48)
GRANITE = dict(embedding_multiplier=6.0, logits_scaling=4.0, residual_multiplier=0.4, attention_multiplier=0.2)
GEMMA = HEADS_OF_16 | TIED | dict(query_pre_attn_scalar=16, sliding_window=64)
HYBRID = GRANITE | dict(shared_intermediate_size=80, mamba_n_heads=8, mamba_d_head=16, mamba_d_state=16, mamba_chunk_size=16)
MAMBA = FIRST | dict(hidden_size=64, num_hidden_layers=2, state_size=16, expand=2, pad_token_id=0)
GPT2 = FIRST | dict(n_positions=256, n_embd=64, n_layer=2, n_head=4)
EXPERTS = ["experts.gate_up_proj", "experts.down_proj"]


@dataclass(frozen=True)
class TinyModel:
    """saved: what upstream looks for in config.json and transformers 5 saves otherwise. options: of upstream's converter.

    modules, parameters: PEFT's target_modules and target_parameters. Without modules the family's
    logits are not compared: phimoe's routing is another one in llama.cpp, and PEFT's aLoRA does nothing on mpt.
    """

    model_type: str
    config: dict
    modules: str | list[str] = "all-linear"
    parameters: list[str] = field(default_factory=list)
    saved: dict = field(default_factory=dict)
    options: dict = field(default_factory=dict)


TINY_MODELS = {
    "llama": TinyModel("llama", COMMON),
    "llama, q k v fused": TinyModel("llama", COMMON, options={"fuse_qkv": True}),
    "mistral": TinyModel("mistral", COMMON | dict(head_dim=32, sliding_window=None)),
    "mixtral": TinyModel("mixtral", COMMON | MOE | dict(sliding_window=None), ATTENTION, EXPERTS),
    "qwen2": TinyModel("qwen2", COMMON | TIED),
    "qwen2moe": TinyModel("qwen2_moe", COMMON | QWEN_MOE | dict(shared_expert_intermediate_size=56), ATTENTION, EXPERTS),
    "qwen3": TinyModel("qwen3", COMMON | dict(head_dim=32)),
    "qwen3moe": TinyModel("qwen3_moe", HEADS_OF_16 | QWEN_MOE | dict(norm_topk_prob=True), ATTENTION, [*EXPERTS, "mlp.gate.weight"]),
    "gemma": TinyModel("gemma", HEADS_OF_16 | TIED),
    "gemma2": TinyModel("gemma2", GEMMA),
    "gemma3": TinyModel("gemma3_text", GEMMA),
    "phi2": TinyModel("phi", COMMON | MHA | dict(intermediate_size=256)),
    "phi3": TinyModel("phi3", COMMON),
    "phimoe": TinyModel(
        "phimoe",
        COMMON | MOE,
        [],
        saved={
            "architectures": ["PhiMoEForCausalLM"],
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "original_max_position_embeddings": 256},
        },
    ),
    "granite": TinyModel("granite", COMMON | GRANITE),
    "granitemoe": TinyModel("granitemoe", COMMON | GRANITE | MOE, ATTENTION, EXPERTS),
    "granitemoeshared": TinyModel("granitemoeshared", COMMON | GRANITE | MOE | dict(shared_intermediate_size=80), [*ATTENTION, *SHARED_MLP], EXPERTS),
    "granitemoehybrid": TinyModel(
        "granitemoehybrid",
        COMMON | HYBRID | MOE | dict(num_hidden_layers=3, layer_types=["mamba", "attention", "mamba"]),
        [*ATTENTION, "in_proj", "out_proj", *SHARED_MLP],
        EXPERTS,
        saved={"layer_types": ["mamba", "attention", "mamba"]},
    ),
    "granitemoehybrid, dense": TinyModel(
        "granitemoehybrid",
        COMMON
        | HYBRID
        | dict(
            shared_intermediate_size=96, num_local_experts=0, num_experts_per_tok=0, layer_types=["attention"] * 2, position_embedding_type="rope"
        ),
        saved={"layer_types": ["attention"] * 2},
    ),
    "smollm3": TinyModel("smollm3", COMMON | dict(num_hidden_layers=4)),
    "olmo": TinyModel("olmo", COMMON),
    "olmo2": TinyModel("olmo2", COMMON),
    "olmoe": TinyModel("olmoe", COMMON | MHA | QWEN_MOE, ATTENTION, EXPERTS),
    "stablelm": TinyModel("stablelm", COMMON | dict(use_qkv_bias=True)),
    "exaone4": TinyModel("exaone4", COMMON | dict(sliding_window=None, layer_types=["full_attention"] * 2)),
    "gpt2": TinyModel("gpt2", GPT2, saved={"n_ctx": 256}),
    "starcoder": TinyModel("gpt_bigcode", GPT2),
    "starcoder2": TinyModel("starcoder2", COMMON),
    "gptneox": TinyModel("gpt_neox", COMMON, saved={"rotary_pct": 0.25}),
    "bloom": TinyModel("bloom", FIRST | dict(hidden_size=64, n_layer=2, n_head=4, pad_token_id=0)),
    "falcon": TinyModel(
        "falcon",
        FIRST | dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_kv_heads=2, new_decoder_architecture=True, pad_token_id=0),
    ),
    "falcon, one key head": TinyModel(
        "falcon", FIRST | dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, pad_token_id=0), saved={"num_kv_heads": 1}
    ),
    "mpt": TinyModel(
        "mpt", FIRST | dict(d_model=64, n_layers=2, n_heads=4, max_seq_len=256, pad_token_id=0), [], saved={"architectures": ["MPTForCausalLM"]}
    ),
    "arcee": TinyModel("arcee", COMMON),
    "apertus": TinyModel("apertus", COMMON),
    "command-r": TinyModel("cohere", COMMON | TIED),
    "cohere2": TinyModel("cohere2", HEADS_OF_16 | TIED, saved={"rotary_pct": 1.0}),
    "nemotron": TinyModel("nemotron", COMMON),
    "seed_oss": TinyModel("seed_oss", HEADS_OF_16),
    "ernie4_5": TinyModel("ernie4_5", HEADS_OF_16),
    "hunyuan-dense": TinyModel("hunyuan_v1_dense", HEADS_OF_16),
    "dots1": TinyModel("dots1", HEADS_OF_16 | MHA | SHARED_MOE, ATTENTION, EXPERTS, saved={"scoring_func": "sigmoid"}),
    "glm4": TinyModel("glm4", HEADS_OF_16),
    "glm4moe": TinyModel("glm4_moe", HEADS_OF_16 | SHARED_MOE, ATTENTION, EXPERTS),
    "deepseek2": TinyModel(
        "deepseek_v2",
        COMMON | MHA | SHARED_MOE | dict(q_lora_rank=24, kv_lora_rank=32, qk_nope_head_dim=16, qk_rope_head_dim=8, v_head_dim=16),
        ["o_proj"],
        EXPERTS,
    ),
    "gpt-oss": TinyModel("gpt_oss", HEADS_OF_16 | MOE | dict(rope_parameters={"rope_type": "default", "rope_theta": 10000.0}), ATTENTION, EXPERTS),
    "mamba": TinyModel("mamba", MAMBA, ["in_proj", "x_proj"]),
    "mamba2": TinyModel("mamba2", MAMBA | dict(num_heads=8, head_dim=16, n_groups=1, chunk_size=16), ["in_proj"]),
}


def make_model(name: str, **config):
    """The model in float32, its weights random and large enough that every part of it matters. `config` overrides or adds fields of its own."""
    import torch
    import transformers

    tiny = TINY_MODELS[name]
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(tiny.model_type, **tiny.config | config)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    with torch.no_grad():
        for key, parameter in model.named_parameters():
            if parameter.ndim > 1 or key.endswith("bias") and not key.endswith("dt_bias"):
                parameter.normal_(0, 0.1)
    return model


def write_models(names: list[str], folder: Path) -> dict[str, Path]:
    """The models' GGUFs in float32, by name."""
    jobs = []
    for name in names:
        path = folder / name.replace(", ", "-").replace(" ", "-")
        make_model(name).save_pretrained(path)
        vocab = {f"w{i}": i for i in range(N_VOCAB)}  # gemma3's converter counts it
        (path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocab}, "added_tokens": []}))
        tiny = TINY_MODELS[name]
        jobs.append({"model": str(path), "gguf": f"{path}.gguf", "hparams": tiny.saved, **tiny.options})
    convert_models(jobs)
    return {name: Path(job["gguf"]) for name, job in zip(names, jobs)}
