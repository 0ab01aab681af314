"""Tensors of a safetensors file, read one at a time and without trust.

Layout: u64 length of a JSON header, the header, then the tensors' bytes, without holes.
The header's offsets are checked against shapes, dtypes and the file's size before any is used.
"""

import json
import math
import struct
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from ...errors import ConversionError
from ...text import complaint
from ..lazy import Lazy

FLOATS = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}
MAX_HEADER = 100_000_000  # the limit of the safetensors library
DAMAGED = "the file is damaged or incomplete, get it again"


@dataclass(frozen=True)
class Entry:
    """One tensor: shape in torch's order, [start, end) in bytes from the file's beginning."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


class SafetensorsFile:
    """entries: name -> Entry, in the file's order. Only F32, F16 and BF16 tensors are accepted.

    Raises ConversionError on a header that is malformed or lies.
    """

    def __init__(self, path: str | PathLike[str]):
        self.path = Path(path)
        try:
            with open(self.path, "rb") as file:
                n_bytes = file.seek(0, 2)
                file.seek(0)
                prefix = file.read(8)
                n_header = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else n_bytes + 1
                if n_header > min(n_bytes - 8, MAX_HEADER):
                    raise self.complaint(
                        "header", f"a length within the file's {n_bytes} bytes", n_header if len(prefix) == 8 else f"only {n_bytes} bytes"
                    )
                header = file.read(n_header)
        except OSError as e:
            raise self.complaint("file", "a readable safetensors file", e.strerror or e, "check the path") from None
        self.entries = {e.name: e for e in self._entries(header, 8 + n_header, n_bytes)}

    def complaint(self, what: str, expected: str, got: object, action: str = DAMAGED) -> ConversionError:
        return ConversionError(complaint(self.path, what, expected, got, action))

    def tensors(self) -> dict[str, Lazy]:
        """name -> Lazy, in the file's order."""
        return {name: Lazy.saved(self.path, name, entry.shape, entry.dtype, partial(self.read, entry)) for name, entry in self.entries.items()}

    def read(self, entry: Entry) -> np.ndarray:
        """float32 of the entry's shape, exactly the stored values."""
        try:
            with open(self.path, "rb") as file:
                file.seek(entry.start)
                values = np.fromfile(file, FLOATS[entry.dtype], math.prod(entry.shape))
        except OSError as e:
            raise self.complaint(f"tensor {entry.name}", "a readable file", e.strerror or e, "check the disk") from None
        if values.size != math.prod(entry.shape):
            raise self.complaint(f"tensor {entry.name}", f"{math.prod(entry.shape)} values", values.size)
        if entry.dtype == "BF16":
            values = values.astype(np.uint32)
            values <<= 16
            values = values.view(np.float32)
        return values.astype(np.float32, copy=False).reshape(entry.shape)

    def _entries(self, header: bytes, data_start: int, n_bytes: int) -> list[Entry]:
        described = self._json(header)
        described.pop("__metadata__", None)
        entries = [self._entry(name, fields, data_start) for name, fields in described.items()]
        end = data_start
        for e in sorted(entries, key=lambda e: (e.start, e.end)):
            if e.start != end:
                raise self.complaint(f"tensor {e.name}", f"to begin at byte {end}", e.start)
            end = e.end
        if end != n_bytes:
            raise self.complaint("file", f"{end} bytes as its header says", n_bytes)
        return entries

    def _json(self, header: bytes) -> dict[str, Any]:
        def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            fields = dict(pairs)
            if len(fields) != len(pairs):
                raise ValueError("a name twice")
            return fields

        try:
            described = json.loads(header, object_pairs_hook=once)
        except (ValueError, RecursionError) as e:
            raise self.complaint("header", "a JSON object", e) from None
        if not isinstance(described, dict):
            raise self.complaint("header", "a JSON object", type(described).__name__)
        return described

    def _entry(self, name: str, fields: Any, data_start: int) -> Entry:
        what = f"tensor {name}"
        if not isinstance(fields, dict) or not {"dtype", "shape", "data_offsets"} <= fields.keys():
            raise self.complaint(what, "dtype, shape and data_offsets", fields)
        dtype, shape, offsets = fields["dtype"], fields["shape"], fields["data_offsets"]
        if not isinstance(dtype, str) or dtype not in FLOATS:
            raise self.complaint(what, "F32, F16 or BF16", dtype, "save the adapter in one of these")
        if not _are_counts(shape):
            raise self.complaint(what, "a shape of non-negative integers", shape)
        if not _are_counts(offsets) or len(offsets) != 2:
            raise self.complaint(what, "two data_offsets", offsets)
        n_bytes = math.prod(shape) * np.dtype(FLOATS[dtype]).itemsize
        if offsets[1] - offsets[0] != n_bytes:
            raise self.complaint(what, f"{n_bytes} bytes for {dtype} {shape}", f"data_offsets {offsets}")
        return Entry(name, dtype, tuple(shape), data_start + offsets[0], data_start + offsets[1])


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(type(v) is int and 0 <= v < 2**63 for v in values)


def write_safetensors(file: BinaryIO, tensors: list[tuple[str, Lazy]]) -> None:
    """Writes names and tensors, in their dtypes, in the order given; one tensor in memory at a time."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, lazy in tensors:
        end = start + math.prod(lazy.shape) * np.dtype(FLOATS[lazy.dtype]).itemsize
        header[name] = {"dtype": lazy.dtype, "shape": list(lazy.shape), "data_offsets": [start, end]}
        start = end
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    file.write(struct.pack("<Q", len(raw)) + raw)
    for _, lazy in tensors:
        values = np.ascontiguousarray(lazy.read(), np.float32)
        if lazy.dtype == "BF16":  # the values came from BF16
            values = (values.view(np.uint32) >> 16).astype(FLOATS["BF16"])
        file.write(values.astype(FLOATS[lazy.dtype], copy=False).data)
