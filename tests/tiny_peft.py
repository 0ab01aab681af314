"""A tiny llama in GGUF, and PEFT folders byte by byte, so that any of their fields can lie."""

import json
import struct
from pathlib import Path

import numpy as np

N_LAYER, N_EMBD, N_FF, N_HEAD, N_HEAD_KV, N_VOCAB = 2, 64, 96, 4, 2, 300
MODULES = {  # [n_in, n_out]
    "self_attn.q_proj": (64, 64),
    "self_attn.k_proj": (64, 32),
    "self_attn.v_proj": (64, 32),
    "self_attn.o_proj": (64, 64),
    "mlp.gate_proj": (64, 96),
    "mlp.up_proj": (64, 96),
    "mlp.down_proj": (96, 64),
}
WEIGHTS = {  # transformers' names in a layer -> GGUF's
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def permute(weight: np.ndarray, n_head: int) -> np.ndarray:
    """transformers' order of a q or k projection's rows to ggml's."""
    n_out = weight.shape[0]
    return np.stack(np.split(weight.reshape(n_head, n_out // n_head, -1), 2, axis=1), axis=2).reshape(weight.shape)


def unpermute(weight: np.ndarray, n_head: int) -> np.ndarray:
    pairs = weight.reshape(n_head, -1, 2, weight.shape[1])
    return np.concatenate([pairs[:, :, 0], pairs[:, :, 1]], axis=1).reshape(weight.shape)


def write_base(
    path: Path,
    weights: dict[str, np.ndarray] | None = None,
    architecture: str = "llama",
    dtype=np.float32,
    tied: bool = False,
    tokens: list[bytes] | None = None,
    **writer_options,
) -> Path:
    """A llama by `weights` (transformers' names, random if None), as gguf's own writer writes it."""
    import gguf

    weights = weights or random_weights(tied)
    writer = gguf.GGUFWriter(path, architecture, **writer_options)
    writer.add_name("Tiny Llama")
    writer.add_organization("nobody")
    writer.add_block_count(N_LAYER)
    writer.add_context_length(256)
    writer.add_embedding_length(N_EMBD)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(N_HEAD)
    writer.add_head_count_kv(N_HEAD_KV)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(N_EMBD // N_HEAD)
    writer.add_vocab_size(N_VOCAB)
    tokens = tokens or [
        b"<unk>",
        b"<s>",
        b"</s>",
        *(f"<0x{i:02X}>".encode() for i in range(256)),
        *(f"\u2581w{i}".encode() for i in range(N_VOCAB - 259)),
    ]
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * N_VOCAB)
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * (N_VOCAB - 259)])
    for name, values in weights.items():
        writer.add_tensor(gguf_name(name), in_gguf_order(name, values).astype(dtype if values.ndim > 1 else np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_name(name: str) -> str:
    fixed = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    module = name.removesuffix(".weight")
    if module in fixed:
        return f"{fixed[module]}.weight"
    _, _, layer, rest = module.split(".", 3)
    return f"blk.{layer}.{WEIGHTS[rest]}.weight"


def in_gguf_order(name: str, values: np.ndarray) -> np.ndarray:
    n_head = N_HEAD if ".q_proj" in name else N_HEAD_KV if ".k_proj" in name else 0
    return permute(values, n_head) if n_head else values


def random_weights(tied: bool = False) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"model.embed_tokens": (N_VOCAB, N_EMBD), "model.norm": (N_EMBD,)}
    if not tied:
        shapes["lm_head"] = (N_VOCAB, N_EMBD)
    for layer in range(N_LAYER):
        prefix = f"model.layers.{layer}"
        shapes |= {f"{prefix}.{m}": (n_out, n_in) for m, (n_in, n_out) in MODULES.items()}
        shapes |= {f"{prefix}.{norm}": (N_EMBD,) for norm in ("input_layernorm", "post_attention_layernorm")}
    return {f"{name}.weight": rng.normal(0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}


def adapter_tensors(r: int = 4, modules=MODULES, dtype=np.float32) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    tensors = {}
    for layer in range(N_LAYER):
        for module in modules:
            n_in, n_out = MODULES[module]
            prefix = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{prefix}.lora_A.weight"] = rng.normal(0, 0.1, (r, n_in)).astype(dtype)
            tensors[f"{prefix}.lora_B.weight"] = rng.normal(0, 0.1, (n_out, r)).astype(dtype)
    return tensors


def safetensors_bytes(tensors: dict[str, np.ndarray], header: dict | None = None) -> bytes:
    """The file's bytes; `header` overrides fields of single tensors, or a whole entry."""
    dtypes = {"float32": "F32", "float16": "F16", "float64": "F64", "uint16": "BF16"}
    entries, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, values in tensors.items():
        entries[name] = {"dtype": dtypes[values.dtype.name], "shape": list(values.shape), "data_offsets": [offset, offset + values.nbytes]}
        offset += values.nbytes
    for name, fields in (header or {}).items():
        entries[name] = {**entries.get(name, {}), **fields} if isinstance(fields, dict) else fields
    raw = json.dumps(entries).encode()
    return struct.pack("<Q", len(raw)) + raw + b"".join(v.tobytes() for v in tensors.values())


def write_adapter(folder: Path, tensors=None, header=None, **config) -> Path:
    """A PEFT folder of rank 4 on all linear modules; `config` overrides or adds options."""
    folder.mkdir(parents=True, exist_ok=True)
    fields = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 4,
        "lora_alpha": 8,
        "bias": "none",
        "target_modules": sorted(m.split(".")[1] for m in MODULES),
        **config,
    }
    (folder / "adapter_config.json").write_text(json.dumps(fields))
    tensors = adapter_tensors() if tensors is None else tensors
    (folder / "adapter_model.safetensors").write_bytes(safetensors_bytes(tensors, header))
    return folder
