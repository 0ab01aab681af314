"""How each placed update becomes GGUF tensors: name, shape, type and scale."""

import re
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from .base.gguf_base import Base
from .gguf.tensor_types import F32, TensorType, type_for
from .gguf.writer import TensorHeader
from .lazy import Lazy
from .mapping.dora import row_factors
from .update import Placed

N_THREADS = 2


@dataclass(frozen=True)
class Tensor:
    """One tensor of the outfile."""

    name: str
    values: Lazy
    type: TensorType

    @property
    def header(self) -> TensorHeader:
        ne = self.values.shape[::-1]
        return TensorHeader(self.name, ne, self.type.ggml_type, self.type.n_bytes(ne))


@dataclass(frozen=True)
class Plan:
    """An update's tensors: lora_a and lora_b, then lora_bias and lora_magnitude where it has them."""

    placed: Placed
    tensors: list[Tensor]


def loader_scale(alpha: float, rank: int) -> float:
    """What llama.cpp multiplies B A by (llama_adapter_lora_weight::get_scale): alpha 0 counts as none."""
    return alpha / rank if alpha else 1.0


def fold_factor(placed: Placed, alpha: float) -> float:
    """The factor that lora_b takes so that a loader's alpha / rank gives PEFT's scaling.

    1 unless rsLoRA, a pattern or a sum of adapters is at work; what is 1 in F32's precision is 1.
    """
    fold = placed.scaling / loader_scale(float(np.float32(alpha)), placed.rank)
    return 1.0 if abs(fold - 1.0) < 2**-23 else fold


def make_plans(placed: list[Placed], base: Base, alpha: float, outtype: str) -> list[Plan]:
    """A plan for every update, in the order of the outfile: by layer, then by name. alpha: adapter.lora.alpha.

    Raises ConversionError where DoRA needs a weight that the base does not have.
    """
    return [_plan(update, base, fold_factor(update, alpha), outtype) for update in sorted(placed, key=_layer_then_name)]


def _plan(placed: Placed, base: Base, fold: float, outtype: str) -> Plan:
    a, b = placed.a, placed.b.times(fold)
    tensors = [
        Tensor(f"{placed.weight}.lora_a", a, type_for(outtype, a.dtype, a.shape[-1])),
        Tensor(f"{placed.weight}.lora_b", b, type_for(outtype, b.dtype, b.shape[-1])),
    ]
    if placed.bias is not None:
        tensors.append(Tensor(f"{placed.weight}.lora_bias", placed.bias.times(fold), F32))
    if placed.magnitude is not None:
        tensors.append(Tensor(f"{placed.weight}.lora_magnitude", row_factors(placed, placed.magnitude, base), F32))
    return Plan(placed, tensors)


def tensor_data(tensors: list[Tensor]) -> Iterator[np.ndarray]:
    """uint8 data of every tensor, in order. Raises ConversionError on values that do not fit.

    Two threads encode ahead of the writer (numpy casts without Python's lock), so a few tensors are in memory at a time.
    """
    with ThreadPoolExecutor(N_THREADS) as pool:
        ahead: deque[Future[np.ndarray]] = deque()
        for tensor in tensors:
            ahead.append(pool.submit(encode, tensor))
            if len(ahead) > N_THREADS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def encode(tensor: Tensor) -> np.ndarray:
    """uint8 data. Raises ConversionError on values beyond the type's range."""
    values = np.ascontiguousarray(tensor.values.read())
    largest = max(-float(values.min()), float(values.max()))
    if not largest <= tensor.type.largest:  # a NaN is not either: 0 times a fold that overflowed
        raise tensor.values.complaint(f"values up to {tensor.type.largest:g} for {tensor.type.name}", f"{largest:g}", "choose --outtype f32")
    return tensor.type.encode(values)


def _layer_then_name(placed: Placed) -> tuple[float, str]:
    layer = re.match(r"blk\.(\d+)\.", placed.weight)
    return (int(layer[1]) if layer else float("inf"), placed.weight)
