"""The ggml types of adapter tensors, and which of them a tensor gets for an outtype."""

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TensorType:
    """Rows are stored in blocks of `block` values, `block_bytes` each. file_type: llama.cpp's LlamaFileType."""

    name: str
    ggml_type: int
    block: int
    block_bytes: int
    file_type: int

    def n_bytes(self, ne: tuple[int, ...]) -> int:
        return math.prod(ne) // self.block * self.block_bytes

    def encode(self, values: np.ndarray) -> np.ndarray:
        """float32 [..., n] to uint8 [...], rounded to nearest. Values beyond the type's range become infinite."""
        if self is F32:
            return values.astype("<f4", copy=False).view(np.uint8)
        if self is F16:
            with np.errstate(over="ignore"):
                return values.astype("<f2").view(np.uint8)
        import gguf

        return gguf.quantize(values, gguf.GGMLQuantizationType(self.ggml_type))

    def decode(self, data: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """uint8 to float32 of `shape` (numpy's order)."""
        if self is F32:
            return data.view("<f4").reshape(shape)
        if self is F16:
            return data.view("<f2").astype(np.float32).reshape(shape)
        import gguf

        rows = data.reshape(*shape[:-1], -1)
        return gguf.dequantize(rows, gguf.GGMLQuantizationType(self.ggml_type)).reshape(shape)

    def is_zero(self, data: np.ndarray) -> bool:
        """Whether all values of whole blocks (uint8) are zero, of either sign."""
        if self is Q8_0:
            return not data.any()
        bits = data.view("<u4") << 1 if self is F32 else data.view("<u2") << 1
        return not bits.any()

    @property
    def largest(self) -> float:
        """The largest magnitude that can be encoded."""
        # Q8_0 has an F16 scale of 1/127 of the block's largest value
        return {"f16": 65504.0, "q8_0": 65504.0 * 127}.get(self.name, float(np.finfo(np.float32).max))


F32 = TensorType("f32", 0, 1, 4, 0)
F16 = TensorType("f16", 1, 1, 2, 1)
Q8_0 = TensorType("q8_0", 8, 32, 34, 7)
BF16 = TensorType("bf16", 30, 1, 2, 32)

BY_GGML_TYPE = {t.ggml_type: t for t in (F32, F16, Q8_0, BF16)}
OUTTYPES = ("f32", "f16", "bf16", "q8_0", "auto")


def type_for(outtype: str, dtype: str, row_length: int) -> TensorType:
    """The type of a tensor of `dtype` (F32, F16, BF16).

    q8_0 needs rows of whole blocks of 32 and gives way to f16 elsewhere. auto loses nothing: the
    saved dtype, which is F32 for what was computed.
    """
    if outtype == "q8_0":
        return Q8_0 if row_length % Q8_0.block == 0 else F16
    if outtype == "auto":
        return {"F32": F32, "F16": F16, "BF16": BF16}[dtype]
    return {"f32": F32, "f16": F16, "bf16": BF16}[outtype]
