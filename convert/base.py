"""What the converter asks of a base model's GGUF: architecture, heads, shapes, vocabulary, fingerprint."""

import hashlib
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConversionError
from .gguf_file import ARRAY, STRING, UINT16, UINT32, Array, GGUFFile
from .vocabulary import Vocabulary

MAX_LAYERS = 1000


@dataclass(frozen=True)
class Base:
    """shapes: tensor name -> ne (ggml's order). n_head, n_head_kv: one number a layer."""

    path: Path
    architecture: str
    name: str | None
    organization: str | None
    n_layer: int
    n_head: tuple[int, ...]
    n_head_kv: tuple[int, ...]
    shapes: dict[str, tuple[int, ...]]
    vocabulary: Vocabulary
    fingerprint: str


def read_base(path) -> Base:
    """The base model of the GGUF at `path`, the first part if it is split.

    Raises ConversionError if it is no model, damaged, or lacks a part.
    """
    parts = _open_parts(path)
    file = parts[0]
    kind = file.get("general.type", STRING, "model")
    if kind != "model":
        raise file.complaint("key general.type", "model", kind, "name the base model, not an adapter")
    architecture = file.require("general.architecture", STRING)
    n_layer = file.require(f"{architecture}.block_count", UINT32)
    if not 0 < n_layer <= MAX_LAYERS:
        raise file.complaint(f"key {architecture}.block_count", f"1 to {MAX_LAYERS}", n_layer)
    n_head = _per_layer(file, f"{architecture}.attention.head_count", n_layer)
    return Base(
        path=file.path,
        architecture=architecture,
        name=file.get("general.name", STRING),
        organization=file.get("general.organization", STRING),
        n_layer=n_layer,
        n_head=n_head,
        n_head_kv=_per_layer(file, f"{architecture}.attention.head_count_kv", n_layer, n_head),
        shapes=_shapes(parts),
        vocabulary=_vocabulary(file),
        fingerprint=_fingerprint(parts),
    )


def base_fingerprint(path) -> str:
    """The fingerprint of the base GGUF at `path`, 64 hex digits. Raises ConversionError if it is no GGUF model."""
    return _fingerprint(_open_parts(path))


def _fingerprint(parts: list[GGUFFile]) -> str:
    """SHA-256 of what an adapter depends on, equal for every quantisation of a model (docs/format.md).

    Tensors of one dimension are left out: no adapter touches them, and converters come and go with
    them (rope_freqs, biases folded away).
    """
    digest = hashlib.sha256(b"alora base fingerprint 1\n")
    digest.update(parts[0].require("general.architecture", STRING).encode() + b"\n")
    for name, ne in sorted(_shapes(parts).items()):
        ne = _without_trailing_ones(ne)
        if len(ne) > 1:
            digest.update(f"{name} {'x'.join(map(str, ne))}\n".encode())
    tokens = _tokens(parts[0])
    digest.update(struct.pack("<Q", tokens.n) + parts[0].raw(tokens))
    return digest.hexdigest()


def _open_parts(path) -> list[GGUFFile]:
    file = GGUFFile(path, ConversionError)
    n_parts = file.get("split.count", UINT16, 1)
    if n_parts <= 1:
        return [file]
    stem = re.fullmatch(r"(.+)-00001-of-\d{5}\.gguf", file.path.name)
    if stem is None:
        raise file.complaint("key split.count", f"the first of {n_parts} parts, <name>-00001-of-{n_parts:05}.gguf",
                             file.path.name, "name the first part")
    rest = (file.path.with_name(f"{stem[1]}-{i:05}-of-{n_parts:05}.gguf") for i in range(2, n_parts + 1))
    return [file, *(GGUFFile(part, ConversionError) for part in rest)]


def _shapes(parts: list[GGUFFile]) -> dict[str, tuple[int, ...]]:
    return {name: info.ne for part in parts for name, info in part.tensors.items()}


def _tokens(file: GGUFFile) -> Array:
    tokens = file.get("tokenizer.ggml.tokens", ARRAY, Array(STRING, 0, 0, 0))  # a base may come without a vocabulary
    if tokens.item_type != STRING:
        raise file.complaint("key tokenizer.ggml.tokens", "an array of strings", f"item type {tokens.item_type}")
    return tokens


def _vocabulary(file: GGUFFile) -> Vocabulary:
    types = file.get("tokenizer.ggml.token_type", ARRAY)
    return Vocabulary(
        model=file.get("tokenizer.ggml.model", STRING, "none"),
        tokens=file.raw_strings(_tokens(file)),
        types=file.items(types) if types is not None and types.item_type != STRING else [],
    )


def _per_layer(file: GGUFFile, key: str, n_layer: int, default: tuple[int, ...] = ()) -> tuple[int, ...]:
    gguf_type, value = file.metadata.get(key, (None, None))
    if gguf_type is None:
        return default
    if gguf_type == UINT32:
        return (value,) * n_layer
    if gguf_type != ARRAY or value.item_type == STRING or value.n < n_layer:
        raise file.complaint(f"key {key}", f"a u32 or an array of {n_layer}", "another type or length")
    return tuple(file.items(value)[:n_layer])


def _without_trailing_ones(ne: tuple[int, ...]) -> tuple[int, ...]:
    n = len(ne)
    while n > 1 and ne[n - 1] == 1:
        n -= 1
    return ne[:n]
