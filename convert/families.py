"""Architectures: which modules take an adapter, what GGUF calls them, and how their rows are permuted.

Names come from gguf's own TensorNameMap; this table says what the names do not: where llama.cpp's
converters store a weight's rows in another order than transformers, lora_b's rows move with them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..errors import ConversionError
from .base import Base
from .text import complaint
from .update import LINEAR, MATRIX, Placed, Update

# (base, layer, n_rows) -> index array [n_rows], or None where the order is the same
Rows = Callable[[Base, int, int], np.ndarray | None]


def same_rows(base: Base, layer: int, n_rows: int) -> None:
    return None


def query_rows(base: Base, layer: int, n_rows: int) -> np.ndarray:
    return interleaved_rows(n_rows, base.n_head[layer])


def key_rows(base: Base, layer: int, n_rows: int) -> np.ndarray:
    return interleaved_rows(n_rows, base.n_head_kv[layer])


def interleaved_rows(n_rows: int, n_head: int) -> np.ndarray:
    """Row order for rotary embeddings on neighbouring pairs: weight_gguf = weight_hf[index].

    transformers rotates row i of a head with row i + d/2, ggml's "norm" rope 2i with 2i + 1.
    Source: LlamaModel.permute in llama.cpp's conversion/llama.py.
    """
    return np.arange(n_rows).reshape(n_head, 2, n_rows // n_head // 2).swapaxes(1, 2).reshape(-1)


@dataclass(frozen=True)
class Family:
    """modules: the end of a transformers module name -> the order of its rows in GGUF."""

    modules: dict[str, Rows]


FAMILIES: dict[str, Family] = {
    # Llama, Mistral, SmolLM2 and all that llama.cpp stores as `llama`
    "llama": Family({
        "self_attn.q_proj": query_rows,
        "self_attn.k_proj": key_rows,
        "self_attn.v_proj": same_rows,
        "self_attn.o_proj": same_rows,
        "mlp.gate_proj": same_rows,
        "mlp.up_proj": same_rows,
        "mlp.down_proj": same_rows,
        "lm_head": same_rows,
    }),
}


@dataclass(frozen=True)
class Target:
    """The weight of the base that a module's adapter is for. ne: [n_in, n_out]."""

    weight: str
    ne: tuple[int, int]
    rows: np.ndarray | None


def family_of(base: Base) -> Family:
    """Raises ConversionError for an architecture that is not in the table."""
    if base.architecture not in FAMILIES:
        raise ConversionError(complaint(base.path, "key general.architecture", " or ".join(FAMILIES),
                                        base.architecture, "adapters for it are not converted yet"))
    return FAMILIES[base.architecture]


def place(updates: list[Update], base: Base) -> list[Placed]:
    """The updates by the base's weights.

    Raises ConversionError if an update has no weight in the base or not its shape, or two have one weight.
    """
    placed: dict[str, Placed] = {}
    modules: dict[str, str] = {}
    for update in updates:
        file, what = update.a.file, f"module {update.module}"
        target = target_of(base, update.module, file)
        n_in, n_out = target.ne
        if update.kind != LINEAR:
            raise ConversionError(complaint(file, what, "a linear layer", update.kind, "adapters of it are not converted yet"))
        if update.a.shape[1] != n_in or update.b.shape[0] != n_out:
            raise ConversionError(complaint(
                file, what, f"lora_A [r, {n_in}] and lora_B [{n_out}, r] for {target.weight} of {base.path}",
                f"{list(update.a.shape)} and {list(update.b.shape)}", "name the base that the adapter was trained on with --base"))
        if update.base_layer is not None and update.base_layer.shape != (n_out, n_in):
            raise update.base_layer.complaint(f"shape {[n_out, n_in]}, a copy of the base's weight", list(update.base_layer.shape),
                                              "adapters of a resized vocabulary cannot be converted")
        if target.weight in placed:
            raise ConversionError(complaint(file, what, f"{target.weight} once", f"it for {modules[target.weight]} too",
                                            "save the adapter again"))
        rows = (lambda lazy: lazy) if target.rows is None else (lambda lazy: lazy and lazy.take(target.rows))
        placed[target.weight] = Placed(target.weight, MATRIX, update.a, rows(update.b), update.scaling, rows(update.bias),
                                       rows(update.magnitude))
        modules[target.weight] = update.module
    return list(placed.values())


def target_of(base: Base, module: str, file) -> Target:
    """The target of `module`, a transformers module name found in the adapter `file`.

    Raises ConversionError if the family does not adapt such a module or the base lacks its weight.
    """
    family = family_of(base)
    leaf = next((leaf for leaf in family.modules if module == leaf or module.endswith(f".{leaf}")), None)
    name = weight_names(base.architecture, base.n_layer).get(module)
    if leaf is None or name is None:
        raise ConversionError(complaint(
            file, f"module {module}", f"one of {', '.join(family.modules)} in layers 0 to {base.n_layer - 1}", "another",
            f"no adapter of it can be used on {base.architecture} models"))
    if name not in base.shapes:
        tied = "; its output head is tied to the embeddings" if name == "output.weight" else ""
        raise ConversionError(complaint(file, f"module {module}", f"{name} in the base {base.path}",
                                        f"no such tensor{tied}", "name the base that the adapter was trained on with --base"))
    ne = base.shapes[name]
    if len(ne) != 2:
        raise ConversionError(complaint(file, f"module {module}", f"{name} to have 2 dimensions", list(ne),
                                        "adapters of such weights are not converted yet"))
    layer = int(name.split(".")[1]) if name.startswith("blk.") else 0
    try:
        rows = family.modules[leaf](base, layer, ne[1])
    except (IndexError, ValueError, ZeroDivisionError):
        raise ConversionError(complaint(base.path, f"tensor {name}", "rows that divide into the model's heads",
                                        f"{ne[1]} rows", "the base is damaged, get it again")) from None
    return Target(name, ne, rows)


@lru_cache(maxsize=4)
def weight_names(architecture: str, n_layer: int) -> dict[str, str]:
    """transformers module name -> GGUF weight name, for every module that the family adapts."""
    import gguf  # 0.1 s, and readers of finished adapters do not need it

    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    leaves = tuple(FAMILIES[architecture].modules)
    return {
        module: f"{name}.weight"
        for module, (_, name) in gguf.get_tensor_name_map(arch, n_layer).mapping.items()
        if module.endswith(leaves)
    }
