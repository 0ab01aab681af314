"""The models and adapters that are measured, made once and kept in a folder.

135m is the embedded model with its Q4_1 weights in Q4_0, and with mean embeddings for the tokens that would end
an answer; the others have random Q4_0 weights in the shapes of Llama 3.2 1B and 3B, with the embedded model's
vocabulary. Adapters are random, of rank 32 on all linear layers, saved as PEFT saves them and converted by
alora_gguf.convert.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

from ..bundled import default_model
from ..convert import convert
from ..errors import ModelLoadError

RANK = 32
QUESTION = ": when does it come back?"  # behind a word that is another each time
N_CTX = 8192  # trained with, or said to be

Q4_0, Q8_0 = gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q8_0


@dataclass(frozen=True)
class Shape:
    n_layer: int
    n_embd: int
    n_ff: int
    n_head: int
    n_head_kv: int

    def linear(self) -> dict[str, tuple[str, int, int]]:
        """(PEFT's module, n_in, n_out) of each linear weight of a layer, by its name in a GGUF."""
        n_kv = self.n_embd // self.n_head * self.n_head_kv
        return {
            "attn_q": ("self_attn.q_proj", self.n_embd, self.n_embd),
            "attn_k": ("self_attn.k_proj", self.n_embd, n_kv),
            "attn_v": ("self_attn.v_proj", self.n_embd, n_kv),
            "attn_output": ("self_attn.o_proj", self.n_embd, self.n_embd),
            "ffn_gate": ("mlp.gate_proj", self.n_embd, self.n_ff),
            "ffn_up": ("mlp.up_proj", self.n_embd, self.n_ff),
            "ffn_down": ("mlp.down_proj", self.n_ff, self.n_embd),
        }


SHAPES = {
    "tiny": Shape(2, 256, 512, 4, 2),
    "135m": Shape(30, 576, 1536, 9, 3),
    "1b": Shape(16, 2048, 8192, 32, 8),
    "3b": Shape(28, 3072, 8192, 24, 8),
}


class Files:
    """Models and adapters by name, in `folder`; what is not there yet is made."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def model(self, name: str) -> Path:
        if name not in SHAPES:
            raise ModelLoadError(f"model {name!r}: expected one of {', '.join(SHAPES)}, got another; choose one of them")
        path = self.folder / f"{name}-q4_0.gguf"
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            _write_embedded(part) if name == "135m" else _write_random(part, SHAPES[name])
            part.replace(path)
        return path

    def peft_adapter(self, model: str, number: int) -> Path:
        """A PEFT adapter's folder; the same number is the same adapter."""
        path = self.folder / f"{model}-peft" / f"{number:02}"
        if not (path / "adapter_config.json").exists():
            path.mkdir(parents=True, exist_ok=True)
            _write_adapter(path, SHAPES[model], number)
        return path

    def adapter(self, model: str, number: int, outtype: str = "f16") -> Path:
        """The same adapter as a GGUF file."""
        path = self.folder / f"{model}-{outtype}" / f"{number:02}.gguf"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(".part")
            convert(self.peft_adapter(model, number), part, base=self.model(model), outtype=outtype)
            part.replace(path)
        return path

    def adapters(self, model: str, n: int, outtype: str = "f16") -> list[Path]:
        return [self.adapter(model, i, outtype) for i in range(n)]


def invocation_of(number: int) -> list[int]:
    """The invocation tokens of adapter `number`."""
    return [1000 + number, 2000, 3000]


def _write_embedded(out: Path) -> None:
    source = gguf.GGUFReader(default_model())
    writer = _writer(out, source)
    for t in source.tensors:
        shape = [int(n) for n in reversed(t.shape)]
        if t.tensor_type == gguf.GGMLQuantizationType.Q4_1:
            weights = gguf.quants.dequantize(t.data, t.tensor_type).reshape(shape)
            writer.add_tensor(t.name, gguf.quants.quantize(weights, Q4_0), raw_dtype=Q4_0)
        elif t.name == "token_embd.weight":
            embeddings = np.array(t.data)
            mean = gguf.quants.dequantize(t.data, t.tensor_type).mean(0, keepdims=True)
            embeddings[_ends(source)] = gguf.quants.quantize(mean, t.tensor_type)
            writer.add_tensor(t.name, embeddings, raw_dtype=t.tensor_type)
        else:
            writer.add_tensor(t.name, t.data.reshape(shape))
    _close(writer)


def _write_random(out: Path, shape: Shape) -> None:
    source = gguf.GGUFReader(default_model())
    n_vocab = len(source.fields["tokenizer.ggml.tokens"].contents())
    writer = _writer(
        out,
        source,
        {
            "block_count": shape.n_layer,
            "embedding_length": shape.n_embd,
            "feed_forward_length": shape.n_ff,
            "attention.head_count": shape.n_head,
            "attention.head_count_kv": shape.n_head_kv,
            "rope.dimension_count": shape.n_embd // shape.n_head,
            "context_length": N_CTX,
        },
    )
    rng = np.random.default_rng(0)
    embeddings = rng.standard_normal((n_vocab, shape.n_embd), np.float32) * 0.02
    embeddings[_ends(source)] = embeddings.mean(0)
    writer.add_tensor("token_embd.weight", gguf.quants.quantize(embeddings, Q8_0), raw_dtype=Q8_0)
    writer.add_tensor("output_norm.weight", np.ones(shape.n_embd, np.float32))
    for layer in range(shape.n_layer):
        for norm in "attn_norm", "ffn_norm":
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(shape.n_embd, np.float32))
        for name, (_, n_in, n_out) in shape.linear().items():
            writer.add_tensor(f"blk.{layer}.{name}.weight", _random_q4_0(rng, n_out, n_in), raw_dtype=Q4_0)
    _close(writer)


def _ends(source: gguf.GGUFReader) -> list[int]:
    """The control tokens but the one that begins a message: their logits shall be the mean of all, so that no answer ends early."""
    types, bos = source.fields["tokenizer.ggml.token_type"].contents(), source.fields["tokenizer.ggml.bos_token_id"].contents()
    return [i for i, kind in enumerate(types) if kind == gguf.TokenType.CONTROL and i != bos]


def _random_q4_0(rng: np.random.Generator, n_out: int, n_in: int) -> np.ndarray:
    """Blocks of Q4_0, uint8 [n_out, bytes of n_in], that keep the length of an activation."""
    blocks = rng.integers(0, 256, (n_out, n_in // 32, 18), np.uint8)
    # the 16 levels of a block, evenly used, have a standard deviation of 4.6 times its scale
    blocks[..., :2] = np.array([1 / (4.6 * n_in**0.5)], np.float16).view(np.uint8)
    return blocks.reshape(n_out, -1)


def _writer(out: Path, source: gguf.GGUFReader, changed: dict[str, int] | None = None) -> gguf.GGUFWriter:
    """With the keys of `source`, but for those of the architecture in `changed`."""
    writer = gguf.GGUFWriter(out, "llama")
    for field in source.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        value = (changed or {}).get(field.name.removeprefix("llama."), field.contents())
        writer.add_key_value(field.name, value, kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    return writer


def _close(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_adapter(folder: Path, shape: Shape, number: int) -> None:
    rng = np.random.default_rng(number + 1)
    tensors = {}
    for layer in range(shape.n_layer):
        for module, n_in, n_out in shape.linear().values():
            prefix = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{prefix}.lora_A.weight"] = _random_f16(rng, RANK, n_in, n_in**-0.5)
            tensors[f"{prefix}.lora_B.weight"] = _random_f16(rng, n_out, RANK, 0.05)
    _write_safetensors(folder / "adapter_model.safetensors", tensors)
    (folder / "adapter_config.json").write_text(
        json.dumps(
            {
                "peft_type": "LORA",
                "task_type": "CAUSAL_LM",
                "r": RANK,
                "lora_alpha": RANK,
                "lora_dropout": 0.0,
                "bias": "none",
                "target_modules": [module.split(".")[-1] for module, _, _ in shape.linear().values()],
                "base_model_name_or_path": None,
                "alora_invocation_tokens": invocation_of(number),
            }
        )
    )


def _random_f16(rng: np.random.Generator, n_rows: int, n_columns: int, std: float) -> np.ndarray:
    return (rng.standard_normal((n_rows, n_columns), np.float32) * std).astype(np.float16)


def _write_safetensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """F16 tensors, as https://github.com/huggingface/safetensors describes the format."""
    header, offset = {}, 0
    for name, tensor in tensors.items():
        header[name] = {"dtype": "F16", "shape": tensor.shape, "data_offsets": [offset, offset + tensor.nbytes]}
        offset += tensor.nbytes
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors.values():
            file.write(tensor.tobytes())
