"""Modules that an adapter's config targets and that none of its tensors names."""

from ...errors import ConversionError
from ...text import complaint
from ..base.gguf_base import Base
from ..peft.adapter import PeftAdapter
from ..peft.config import PeftConfig
from .architectures import FUSED, family_of
from .names import kind_of, modules_of
from .shares import shares

OTHER_CONFIG = "use the config that was saved with these tensors, or save the adapter again"
NO_MODULE = "PEFT takes it for one that the model does not have"


def check_targets(adapter: PeftAdapter, base: Base) -> list[str]:
    """What of the config's targets has no tensors, each a line: the model may have no such module, and PEFT takes that.

    Raises ConversionError if the base has it for sure: the adapter was saved or copied in part.
    """
    names = [update.module for update in adapter.updates]
    if missing := _missing(adapter.config, names, base):
        expected = f"its tensors, as the base {base.path.name} has it and the config targets it"
        raise ConversionError(complaint(adapter.path, f"module {missing}", expected, "none", OTHER_CONFIG))
    targets = adapter.config.target_modules if isinstance(adapter.config.target_modules, list) else []
    named = [("target_modules", name, name) for name in targets]
    named += [("target_parameters", name, name.removesuffix(".weight")) for name in adapter.config.target_parameters]
    return [
        complaint(adapter.config.path, f"option {option}, {target}", "tensors of it", "none", NO_MODULE)
        for option, target, module in named
        if not any(name == module or name.endswith(f".{module}") for name in names)
    ]


def _missing(config: PeftConfig, names: list[str], base: Base) -> str | None:
    """A module that PEFT would have adapted and saved.

    That is sure of one whose neighbours, in this layer or another, are adapted by the names that it has too: then the model's
    modules are called so. Whether experts and routers are modules depends on the version of transformers.
    """
    family = family_of(base)
    if config.target_modules is None:
        return None
    found = [kind_of(base, family, name) for name in names]
    adapted = {(layer, part) for layer, kind in filter(None, found) for part in FUSED.get(kind, (kind,))}
    parents = {leaf.rpartition(".")[0] for name in names if (leaf := _leaf(name, family.layers))}
    for module, layer, kind in modules_of(base, family):
        parent = _leaf(module, family.layers).rpartition(".")[0]
        if layer is None or parent not in parents or "exp" in kind or kind.startswith("ffn_gate_inp") or not config.targets(module):
            continue
        if not any((layer, part) in adapted for part in FUSED.get(kind, (kind,))) and shares(base, family, layer, kind):
            return module
    return None


def _leaf(module: str, layers: str) -> str:
    """What stands behind the layer's number, "" outside of layers."""
    _, found, rest = module.partition(f"{layers}.")
    return rest.partition(".")[2] if found else ""
