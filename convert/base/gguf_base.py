"""What the converter asks of a base model's GGUF: architecture, heads, shapes, vocabulary, fingerprint."""

import hashlib
import re
import struct
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path

import numpy as np

from ...errors import ConversionError
from ...text import complaint
from ..gguf.file import ARRAY, STRING, UINT16, UINT32, Array, GGUFFile, TensorInfo
from .vocabulary import Vocabulary

MAX_LAYERS = 1000


@dataclass(frozen=True)
class Base:
    """shapes: tensor name -> ne (ggml's order). n_head, n_head_kv: one number a layer.

    fingerprint: None, and parts empty, for a Hugging Face folder.
    """

    path: Path
    architecture: str
    name: str | None
    organization: str | None
    n_layer: int
    n_head: tuple[int, ...]
    n_head_kv: tuple[int, ...]
    shapes: dict[str, tuple[int, ...]]
    vocabulary: Vocabulary
    fingerprint: str | None
    parts: tuple[GGUFFile, ...] = field(default=(), repr=False)

    def weight(self, name: str) -> "BaseWeight":
        """The matrix `name`, or that of the embeddings for the output head tied to them.

        Raises ConversionError if there is none, or it is of a type that gguf cannot dequantise.
        """
        name = name if name in self.shapes else {"output.weight": "token_embd.weight"}.get(name, name)
        for part in self.parts:
            if name in part.tensors:
                return BaseWeight(part, part.tensors[name])
        raise ConversionError(
            complaint(self.path, f"tensor {name}", "the base's weight, for DoRA's norms", "none", "name the base model's GGUF with --base")
        )


class BaseWeight:
    """A matrix of the base, dequantised by rows. shape: numpy's order [n_rows, n_values]."""

    def __init__(self, file: GGUFFile, info: TensorInfo):
        import gguf

        self._file, self._info = file, info
        what = f"tensor {info.name}"
        try:
            self._type = gguf.GGMLQuantizationType(info.ggml_type)
        except ValueError:
            raise file.complaint(what, "a type that gguf knows", f"ggml type {info.ggml_type}", "use another quantisation") from None
        block, block_bytes = gguf.GGML_QUANT_SIZES[self._type]
        n_values, n_rows = (*info.ne, 1)[:2]
        if len(_without_trailing_ones(info.ne)) > 2 or n_values % block:
            raise file.complaint(what, f"a matrix of rows of whole blocks of {block}", list(info.ne))
        self.shape, self._row_bytes = (n_rows, n_values), n_values // block * block_bytes
        end = file.data_start + info.offset + n_rows * self._row_bytes
        if end > file.n_bytes:
            raise file.complaint(what, f"{end} bytes in the file", file.n_bytes)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """float32 [stop - start, n_values]."""
        import gguf

        raw = self._file.tensor_data(self._info, (stop - start) * self._row_bytes, start * self._row_bytes)
        try:
            return gguf.dequantize(raw.reshape(stop - start, -1), self._type).reshape(stop - start, -1)
        except NotImplementedError as e:
            raise self._file.complaint(f"tensor {self._info.name}", "a type that gguf dequantises", e, "use another quantisation") from None


def read_base(path: str | PathLike[str]) -> Base:
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
        parts=tuple(parts),
    )


def base_fingerprint(path: str | PathLike[str]) -> str:
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


def _open_parts(path: str | PathLike[str]) -> list[GGUFFile]:
    file = GGUFFile(path, ConversionError)
    n_parts = file.get("split.count", UINT16, 1)
    if n_parts <= 1:
        return [file]
    stem = re.fullmatch(r"(.+)-00001-of-\d{5}\.gguf", file.path.name)
    if stem is None:
        raise file.complaint(
            "key split.count", f"the first of {n_parts} parts, <name>-00001-of-{n_parts:05}.gguf", file.path.name, "name the first part"
        )
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
    if key not in file.metadata:
        return default
    gguf_type, value = file.metadata[key]
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
