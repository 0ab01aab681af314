"""A Hugging Face folder as the base: what its config.json and tokenizer.json say, in GGUF's terms.

It has no fingerprint, as that is of a GGUF's own tensors and tokens, and no weights are read.
"""

import json
from pathlib import Path
from typing import Any

from ...errors import ConversionError
from ...text import complaint
from .gguf_base import MAX_LAYERS, Base
from .vocabulary import BYTE, CONTROL, NORMAL, Vocabulary

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
MAX_JSON = 200_000_000  # bytes
NAME_GGUF = "name the base model's GGUF with --base"

# model_type -> general.architecture, where the weights are those that _shapes knows
ARCHITECTURES = {
    "llama": "llama",
    "mistral": "llama",
    "mixtral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "qwen3_moe": "qwen3moe",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "granite": "granite",
    "granitemoe": "granitemoe",
    "olmo2": "olmo2",
    "phi3": "phi3",
    "smollm3": "smollm3",
    "stablelm": "stablelm",
}


def read_hf_base(folder: Path) -> Base:
    """Raises ConversionError on a file that is missing or malformed, or a model_type that only a GGUF tells enough about."""
    config = _Config(folder / CONFIG, _read_json(folder / CONFIG))
    model_type = config.fields.get("model_type")
    if model_type not in ARCHITECTURES:
        raise config.complaint("model_type", f"one of {', '.join(ARCHITECTURES)}", model_type, NAME_GGUF)
    architecture = ARCHITECTURES[model_type]
    n_layer, n_head = config.count("num_hidden_layers", limit=MAX_LAYERS), config.count("num_attention_heads")
    n_head_kv = config.count("num_key_value_heads", default=n_head)
    return Base(
        path=folder,
        architecture=architecture,
        name=None,
        organization=None,
        n_layer=n_layer,
        n_head=(n_head,) * n_layer,
        n_head_kv=(n_head_kv,) * n_layer,
        shapes=_shapes(config, architecture, n_layer, n_head, n_head_kv),
        vocabulary=_vocabulary(folder / TOKENIZER),
        fingerprint=None,
    )


def _shapes(config: "_Config", architecture: str, n_layer: int, n_head: int, n_head_kv: int) -> dict[str, tuple[int, ...]]:
    n_embd, n_ff, n_vocab = config.count("hidden_size"), config.count("intermediate_size"), config.count("vocab_size")
    head = config.count("head_dim", default=max(1, n_embd // n_head))
    n_expert = config.count("num_experts" if "num_experts" in config.fields else "num_local_experts", default=0, least=0)
    n_ff_exp = config.count("moe_intermediate_size", default=n_ff)
    layer: dict[str, tuple[int, ...]] = {
        "attn_q": (n_embd, n_head * head),
        "attn_k": (n_embd, n_head_kv * head),
        "attn_v": (n_embd, n_head_kv * head),
        "attn_output": (n_head * head, n_embd),
        "ffn_gate": (n_embd, n_ff),
        "ffn_up": (n_embd, n_ff),
        "ffn_down": (n_ff, n_embd),
    }
    if architecture == "phi3":
        for part in ("attn_q", "attn_k", "attn_v", "ffn_gate"):
            del layer[part]
        layer |= {"attn_qkv": (n_embd, (n_head + 2 * n_head_kv) * head), "ffn_up": (n_embd, 2 * n_ff)}
    if n_expert:
        layer |= {
            "ffn_gate_inp": (n_embd, n_expert),
            "ffn_gate_exps": (n_embd, n_ff_exp, n_expert),
            "ffn_up_exps": (n_embd, n_ff_exp, n_expert),
            "ffn_down_exps": (n_ff_exp, n_embd, n_expert),
        }
    shapes = {f"blk.{i}.{kind}.weight": ne for i in range(n_layer) for kind, ne in layer.items()}
    shapes["token_embd.weight"] = (n_embd, n_vocab)
    # transformers' default, and what is tied in all of these models if the config does not say
    if not config.fields.get("tie_word_embeddings", architecture.startswith("gemma")):
        shapes["output.weight"] = (n_embd, n_vocab)
    return shapes


def _vocabulary(path: Path) -> Vocabulary:
    if not path.exists():  # a plain LoRA needs none
        return Vocabulary("none", [], [])
    fields = _read_json(path)
    try:
        model = fields["model"]
        vocab = model["vocab"]
        chunks = {i: chunk for chunk, i in vocab.items()} if isinstance(vocab, dict) else {i: chunk for i, (chunk, _) in enumerate(vocab)}
        added = {token["id"]: token for token in fields.get("added_tokens") or []}
        n = 1 + max([*chunks, *added])
        if not 0 < n <= 10_000_000:
            raise ValueError(n)
        chunks |= {i: token["content"] for i, token in added.items()}
        tokens = [chunks.get(i, "").encode("utf-8", "replace") for i in range(n)]
        byte_level = '"ByteLevel"' in json.dumps([fields.get("pre_tokenizer"), fields.get("decoder")])
        is_byte = [not byte_level and len(t) == 6 and t.startswith(b"<0x") and t.endswith(b">") for t in tokens]
    except (KeyError, TypeError, ValueError, AttributeError):
        raise ConversionError(complaint(path, "file", "a tokenizer of the tokenizers library", "another structure", NAME_GGUF)) from None
    types = [CONTROL if i in added else BYTE if is_byte[i] else NORMAL for i in range(n)]
    return Vocabulary("gpt2" if byte_level else "llama", tokens, types)


class _Config:
    def __init__(self, path: Path, fields: dict[str, Any]):
        self.path, self.fields = path, fields

    def complaint(self, key: str, expected: str, got: object, action: str = "correct it") -> ConversionError:
        return ConversionError(complaint(self.path, f"key {key}", expected, got, action))

    def count(self, key: str, default: int | None = None, least: int = 1, limit: int = 2**31 - 1) -> int:
        value = self.fields.get(key)
        value = default if value is None else value
        if type(value) is not int or not least <= value <= limit:
            raise self.complaint(key, f"an integer from {least} to {limit}", value)
        return value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            fields = json.loads(file.read(MAX_JSON))
    except OSError as e:
        raise ConversionError(complaint(path, "file", "a readable file of the base model", e.strerror or e, NAME_GGUF)) from None
    except (ValueError, RecursionError) as e:
        raise ConversionError(complaint(path, "file", "a JSON object", e, "correct it")) from None
    if not isinstance(fields, dict):
        raise ConversionError(complaint(path, "file", "a JSON object", type(fields).__name__, "correct it"))
    return fields
