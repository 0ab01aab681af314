"""Architectures: which modules of transformers take an adapter, and the kinds of weights that they are in GGUF.

A kind is a weight's name within a layer of a GGUF: `attn_q` of `blk.0.attn_q.weight`. Modules are
written as transformers 5 has them; the names of other versions come from gguf's own TensorNameMap.
tests/convert/test_convert_families.py proves every entry on a model that upstream converted.
"""

from dataclasses import dataclass, field

from ...errors import ConversionError
from ...text import complaint
from ..base.gguf_base import Base
from .rows import Order, alternating_rows, grouped_qkv_rows, key_rows, query_rows

# A kind of fused weights: its parts, in the order of their rows. A base has the fused weight or its
# parts, and so has transformers; an adapter of the one serves the other.
FUSED = {
    "attn_qkv": ("attn_q", "attn_k", "attn_v"),
    "ffn_gate_up": ("ffn_gate", "ffn_up"),
    "ffn_gate_up_exps": ("ffn_gate_exps", "ffn_up_exps"),
    "ffn_gate_up_shexp": ("ffn_gate_shexp", "ffn_up_shexp"),
}
# What GGUF calls a fused weight that has no name of its own.
STORED = {"ffn_gate_up": "ffn_up", "ffn_gate_up_shexp": "ffn_up_shexp"}


@dataclass(frozen=True)
class Family:
    """modules: the end of a module's name in a layer -> its kind. orders: of a kind's rows, if not transformers' own.

    layers, embeddings and head are the names around them.
    """

    modules: dict[str, str]
    orders: dict[str, Order] = field(default_factory=dict)
    layers: str = "model.layers"
    embeddings: str = "model.embed_tokens"
    head: str = "lm_head"

    @property
    def kinds(self) -> set[str]:
        """Every kind that a module or a part of one has."""
        return {"token_embd", "output"}.union(*({kind, *FUSED.get(kind, ())} for kind in self.modules.values()))


ATTENTION = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output"}
MLP = {"mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
UNGATED_MLP = {"mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
FUSED_MLP = {"mlp.gate_up_proj": "ffn_gate_up", "mlp.down_proj": "ffn_down"}
EXPERTS = {"mlp.gate": "ffn_gate_inp", "mlp.experts.gate_up_proj": "ffn_gate_up_exps", "mlp.experts.down_proj": "ffn_down_exps"}
ROUTED_EXPERTS = {key.replace("mlp.gate", "mlp.router"): kind for key, kind in EXPERTS.items()}
SHARED_EXPERT = {
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp",
    "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
}
SHARED_EXPERTS = {key.replace("shared_expert.", "shared_experts."): kind for key, kind in SHARED_EXPERT.items() if "_gate" not in key}
GRANITE_MOE = {
    "block_sparse_moe.router": "ffn_gate_inp",
    "block_sparse_moe.experts.gate_up_proj": "ffn_gate_up_exps",
    "block_sparse_moe.experts.down_proj": "ffn_down_exps",
    "shared_mlp.input_linear": "ffn_gate_up_shexp",
    "shared_mlp.output_linear": "ffn_down_shexp",
}
MAMBA = {"mamba.in_proj": "ssm_in", "mamba.out_proj": "ssm_out"}
MLA = {
    "self_attn.q_proj": "attn_q",
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_b_proj": "attn_kv_b",
    "self_attn.o_proj": "attn_output",
}
FC_MLP = {"mlp.c_fc": "ffn_up", "mlp.c_proj": "ffn_down"}

PERMUTED: dict[str, Order] = {"attn_q": query_rows, "attn_k": key_rows}

# general.architecture -> family
FAMILIES: dict[str, Family] = {
    # Llama, Mistral, Mixtral, SmolLM2 and all that llama.cpp stores as `llama`
    "llama": Family(ATTENTION | MLP | EXPERTS, PERMUTED),
    "arcee": Family(ATTENTION | UNGATED_MLP, PERMUTED),
    "apertus": Family(ATTENTION | UNGATED_MLP),
    "smollm3": Family(ATTENTION | MLP, PERMUTED),
    # a granitemoehybrid of attention layers without experts is a granite too
    "granite": Family(ATTENTION | MLP | {"shared_mlp.input_linear": "ffn_gate_up", "shared_mlp.output_linear": "ffn_down"}, PERMUTED),
    "granitemoe": Family(ATTENTION | GRANITE_MOE, PERMUTED),
    "granitehybrid": Family(ATTENTION | GRANITE_MOE | MAMBA, PERMUTED),
    "qwen2": Family(ATTENTION | MLP),
    "qwen2moe": Family(ATTENTION | EXPERTS | SHARED_EXPERT),
    "qwen3": Family(ATTENTION | MLP),
    "qwen3moe": Family(ATTENTION | EXPERTS),
    "gemma": Family(ATTENTION | MLP),
    "gemma2": Family(ATTENTION | MLP),
    "gemma3": Family(ATTENTION | MLP),
    "phi2": Family(
        {
            "self_attn.q_proj": "attn_q",
            "self_attn.k_proj": "attn_k",
            "self_attn.v_proj": "attn_v",
            "self_attn.dense": "attn_output",
            "mlp.fc1": "ffn_up",
            "mlp.fc2": "ffn_down",
        }
    ),
    "phi3": Family({"self_attn.qkv_proj": "attn_qkv", "self_attn.o_proj": "attn_output"} | FUSED_MLP),
    "phimoe": Family(ATTENTION | ROUTED_EXPERTS),
    "olmo": Family(ATTENTION | MLP, PERMUTED),
    "olmo2": Family(ATTENTION | MLP),
    "olmoe": Family(ATTENTION | EXPERTS),
    "stablelm": Family(ATTENTION | MLP),
    "exaone4": Family(ATTENTION | MLP),
    "command-r": Family(ATTENTION | MLP),
    "cohere2": Family(ATTENTION | MLP),
    "nemotron": Family(ATTENTION | UNGATED_MLP),
    "seed_oss": Family(ATTENTION | MLP),
    "ernie4_5": Family(ATTENTION | MLP),
    "hunyuan-dense": Family(ATTENTION | MLP),
    "dots1": Family(ATTENTION | MLP | EXPERTS | SHARED_EXPERTS),
    "glm4": Family(ATTENTION | FUSED_MLP),
    "glm4moe": Family(ATTENTION | MLP | EXPERTS | SHARED_EXPERTS),
    "deepseek2": Family(MLA | MLP | EXPERTS | SHARED_EXPERTS),
    "gpt-oss": Family(ATTENTION | ROUTED_EXPERTS, {"ffn_gate_up_exps": alternating_rows}),
    "starcoder2": Family(ATTENTION | FC_MLP),
    "gpt2": Family({"attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output"} | FC_MLP, layers="transformer.h", embeddings="transformer.wte"),
    "starcoder": Family({"attn.c_attn": "attn_qkv", "attn.c_proj": "attn_output"} | FC_MLP, layers="transformer.h", embeddings="transformer.wte"),
    "gptneox": Family(
        {"attention.query_key_value": "attn_qkv", "attention.dense": "attn_output", "mlp.dense_h_to_4h": "ffn_up", "mlp.dense_4h_to_h": "ffn_down"},
        {"attn_qkv": grouped_qkv_rows},
        "gpt_neox.layers",
        "gpt_neox.embed_in",
    ),
    "bloom": Family(
        {
            "self_attention.query_key_value": "attn_qkv",
            "self_attention.dense": "attn_output",
            "mlp.dense_h_to_4h": "ffn_up",
            "mlp.dense_4h_to_h": "ffn_down",
        },
        {"attn_qkv": grouped_qkv_rows},
        "transformer.h",
        "transformer.word_embeddings",
    ),
    "falcon": Family(
        {
            "self_attention.query_key_value": "attn_qkv",
            "self_attention.dense": "attn_output",
            "mlp.dense_h_to_4h": "ffn_up",
            "mlp.dense_4h_to_h": "ffn_down",
        },
        {"attn_qkv": grouped_qkv_rows},
        "transformer.h",
        "transformer.word_embeddings",
    ),
    "mpt": Family(
        {"attn.Wqkv": "attn_qkv", "attn.out_proj": "attn_output", "ffn.up_proj": "ffn_up", "ffn.down_proj": "ffn_down"},
        layers="transformer.blocks",
        embeddings="transformer.wte",
    ),
    "mamba": Family(
        {"mixer.in_proj": "ssm_in", "mixer.x_proj": "ssm_x", "mixer.out_proj": "ssm_out"}, layers="backbone.layers", embeddings="backbone.embeddings"
    ),
    "mamba2": Family({"mixer.in_proj": "ssm_in", "mixer.out_proj": "ssm_out"}, layers="backbone.layers", embeddings="backbone.embeddings"),
}


def family_of(base: Base) -> Family:
    """Raises ConversionError for an architecture that is not in the table."""
    if base.architecture not in FAMILIES:
        raise ConversionError(
            complaint(base.path, "key general.architecture", " or ".join(FAMILIES), base.architecture, "adapters for it are not converted yet")
        )
    return FAMILIES[base.architecture]
