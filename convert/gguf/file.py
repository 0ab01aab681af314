"""The header of a GGUF file, read lazily and without trust.

`gguf.GGUFReader` decodes every string of the vocabulary and takes seconds on a small model; what
a converter asks is answered here in milliseconds. Arrays stay undecoded until asked for.
Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import mmap
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import AdapterFileError
from ...text import complaint

STRING, ARRAY = 8, 9
UINT16, UINT32, FLOAT32 = 2, 4, 6
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
TYPE_NAMES = ("u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "str", "arr", "u64", "i64", "f64")

MAX_DIMS = 4  # GGML_MAX_DIMS
MAX_NAME = 63  # GGML_MAX_NAME less the terminating zero
DAMAGED = "the file is damaged or incomplete, get it again"


@dataclass(frozen=True)
class Array:
    """An array of `n` items of GGUF type `item_type`, as the bytes [start, end) of the file."""

    item_type: int
    n: int
    start: int
    end: int


@dataclass(frozen=True)
class TensorInfo:
    """ne: dimensions in ggml's order (fastest first), trailing ones kept as the file has them."""

    name: str
    ne: tuple[int, ...]
    ggml_type: int
    offset: int  # bytes from the start of the data section


class GGUFFile:
    """metadata: key -> (type, value), where the value of an array is an `Array`; tensors: name -> TensorInfo.

    Raises `error` (one line) on anything that is not a well-formed little-endian GGUF 2 or 3.
    The file stays mapped while the object lives.
    """

    def __init__(self, path: str | PathLike[str], error: type[Exception] = AdapterFileError):
        self.path = Path(path)
        self.error = error
        try:
            with open(self.path, "rb") as file:
                self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except OSError as e:
            raise self.complaint("file", "a readable GGUF file", e.strerror or e, "check the path") from None
        except ValueError:  # mmap refuses an empty file
            raise self.complaint("file", "a GGUF file", "an empty file", DAMAGED) from None
        self.n_bytes = len(self._data)
        self._pos = 0
        self._parse()

    def complaint(self, what: str, expected: str, got: object, action: str = DAMAGED) -> Exception:
        return self.error(complaint(self.path, what, expected, got, action))

    # -- typed access ------------------------------------------------------------------------

    def get(self, key: str, gguf_type: int, default: Any = None) -> Any:
        """The value of `key`, `default` if there is none. Raises if it has another type."""
        if key not in self.metadata:
            return default
        actual, value = self.metadata[key]
        if actual != gguf_type:
            raise self.complaint(f"key {key}", TYPE_NAMES[gguf_type], TYPE_NAMES[actual], "convert it again")
        return value

    def require(self, key: str, gguf_type: int) -> Any:
        """The value of `key`. Raises if it is missing or has another type."""
        value = self.get(key, gguf_type)
        if value is None:
            raise self.complaint(f"key {key}", TYPE_NAMES[gguf_type], "no such key", "convert it again")
        return value

    def items(self, array: Array) -> list[Any]:
        """The decoded items; bytes that are not UTF-8 become U+FFFD."""
        if array.item_type == STRING:
            return [raw.decode("utf-8", "replace") for raw in self.decode_strings(array)]
        return np.frombuffer(self._data, SCALARS[array.item_type], array.n, array.start).tolist()

    def raw(self, array: Array) -> bytes:
        """The bytes of the array's items as the file has them."""
        return self._data[array.start : array.end]

    def raw_strings(self, array: Array) -> "Strings":
        """Decoded when the first is asked for: a vocabulary takes a tenth of a second."""
        return Strings(self, array)

    def decode_strings(self, array: Array) -> list[bytes]:
        data, pos, strings = self._data, array.start, []
        for _ in range(array.n):
            (length,) = _U64.unpack_from(data, pos)
            pos += 8 + length
            strings.append(data[pos - length : pos])
        return strings

    def tensor_data(self, info: TensorInfo, n_bytes: int, skip: int = 0) -> np.ndarray:
        """uint8 [n_bytes], a copy, from `skip` bytes after the tensor's start."""
        start = self.data_start + info.offset + skip
        return np.frombuffer(self._data[start : start + n_bytes], np.uint8)

    # -- parsing -----------------------------------------------------------------------------

    def _parse(self) -> None:
        if self._take(4, "magic") != b"GGUF":
            raise self.complaint("magic", "GGUF", repr(self._data[:4])[1:], "name a GGUF file")
        version = self._scalar("<I", "version")
        if version not in (2, 3):
            raise self.complaint("version", "2 or 3, little-endian", version, "convert it again with a current llama.cpp")
        n_tensors = self._scalar("<Q", "tensor count")
        n_keys = self._scalar("<Q", "key count")

        self.metadata: dict[str, tuple[int, Any]] = {}
        for _ in range(n_keys):  # each takes bytes from the file, so a lying count ends at the file's end
            key = self._name("key name")
            if key in self.metadata:
                raise self.complaint(f"key {key}", "a key once", "it twice")
            gguf_type = self._scalar("<I", f"type of key {key}")
            self.metadata[key] = (gguf_type, self._value(gguf_type, key))

        self.tensors: dict[str, TensorInfo] = {}
        for _ in range(n_tensors):
            info = self._tensor_info()
            if info.name in self.tensors:
                raise self.complaint(f"tensor {info.name}", "a name once", "it twice")
            self.tensors[info.name] = info

        self.alignment = self.get("general.alignment", UINT32, 32)
        if self.alignment == 0 or self.alignment & (self.alignment - 1):
            raise self.complaint("key general.alignment", "a power of two", self.alignment)
        self.data_start = -(-self._pos // self.alignment) * self.alignment

    def _take(self, n: int, what: str) -> bytes:
        if n > self.n_bytes - self._pos:
            raise self.complaint(what, f"{n} bytes at offset {self._pos}", f"{self.n_bytes - self._pos} left in the file")
        self._pos += n
        return self._data[self._pos - n : self._pos]

    def _scalar(self, layout: str, what: str) -> Any:
        return struct.unpack(layout, self._take(struct.calcsize(layout), what))[0]

    def _name(self, what: str) -> str:
        raw = self._take(self._scalar("<Q", what), what)
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError:
            raise self.complaint(what, "UTF-8", repr(raw[:32])[1:]) from None

    def _value(self, gguf_type: int, key: str) -> Any:
        if gguf_type in SCALARS:
            return self._scalar(SCALARS[gguf_type], f"key {key}")
        if gguf_type == STRING:
            return self._take(self._scalar("<Q", f"key {key}"), f"key {key}").decode("utf-8", "replace")
        if gguf_type != ARRAY:
            raise self.complaint(f"key {key}", "a GGUF value type (0 to 12)", gguf_type)
        item_type = self._scalar("<I", f"key {key}")
        n = self._scalar("<Q", f"key {key}")
        start = self._pos
        if item_type == STRING:
            self._skip_strings(n, key)
        elif item_type in SCALARS:
            self._skip(n * struct.calcsize(SCALARS[item_type]), key)
        else:
            raise self.complaint(f"key {key}", "an array of scalars or strings", f"item type {item_type}")
        return Array(item_type, n, start, self._pos)

    def _skip(self, n: int, key: str) -> None:
        if n > self.n_bytes - self._pos:
            raise self.complaint(f"key {key}", f"{n} bytes at offset {self._pos}", f"{self.n_bytes - self._pos} left in the file")
        self._pos += n

    def _skip_strings(self, n: int, key: str) -> None:
        if n * 8 > self.n_bytes - self._pos:
            raise self.complaint(f"key {key}", f"{n} strings", f"{self.n_bytes - self._pos} bytes left in the file")
        data, pos, last, unpack = self._data, self._pos, self.n_bytes - 8, _U64.unpack_from
        for i in range(n):
            if pos > last:
                raise self.complaint(f"key {key}", f"{n} strings", f"the file's end after {i}")
            pos += 8 + unpack(data, pos)[0]
        if pos > self.n_bytes:
            raise self.complaint(f"key {key}", f"{n} strings", "a last one that ends beyond the file")
        self._pos = pos

    def _tensor_info(self) -> TensorInfo:
        name = self._name("tensor name")
        if not 0 < len(name.encode()) <= MAX_NAME:
            raise self.complaint("tensor name", f"1 to {MAX_NAME} bytes", f"{len(name.encode())} ({name[:32]})")
        n_dims = self._scalar("<I", f"tensor {name}")
        if not 0 < n_dims <= MAX_DIMS:
            raise self.complaint(f"tensor {name}", f"1 to {MAX_DIMS} dimensions", n_dims)
        ne = struct.unpack(f"<{n_dims}Q", self._take(8 * n_dims, f"tensor {name}"))
        if min(ne) == 0 or max(ne) >= 2**63:
            raise self.complaint(f"tensor {name}", "positive dimensions", list(ne))
        return TensorInfo(name, ne, self._scalar("<I", f"tensor {name}"), self._scalar("<Q", f"tensor {name}"))


class Strings(Sequence[bytes]):
    """The strings of an array, as bytes."""

    def __init__(self, file: GGUFFile, array: Array):
        self._file, self._array = file, array

    def __len__(self) -> int:
        return self._array.n

    def __getitem__(self, i: Any) -> Any:
        return self._decoded[i]

    @cached_property
    def _decoded(self) -> list[bytes]:
        return self._file.decode_strings(self._array)


_U64 = struct.Struct("<Q")
