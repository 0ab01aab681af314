"""Writes a GGUF file in one pass, so that a reader sees either all of it or none."""

import os
import struct
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...errors import ConversionError
from ...text import complaint
from .file import ARRAY, SCALARS, STRING

ALIGNMENT = 32  # GGUF_DEFAULT_ALIGNMENT
VERSION = 3


@dataclass(frozen=True)
class Key:
    """A metadata entry; with `item_type` its value is a list and `gguf_type` is ARRAY."""

    name: str
    gguf_type: int
    value: Any
    item_type: int | None = None


@dataclass(frozen=True)
class TensorHeader:
    """ne: ggml's order, fastest dimension first."""

    name: str
    ne: tuple[int, ...]
    ggml_type: int
    n_bytes: int


def write_gguf(path: str | PathLike[str], keys: list[Key], tensors: list[TensorHeader], data: Iterable[np.ndarray]) -> int:
    """Writes the file at `path`, replacing one that is there, and returns its size in bytes.

    data: one uint8 array a tensor, in order, taken when its turn comes. The same arguments give
    the same bytes. On any exception, Ctrl-C included, `path` is as it was and nothing else is left.
    Raises ConversionError if the system refuses to write.
    """
    path = Path(path)
    try:
        with replacing(path) as file:
            file.write(header_bytes(keys, tensors))
            for tensor, values in zip(tensors, data, strict=True):
                if values.nbytes != tensor.n_bytes:
                    raise ValueError(f"{tensor.name}: {values.nbytes} bytes instead of {tensor.n_bytes}")
                file.write(values.data)
                file.write(bytes(_padding(tensor.n_bytes)))
            return file.tell()
    except OSError as e:
        raise ConversionError(
            complaint(path, "outfile", "a place that can be written", e.strerror or e, "name another outfile or make room")
        ) from None


def header_bytes(keys: list[Key], tensors: list[TensorHeader]) -> bytes:
    """Everything before the tensor data, padded to its start."""
    parts = [b"GGUF", struct.pack("<IQQ", VERSION, len(tensors), len(keys))]
    parts += [_string(key.name) + struct.pack("<I", key.gguf_type) + _value(key) for key in keys]
    offset = 0
    for tensor in tensors:
        parts.append(_string(tensor.name) + struct.pack(f"<I{len(tensor.ne)}QIQ", len(tensor.ne), *tensor.ne, tensor.ggml_type, offset))
        offset += tensor.n_bytes + _padding(tensor.n_bytes)
    header = b"".join(parts)
    return header + bytes(_padding(len(header)))


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the place of `path` when the block ends well, and vanishes when not."""
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _string(text: str) -> bytes:
    raw = text.encode("utf-8", "replace")
    return struct.pack("<Q", len(raw)) + raw


def _value(key: Key) -> bytes:
    if key.gguf_type == STRING:
        return _string(key.value)
    if key.gguf_type == ARRAY and key.item_type is not None:
        layout = f"<{len(key.value)}{SCALARS[key.item_type][1:]}"
        return struct.pack("<IQ", key.item_type, len(key.value)) + struct.pack(layout, *key.value)
    return struct.pack(SCALARS[key.gguf_type], key.value)


def _padding(n_bytes: int) -> int:
    return -n_bytes % ALIGNMENT
