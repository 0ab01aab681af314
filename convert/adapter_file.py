"""An adapter GGUF's metadata and tensor table, checked strictly; neither gguf nor a base is needed."""

import math
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np

from ..errors import AdapterFileError
from . import adapter_metadata as keys
from .gguf.file import ARRAY, FLOAT32, STRING, TYPE_NAMES, UINT32, GGUFFile, TensorInfo
from .gguf.tensor_types import BY_GGML_TYPE, F32, TensorType
from .peft.decisions import FORMAT, TrainedDecisions, is_temperature

SIDES = ("lora_a", "lora_b", "lora_bias", "lora_magnitude")
AGAIN = "convert the adapter again"
MIB = 1 << 20


@dataclass(frozen=True)
class AdapterTensor:
    """One of a pair, or a vector beside it. ne: ggml's order; lora_a [n_in, r], lora_b [r, n_out], experts as third dimension."""

    name: str
    ne: tuple[int, ...]
    type: TensorType
    info: TensorInfo

    @property
    def n_bytes(self) -> int:
        return self.type.n_bytes(self.ne)


@dataclass(frozen=True)
class AdapterPair:
    """weight: the base's tensor that the pair adapts; scale: what a loader multiplies B A x + bias by.

    bias and magnitude: F32 [n_out], or None (docs/format.md).
    """

    weight: str
    a: AdapterTensor
    b: AdapterTensor
    rank: int
    scale: float
    bias: AdapterTensor | None = None
    magnitude: AdapterTensor | None = None

    @property
    def tensors(self) -> list[AdapterTensor]:
        return [tensor for tensor in (self.a, self.b, self.bias, self.magnitude) if tensor is not None]


@dataclass(frozen=True)
class AdapterMetadata:
    """What a runtime asks of an adapter file.

    kind is "alora" or "lora"; invocation_tokens is empty for a lora. What only this package's
    converter writes (texts, fingerprint) is None in the files of others.
    """

    path: Path
    name: str
    kind: str
    architecture: str
    alpha: float
    invocation_tokens: list[int]
    invocation_text: str | None
    fingerprint: str | None
    base_name: str | None
    description: str | None
    license: str | None
    invoked_after: str | None
    io_yaml: str | None
    decisions: TrainedDecisions | None
    repository: str | None
    revision: str | None
    n_tensors: int
    n_bytes: int


class AdapterFile:
    """An adapter GGUF: .metadata, .pairs in the file's order, and .read(tensor).

    Raises AdapterFileError (one line) on anything that is not a well-formed LoRA or aLoRA adapter.
    """

    def __init__(self, path: str | PathLike[str]):
        self.file = GGUFFile(path, AdapterFileError)
        self.metadata = self._metadata()
        self.pairs = self._pairs()

    def read(self, tensor: AdapterTensor) -> np.ndarray:
        """float32 in numpy's order, the reverse of ne: lora_a [r, n_in], lora_b [n_out, r]."""
        return tensor.type.decode(self.file.tensor_data(tensor.info, tensor.n_bytes), tensor.ne[::-1])

    def changes_nothing(self) -> bool:
        """Whether it leaves the base as it is, because every lora_b and bias is zero. Of other adapters only the first bytes are read."""
        return all(pair.magnitude is None and all(self._is_zero(tensor) for tensor in (pair.b, pair.bias) if tensor) for pair in self.pairs)

    def _is_zero(self, tensor: AdapterTensor) -> bool:
        """Looked for some blocks at a time."""
        step, n = MIB // tensor.type.block_bytes * tensor.type.block_bytes, tensor.n_bytes
        parts = (self.file.tensor_data(tensor.info, min(step, n - skip), skip) for skip in range(0, n, step))
        return all(tensor.type.is_zero(part) for part in parts)

    def _metadata(self) -> AdapterMetadata:
        file = self.file
        for key, expected in ((keys.TYPE, "adapter"), (keys.ADAPTER_TYPE, "lora")):
            if file.require(key, STRING) != expected:
                raise file.complaint(f"key {key}", expected, file.require(key, STRING), "name a LoRA adapter's GGUF")
        alpha = file.require(keys.ALPHA, FLOAT32)
        if not math.isfinite(alpha):
            raise file.complaint(f"key {keys.ALPHA}", "a finite number", alpha, AGAIN)
        tokens = self._invocation_tokens()
        kind = keys.ALORA if tokens else keys.LORA
        stated = file.get(keys.KIND, STRING, kind)
        if stated != kind:
            raise file.complaint(f"key {keys.KIND}", f"{kind}, as {keys.INVOCATION_TOKENS} says", stated, AGAIN)
        version = file.get(keys.FORMAT, UINT32, keys.FORMAT_VERSION)
        if version != keys.FORMAT_VERSION:
            raise file.complaint(f"key {keys.FORMAT}", str(keys.FORMAT_VERSION), version, "use the alora_gguf that wrote it")
        fingerprint = file.get(keys.FINGERPRINT, STRING)
        if fingerprint is not None and not _is_sha256(fingerprint):
            raise file.complaint(f"key {keys.FINGERPRINT}", "64 hex digits", fingerprint, AGAIN)
        return AdapterMetadata(
            path=file.path,
            name=file.get(keys.NAME, STRING) or file.path.stem,
            kind=kind,
            architecture=file.require(keys.ARCHITECTURE, STRING),
            alpha=alpha,
            invocation_tokens=tokens,
            invocation_text=file.get(keys.INVOCATION_TEXT, STRING),
            fingerprint=fingerprint,
            base_name=file.get(keys.BASE_NAME, STRING),
            description=file.get(keys.DESCRIPTION, STRING),
            license=file.get(keys.LICENSE, STRING),
            invoked_after=file.get(keys.INVOKED_AFTER, STRING),
            io_yaml=file.get(keys.IO_YAML, STRING),
            decisions=self._decisions(),
            repository=file.get(keys.REPOSITORY, STRING),
            revision=file.get(keys.REVISION, STRING),
            n_tensors=len(file.tensors),
            n_bytes=file.n_bytes,
        )

    def _decisions(self) -> TrainedDecisions | None:
        version = self.file.get(keys.DECISIONS, UINT32)
        if version is None:
            return None
        if version != FORMAT:
            raise self.file.complaint(f"key {keys.DECISIONS}", str(FORMAT), version, "use the alora_gguf that wrote it")
        temperature = {name: self.file.get(key, FLOAT32, 1.0) for name, key in keys.TEMPERATURES.items()}
        for name, value in temperature.items():
            if not is_temperature(value):
                raise self.file.complaint(f"key {keys.TEMPERATURES[name]}", "a number above 0", value, AGAIN)
        return TrainedDecisions(temperature)

    def _invocation_tokens(self) -> list[int]:
        array = self.file.get(keys.INVOCATION_TOKENS, ARRAY)
        if array is None:
            return []
        if array.item_type != UINT32:  # llama.cpp's loader takes no other
            raise self.file.complaint(f"key {keys.INVOCATION_TOKENS}", "an array of u32", f"an array of {TYPE_NAMES[array.item_type]}", AGAIN)
        tokens = self.file.items(array)
        if not tokens or max(tokens) >= 2**31:
            raise self.file.complaint(f"key {keys.INVOCATION_TOKENS}", "one or more token ids below 2^31", tokens[:8], AGAIN)
        return tokens

    def _pairs(self) -> list[AdapterPair]:
        sides: dict[str, dict[str, AdapterTensor]] = {}
        offset = 0
        for name, info in self.file.tensors.items():
            weight, _, side = name.rpartition(".")
            if not weight or side not in SIDES:
                raise self.file.complaint(f"tensor {name}", f"a name that ends in .{' or .'.join(SIDES)}", "another", AGAIN)
            tensor = self._tensor(info)
            if info.offset != offset:
                raise self.file.complaint(f"tensor {name}", f"offset {offset}", info.offset, AGAIN)
            offset += -(-tensor.n_bytes // self.file.alignment) * self.file.alignment
            sides.setdefault(weight, {})[side] = tensor
        if not sides:
            raise self.file.complaint("file", "lora_a and lora_b tensors", "none", AGAIN)
        return [self._pair(weight, pair) for weight, pair in sides.items()]

    def _tensor(self, info: TensorInfo) -> AdapterTensor:
        if info.ggml_type not in BY_GGML_TYPE:
            known = ", ".join(t.name for t in BY_GGML_TYPE.values())
            raise self.file.complaint(f"tensor {info.name}", f"type {known}", f"ggml type {info.ggml_type}", AGAIN)
        tensor = AdapterTensor(info.name, info.ne, BY_GGML_TYPE[info.ggml_type], info)
        if info.ne[0] % tensor.type.block:
            raise self.file.complaint(f"tensor {info.name}", f"rows of whole blocks of {tensor.type.block}", list(info.ne), AGAIN)
        end = self.file.data_start + info.offset + tensor.n_bytes
        if end > self.file.n_bytes:
            raise self.file.complaint(f"tensor {info.name}", f"{end} bytes in the file", self.file.n_bytes)
        return tensor

    def _pair(self, weight: str, sides: dict[str, AdapterTensor]) -> AdapterPair:
        if not {"lora_a", "lora_b"} <= sides.keys():
            raise self.file.complaint(f"tensor {weight}", "lora_a and lora_b", f"{' and '.join(sides)} only", AGAIN)
        a, b = sides["lora_a"], sides["lora_b"]
        rank = b.ne[0]
        # the rows of an embedding are looked up in lora_a, which lies the other way round
        rank_of_a = a.ne[0] if weight == "token_embd.weight" else (a.ne[1:2] or (1,))[0]
        if rank != rank_of_a or a.ne[2:] != b.ne[2:]:
            raise self.file.complaint(f"tensor {weight}", "lora_a [n_in, r] and lora_b [r, n_out]", f"{list(a.ne)} and {list(b.ne)}", AGAIN)
        bias, magnitude = sides.get("lora_bias"), sides.get("lora_magnitude")
        for vector in (bias, magnitude):
            if vector is not None and (vector.ne != b.ne[1:] or vector.type is not F32):
                raise self.file.complaint(
                    f"tensor {vector.name}", f"f32 {list(b.ne[1:2])} beside a pair of one matrix", f"{vector.type.name} {list(vector.ne)}", AGAIN
                )
        alpha = self.metadata.alpha
        return AdapterPair(weight, a, b, rank, alpha / rank if alpha else 1.0, bias, magnitude)


def read_adapter_metadata(path: str | PathLike[str]) -> AdapterMetadata:
    """The metadata of the adapter GGUF at `path`, its tensor table checked too. Raises AdapterFileError."""
    return AdapterFile(path).metadata


def _is_sha256(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")
