"""How each pair of an adapter becomes two GGUF tensors: name, shape, type, row order and scale."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import ConversionError
from .base import Base
from .families import Target, target_of
from .peft_adapter import Pair, PeftAdapter
from .peft_config import PeftConfig
from .safetensors_file import Entry, SafetensorsFile
from .tensor_types import TensorType, type_for
from .text import complaint
from .writer import TensorHeader


@dataclass(frozen=True)
class Plan:
    """fold: the factor that lora_b takes so that a loader's alpha / rank gives PEFT's scaling."""

    pair: Pair
    target: Target
    fold: float
    type_a: TensorType
    type_b: TensorType


def loader_scale(alpha: float, rank: int) -> float:
    """What llama.cpp multiplies B A by (llama_adapter_lora_weight::get_scale): alpha 0 counts as none."""
    return alpha / rank if alpha else 1.0


def fold_factor(config: PeftConfig, module: str) -> float:
    """PEFT's scaling of `module` over the loader's. 1 unless rsLoRA or an alpha_pattern is at work."""
    alpha = float(np.float32(config.lora_alpha))  # as the file holds it
    if config.alpha(module) == config.lora_alpha and not config.use_rslora and alpha:
        return 1.0
    return config.scaling(module) / loader_scale(alpha, config.rank(module))


def make_plans(adapter: PeftAdapter, base: Base, outtype: str) -> list[Plan]:
    """A plan for every pair, in the order of the outfile: by layer, then by name.

    Raises ConversionError if a pair has no weight in the base, or not its shape.
    """
    plans: dict[str, Plan] = {}
    for pair in adapter.pairs:
        target = target_of(base, pair.module, adapter.file.path)
        n_in, n_out = target.ne
        if pair.a.shape[1] != n_in or pair.b.shape[0] != n_out:
            raise adapter.file.complaint(
                f"module {pair.module}", f"lora_A [r, {n_in}] and lora_B [{n_out}, r] for {target.weight} of {base.path}",
                f"{list(pair.a.shape)} and {list(pair.b.shape)}", "name the base that the adapter was trained on with --base")
        if pair.base_layer is not None and pair.base_layer.shape != (n_out, n_in):
            raise adapter.file.complaint(f"tensor {pair.base_layer.name}", f"shape {[n_out, n_in]}, a copy of the base's weight",
                                         list(pair.base_layer.shape), "adapters of a resized vocabulary cannot be converted")
        if target.weight in plans:
            raise adapter.file.complaint(f"module {pair.module}", f"{target.weight} once",
                                         f"it for {plans[target.weight].pair.module} too", "save the adapter again")
        fold = fold_factor(adapter.config, pair.module)
        plans[target.weight] = Plan(
            pair, target, fold,
            type_a=type_for(outtype, pair.a.dtype, n_in, folded=False),
            type_b=type_for(outtype, pair.b.dtype, pair.rank, folded=fold != 1.0),
        )
    return [plans[weight] for weight in sorted(plans, key=_layer_then_name)]


def tensor_headers(plans: list[Plan]) -> list[TensorHeader]:
    """lora_a [n_in, r] and lora_b [r, n_out] of every plan, in ggml's order of dimensions."""
    headers = []
    for plan in plans:
        for side, entry, tensor_type in (("a", plan.pair.a, plan.type_a), ("b", plan.pair.b, plan.type_b)):
            ne = entry.shape[::-1]
            headers.append(TensorHeader(f"{plan.target.weight}.lora_{side}", ne, tensor_type.ggml_type, tensor_type.n_bytes(ne)))
    return headers


def tensor_data(plans: list[Plan], file: SafetensorsFile) -> Iterator[np.ndarray]:
    """uint8 data of every header, one tensor in memory at a time. Raises ConversionError on values that do not fit."""
    for plan in plans:
        yield encode(plan.type_a, file.read(plan.pair.a), file, plan.pair.a)
        b = file.read(plan.pair.b)
        if plan.target.rows is not None:
            b = b[plan.target.rows]
        if plan.fold != 1.0:
            with np.errstate(over="ignore", invalid="ignore"):  # encode refuses what became infinite
                b = (b * np.float64(plan.fold)).astype(np.float32)
        yield encode(plan.type_b, b, file, plan.pair.b)


def encode(tensor_type: TensorType, values: np.ndarray, file: SafetensorsFile, entry: Entry) -> np.ndarray:
    """uint8 data of `values`, float32. Raises ConversionError on values beyond the type's range."""
    largest = float(np.abs(values).max())
    if not largest <= tensor_type.largest:  # a NaN is not either: 0 times a fold that overflowed
        raise ConversionError(complaint(file.path, f"tensor {entry.name}",
                                        f"values up to {tensor_type.largest:g} for {tensor_type.name}", f"{largest:g}",
                                        "choose --outtype f32"))
    return tensor_type.encode(values)


def _layer_then_name(weight: str) -> tuple[float, str]:
    layer = re.match(r"blk\.(\d+)\.", weight)
    return (int(layer[1]) if layer else float("inf"), weight)
