"""From a module's name in transformers to a weight's kind in GGUF, and back."""

import re
from functools import lru_cache

from ..base.gguf_base import Base
from .architectures import FUSED, Family

IN_LAYER = re.compile(r"(.+?)\.(0|[1-9]\d*)\.(.+)")
EXPERT = re.compile(r"(.+\.experts)\.(\d+)\.(.+)")  # transformers 4: a module an expert


def without_expert(module: str) -> tuple[str, int | None]:
    """(`...experts.w1`, 3) for `...experts.3.w1`; (module, None) for another."""
    match = EXPERT.fullmatch(module)
    return (f"{match[1]}.{match[3]}", int(match[2])) if match else (module, None)


def kind_of(base: Base, family: Family, module: str) -> tuple[int | None, str] | None:
    """(layer, kind) of a module; the layer is None outside of them. None for a module that takes no adapter.

    The language model's part of a multimodal model has its text model's names, one level down.
    """
    module = module.replace("language_model.", "", 1).replace("model.model.", "model.", 1).removesuffix(".weight")
    match = IN_LAYER.fullmatch(module)
    if match is None:
        layer, kind, mapped = None, {family.embeddings: "token_embd", family.head: "output"}.get(module), module
    else:
        layers, layer, leaf = match[1], int(match[2]), match[3]
        kind, mapped = family.modules.get(leaf) if layers == family.layers else None, f"{layers}.0.{leaf}"
    if kind is None:  # the names of one layer do for all: a map of all layers of a large model takes a while to make
        kind = _name_map(base.architecture).get(mapped, "").removeprefix("blk.0.")
    return (layer, kind) if kind in family.kinds and (layer or 0) < base.n_layer else None


def modules_of(base: Base, family: Family) -> list[tuple[str, int | None, str]]:
    """(module, layer, kind) of every module of transformers 5 that the family has, whether or not this base does."""
    inside = [(f"{family.layers}.{layer}.{leaf}", layer, kind) for layer in range(base.n_layer) for leaf, kind in family.modules.items()]
    return [(family.embeddings, None, "token_embd"), *inside, (family.head, None, "output")]


def weight_name(layer: int | None, kind: str) -> str:
    return f"{kind}.weight" if layer is None else f"blk.{layer}.{kind}.weight"


def fused_kind(kind: str) -> str | None:
    """The kind of fused weights that `kind` is a part of."""
    return next((fused for fused, parts in FUSED.items() if kind in parts), None)


@lru_cache(maxsize=4)
def _name_map(architecture: str) -> dict[str, str]:
    import gguf  # 0.1 s, and adapters of names that families.py has do not need it

    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    return {module: name for module, (_, name) in gguf.get_tensor_name_map(arch, 1).mapping.items()}
