"""Tiny random models and adapters in GGUF, under GGUF's names, and the same models with adapters merged in.

Shapes are numpy's, slowest first: a weight is [n_out, n_in], its lora_a [r, n_in], its lora_b [n_out, r].
"""

import sys
from pathlib import Path
from typing import NamedTuple

import gguf
import numpy as np

N_EMBD, N_FF, N_HEAD, N_HEAD_KV, N_VOCAB, N_EXPERT = 64, 96, 4, 2, 300, 4
TOKENS = [b"<unk>", b"<s>", b"</s>", *(f"<0x{i:02X}>".encode() for i in range(256)), *(f"\u2581w{i}".encode() for i in range(N_VOCAB - 259))]


class TinyModel(NamedTuple):
    architecture: str
    tensors: dict[str, np.ndarray]
    keys: dict  # beside those that every model has: an int is a u32, a list of int an array of i32

    @property
    def weights(self) -> list[str]:
        """What an adapter can adapt: a tied head is "output.weight" too."""
        names = [n for n, t in self.tensors.items() if t.ndim > 1 and n.endswith(".weight") and not n.endswith(("conv1d.weight", "ssm_norm.weight"))]
        return names if "output.weight" in names else [*names, "output.weight"]

    def shape(self, weight: str) -> tuple[int, ...]:
        return self.tensors[weight if weight in self.tensors else "token_embd.weight"].shape


class TinyAdapter(NamedTuple):
    pairs: dict[str, tuple[np.ndarray, np.ndarray]]
    alpha: float

    def delta(self, weight: str) -> np.ndarray:
        """What it adds to the weight, in float64."""
        a, b = (x.astype(np.float64) for x in self.pairs[weight])
        rank = a.shape[-1] if weight == "token_embd.weight" else a.shape[-2]
        product = a @ b.T if weight == "token_embd.weight" else b @ a
        return product * (self.alpha / rank if self.alpha else 1.0)


def llama(
    tied: bool = False, n_expert: int = 0, n_layer: int = 2, n_dim: int = N_EMBD // N_HEAD, n_head: int = N_HEAD, n_head_kv: int = N_HEAD_KV
) -> TinyModel:
    """A dense llama, or a mixtral with n_expert; n_dim: of a head."""
    shapes = {"token_embd.weight": (N_VOCAB, N_EMBD), "output_norm.weight": (N_EMBD,)}
    if not tied:
        shapes["output.weight"] = (N_VOCAB, N_EMBD)
    for i in range(n_layer):
        shapes |= attention(i, n_dim, n_head, n_head_kv) | (experts(i, n_expert) if n_expert else dense(i))
    keys = {
        "feed_forward_length": N_FF,
        "rope.dimension_count": n_dim,
        "attention.key_length": n_dim,
        "attention.value_length": n_dim,
        "attention.head_count": n_head,
        "attention.head_count_kv": n_head_kv,
        "block_count": n_layer,
    }
    if n_expert:
        keys |= {"expert_count": n_expert, "expert_used_count": 2}
    return TinyModel("llama", random_tensors(shapes), keys)


def granite_hybrid() -> TinyModel:
    """Mamba 2, attention, Mamba 2; the feed-forward of each is dense, and the head is tied."""
    d_inner, d_state, n_group, n_heads, d_conv = 2 * N_EMBD, 16, 1, 8, 4
    d_xbc = d_inner + 2 * n_group * d_state
    shapes = {"token_embd.weight": (N_VOCAB, N_EMBD), "output_norm.weight": (N_EMBD,)}
    for i, kind in enumerate(("mamba", "attention", "mamba")):
        shapes |= dense(i)
        if kind == "attention":
            shapes |= attention(i)
            continue
        blk = f"blk.{i}."
        shapes |= {
            blk + "attn_norm.weight": (N_EMBD,),
            blk + "ssm_in.weight": (d_inner + d_xbc + n_heads, N_EMBD),
            blk + "ssm_conv1d.weight": (d_xbc, d_conv),
            blk + "ssm_conv1d.bias": (d_xbc,),
            blk + "ssm_dt.bias": (n_heads,),
            blk + "ssm_a": (n_heads, 1),
            blk + "ssm_d": (n_heads, 1),
            blk + "ssm_norm.weight": (n_group, d_inner // n_group),
            blk + "ssm_out.weight": (N_EMBD, d_inner),
        }
    tensors = random_tensors(shapes)
    for name, values in tensors.items():
        if name.endswith("ssm_a"):
            tensors[name] = -np.abs(values) - np.float32(0.5)  # a decay
    return TinyModel(
        "granitehybrid",
        tensors,
        {
            "feed_forward_length": N_FF,
            "rope.dimension_count": N_EMBD // N_HEAD,
            "block_count": 3,
            "attention.head_count": N_HEAD,
            "attention.head_count_kv": [0, N_HEAD_KV, 0],
            "ssm.conv_kernel": d_conv,
            "ssm.inner_size": d_inner,
            "ssm.state_size": d_state,
            "ssm.time_step_rank": n_heads,
            "ssm.group_count": n_group,
        },
    )


def mamba() -> TinyModel:
    """Two layers of Mamba 2: a recurrent state and no attention."""
    d_inner, d_state, n_group, n_heads, d_conv = 2 * N_EMBD, 16, 1, 4, 4
    d_xbc = d_inner + 2 * n_group * d_state
    shapes = {"token_embd.weight": (N_VOCAB, N_EMBD), "output_norm.weight": (N_EMBD,)}
    for blk in ("blk.0.", "blk.1."):
        shapes |= {
            blk + "attn_norm.weight": (N_EMBD,),
            blk + "ssm_in.weight": (d_inner + d_xbc + n_heads, N_EMBD),
            blk + "ssm_conv1d.weight": (d_xbc, d_conv),
            blk + "ssm_conv1d.bias": (d_xbc,),
            blk + "ssm_dt.bias": (n_heads,),
            blk + "ssm_a": (n_heads, 1),
            blk + "ssm_d": (n_heads, 1),
            blk + "ssm_norm.weight": (n_group, d_inner // n_group),
            blk + "ssm_out.weight": (N_EMBD, d_inner),
        }
    tensors = random_tensors(shapes)
    tensors |= {name: -np.abs(values) - np.float32(0.5) for name, values in tensors.items() if name.endswith("ssm_a")}
    return TinyModel(
        "mamba2",
        tensors,
        {
            "block_count": 2,
            "ssm.conv_kernel": d_conv,
            "ssm.inner_size": d_inner,
            "ssm.state_size": d_state,
            "ssm.time_step_rank": n_heads,
            "ssm.group_count": n_group,
        },
    )


def gemma3(window: int = 4) -> TinyModel:
    """Six layers, of which all but the last see `window` tokens back; the head is tied."""
    n_dim = N_EMBD // N_HEAD
    shapes = {"token_embd.weight": (N_VOCAB, N_EMBD), "output_norm.weight": (N_EMBD,)}
    for i in range(6):
        shapes |= (
            attention(i)
            | dense(i)
            | {
                f"blk.{i}.{name}.weight": (n,)
                for name, n in (("attn_q_norm", n_dim), ("attn_k_norm", n_dim), ("post_attention_norm", N_EMBD), ("post_ffw_norm", N_EMBD))
            }
        )
    return TinyModel(
        "gemma3",
        random_tensors(shapes),
        {
            "feed_forward_length": N_FF,
            "attention.key_length": n_dim,
            "attention.value_length": n_dim,
            "attention.head_count": N_HEAD,
            "attention.head_count_kv": N_HEAD_KV,
            "block_count": 6,
            "attention.sliding_window": window,
        },
    )


def gemma2(window: int = 4) -> TinyModel:
    """Two layers with a soft cap of their scores, the first of which sees `window` tokens back; the head is tied."""
    n_dim = N_EMBD // N_HEAD
    shapes = {"token_embd.weight": (N_VOCAB, N_EMBD), "output_norm.weight": (N_EMBD,)}
    for i in range(2):
        shapes |= attention(i) | dense(i) | {f"blk.{i}.{name}.weight": (N_EMBD,) for name in ("post_attention_norm", "post_ffw_norm")}
    return TinyModel(
        "gemma2",
        random_tensors(shapes),
        {
            "feed_forward_length": N_FF,
            "attention.key_length": n_dim,
            "attention.value_length": n_dim,
            "attention.head_count": N_HEAD,
            "attention.head_count_kv": N_HEAD_KV,
            "block_count": 2,
            "attention.sliding_window": window,
            "attn_logit_softcapping": 1.5,
            "final_logit_softcapping": 30.0,
        },
    )


def bloom() -> TinyModel:
    """Two layers with ALiBi, q, k and v in one weight; the head is tied."""
    shapes = {"token_embd.weight": (N_VOCAB, N_EMBD)} | {
        f"{name}.{part}": (N_EMBD,) for name in ("token_embd_norm", "output_norm") for part in ("weight", "bias")
    }
    for i in range(2):
        outs = {"attn_norm": 0, "attn_qkv": 3 * N_EMBD, "attn_output": N_EMBD, "ffn_norm": 0, "ffn_up": N_FF}
        for name, n_out in outs.items():
            shapes |= {f"blk.{i}.{name}.weight": (n_out, N_EMBD) if n_out else (N_EMBD,), f"blk.{i}.{name}.bias": (n_out or N_EMBD,)}
        shapes |= {f"blk.{i}.ffn_down.weight": (N_EMBD, N_FF), f"blk.{i}.ffn_down.bias": (N_EMBD,)}
    return TinyModel(
        "bloom",
        random_tensors(shapes),
        {
            "feed_forward_length": N_FF,
            "attention.head_count": N_HEAD,
            "attention.head_count_kv": N_HEAD,
            "block_count": 2,
            "attention.layer_norm_epsilon": 1e-5,
        },
    )


def t5() -> TinyModel:
    """An encoder and a decoder of one layer each, which share the embeddings."""
    shapes = {
        "token_embd.weight": (N_VOCAB, N_EMBD),
        "output.weight": (N_VOCAB, N_EMBD),
        "dec.output_norm.weight": (N_EMBD,),
        "enc.output_norm.weight": (N_EMBD,),
    }
    for side, parts in (("enc", ("attn",)), ("dec", ("attn", "cross_attn"))):
        for part in parts:
            shapes |= {f"{side}.blk.0.{part}_{n}.weight": (N_EMBD, N_EMBD) for n in "qkvo"} | {f"{side}.blk.0.{part}_norm.weight": (N_EMBD,)}
        shapes |= {
            f"{side}.blk.0.attn_rel_b.weight": (32, N_HEAD),
            f"{side}.blk.0.ffn_norm.weight": (N_EMBD,),
            f"{side}.blk.0.ffn_up.weight": (N_FF, N_EMBD),
            f"{side}.blk.0.ffn_down.weight": (N_EMBD, N_FF),
        }
    return TinyModel(
        "t5",
        random_tensors(shapes),
        {
            "feed_forward_length": N_FF,
            "attention.head_count": N_HEAD,
            "attention.key_length": N_EMBD // N_HEAD,
            "attention.value_length": N_EMBD // N_HEAD,
            "block_count": 1,
            "attention.relative_buckets_count": 32,
            "attention.layer_norm_epsilon": 1e-6,
            "decoder_start_token_id": 0,
        },
    )


def bert() -> TinyModel:
    """An encoder: its context has no memory."""
    shapes = {
        "token_embd.weight": (N_VOCAB, N_EMBD),
        "position_embd.weight": (256, N_EMBD),
        "token_types.weight": (2, N_EMBD),
        "token_embd_norm.weight": (N_EMBD,),
        "token_embd_norm.bias": (N_EMBD,),
    }
    shapes |= {f"blk.0.{n}.weight": (N_EMBD, N_EMBD) for n in ("attn_q", "attn_k", "attn_v", "attn_output")}
    shapes |= {"blk.0.ffn_up.weight": (N_FF, N_EMBD), "blk.0.ffn_down.weight": (N_EMBD, N_FF)}
    shapes |= {f"blk.0.{n}.{part}": (N_EMBD,) for n in ("attn_output_norm", "layer_output_norm") for part in ("weight", "bias")}
    return TinyModel(
        "bert",
        random_tensors(shapes),
        {
            "feed_forward_length": N_FF,
            "attention.head_count": N_HEAD,
            "block_count": 1,
            "attention.causal": False,
            "pooling_type": 0,
            "attention.layer_norm_epsilon": 1e-6,
        },
    )


def attention(layer: int, n_dim: int = N_EMBD // N_HEAD, n_head: int = N_HEAD, n_head_kv: int = N_HEAD_KV) -> dict[str, tuple[int, ...]]:
    n_q, n_kv = n_dim * n_head, n_dim * n_head_kv
    shapes = {"attn_norm": (N_EMBD,), "attn_q": (n_q, N_EMBD), "attn_k": (n_kv, N_EMBD), "attn_v": (n_kv, N_EMBD), "attn_output": (N_EMBD, n_q)}
    return {f"blk.{layer}.{name}.weight": shape for name, shape in shapes.items()}


def dense(layer: int) -> dict[str, tuple[int, ...]]:
    shapes = {"ffn_norm": (N_EMBD,), "ffn_gate": (N_FF, N_EMBD), "ffn_up": (N_FF, N_EMBD), "ffn_down": (N_EMBD, N_FF)}
    return {f"blk.{layer}.{name}.weight": shape for name, shape in shapes.items()}


def experts(layer: int, n: int) -> dict[str, tuple[int, ...]]:
    shapes = {
        "ffn_norm": (N_EMBD,),
        "ffn_gate_inp": (n, N_EMBD),
        "ffn_gate_exps": (n, N_FF, N_EMBD),
        "ffn_up_exps": (n, N_FF, N_EMBD),
        "ffn_down_exps": (n, N_EMBD, N_FF),
    }
    return {f"blk.{layer}.{name}.weight": shape for name, shape in shapes.items()}


def random_tensors(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.normal(1.0 if "norm.weight" in name else 0.0, 0.1, shape).astype(np.float32) for name, shape in shapes.items()}


def random_adapter(model: TinyModel, seed: int, weights: list[str] | None = None, r: int = 4, alpha: float = 8.0) -> TinyAdapter:
    """On `weights`, default: all that can be adapted."""
    rng = np.random.default_rng(seed)
    pairs = {}
    for name in weights or model.weights:
        *n_expert, n_out, n_in = model.shape(name)
        shapes = ((n_out, r), (n_in, r)) if name == "token_embd.weight" else ((*n_expert, r, n_in), (*n_expert, n_out, r))
        pairs[name] = tuple(rng.normal(0, 0.1, shape).astype(np.float32) for shape in shapes)
    return TinyAdapter(pairs, alpha)


def merged(model: TinyModel, *adapters: tuple[TinyAdapter, float]) -> TinyModel:
    """The model with each adapter, times its scale, added to its weights. A tied head comes untied."""
    deltas: dict[str, np.ndarray] = {}
    for adapter, scale in adapters:
        for name in adapter.pairs:
            deltas[name] = deltas.get(name, 0) + scale * adapter.delta(name)
    tensors = {"output.weight": model.tensors["token_embd.weight"], **model.tensors}
    for name, delta in deltas.items():
        tensors[name] = (tensors[name] + delta).astype(np.float32)
    return model._replace(tensors=tensors)


def write_model(path: Path, model: TinyModel) -> Path:
    writer = gguf.GGUFWriter(path, model.architecture)
    arch = model.architecture
    writer.add_context_length(256)
    writer.add_embedding_length(N_EMBD)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_vocab_size(N_VOCAB)
    for key, value in model.keys.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, float: writer.add_float32, list: writer.add_array}[type(value)]
        add(f"{arch}.{key}", value)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([0.0] * N_VOCAB)
    writer.add_token_types([2, 3, 3, *[6] * 256, *[1] * (N_VOCAB - 259)])
    if arch == "bert":
        writer.add_uint32("tokenizer.ggml.token_type_count", 2)
    finish(writer, model.tensors)
    return path


def write_adapter(path: Path, architecture: str, adapter: TinyAdapter, dtype=gguf.GGMLQuantizationType.F32) -> Path:
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_string("general.type", "adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", adapter.alpha)
    finish(writer, {f"{name}.lora_{ab}": x for name, pair in adapter.pairs.items() for ab, x in zip("ab", pair)}, dtype)
    return path


def finish(writer: gguf.GGUFWriter, tensors: dict[str, np.ndarray], dtype=gguf.GGMLQuantizationType.F32) -> None:
    for name, values in tensors.items():
        writer.add_tensor(name, gguf.quants.quantize(values, dtype), raw_dtype=dtype)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":  # native_models.py BASE ADAPTER: for programs without Python
    write_model(Path(sys.argv[1]), llama())
    write_adapter(Path(sys.argv[2]), "llama", random_adapter(llama(), seed=1))
