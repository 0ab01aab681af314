"""A folder that PEFT's save_pretrained wrote: its config, and its tensors as updates of modules."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from ...errors import ConversionError
from ..lazy import Lazy
from ..update import EMBEDDING, EXPERTS, LINEAR, Update
from .config import PeftConfig, read_config
from .methods import fold_inner
from .parameters import parameter_of, unfold
from .tensor_files import TensorFiles, read_tensor_files
from .tensor_names import PREFIX, adapter_names, peft_names, why_in_part, why_not

PARTS = {  # endings of the names of a module's tensors
    ".lora_A.weight": "lora_A",
    ".lora_B.weight": "lora_B",
    ".lora_B.bias": "lora_B.bias",
    ".lora_embedding_A": "lora_embedding_A",
    ".lora_embedding_B": "lora_embedding_B",
    ".lora_magnitude_vector": "lora_magnitude_vector",
    ".lora_magnitude_vector.weight": "lora_magnitude_vector",
    ".base_layer.weight": "base_layer",
    ".base_layer.bias": "base_layer.bias",
    # between A and B: LoRA-XS's, as it is called in the model and as PEFT saves it, and NoRA's
    ".default_lora_latent_mapping.weight": "lora_latent_mapping",
    "_lora_latent_mapping.weight": "lora_latent_mapping",
    ".lora_RA": "lora_RA",
    ".lora_RB": "lora_RB",
}
AGAIN = "save the adapter again"
OTHER_CONFIG = "use the config that was saved with these tensors"


@dataclass(frozen=True)
class PeftAdapter:
    """updates are in the files' order; their shapes agree with each other and with the config's ranks."""

    path: Path
    config: PeftConfig
    updates: list[Update]


def read_peft_adapter(folder: Path) -> PeftAdapter:
    """The adapter in `folder`; no tensor data is read yet.

    Raises ConversionError on a missing or malformed file, an option that cannot be converted, a
    tensor that is part of no pair, half a pair, shapes that disagree, or modules that the config
    does not target. What it targets and does not have is judged by mapping.targets, which knows the base.
    """
    config = read_config(folder / "adapter_config.json")
    files = read_tensor_files(folder)
    if (in_part := why_in_part({name: lazy.shape for name, lazy in files.tensors.items()})) is not None:
        raise files.complaint("file", *in_part)
    modules = _parts_by_module(files)
    updates = [_update(files, config, name, parts, modules) for name, parts in modules.items()]
    return PeftAdapter(folder, config, updates)


def _parts_by_module(files: TensorFiles) -> dict[str, dict[str, Lazy]]:
    modules: dict[str, dict[str, Lazy]] = {}
    adapters = adapter_names(files.tensors)
    if len(adapters) > 1:
        raise files.complaint("file", "one adapter", f"tensors of {', '.join(adapters)}", "save one of them with selected_adapters=[name]")
    names = peft_names(files.tensors)
    for given, lazy in files.tensors.items():
        name = names[given]
        ending = next((ending for ending in PARTS if name.endswith(ending)), None)
        if ending is None:
            raise lazy.complaint(f"{PREFIX}<module>.lora_A.weight or .lora_B.weight", *why_not(given))
        parts = modules.setdefault(name[len(PREFIX) : -len(ending)], {})
        if PARTS[ending] in parts:
            raise lazy.complaint(f"one {PARTS[ending]} of its module", "two", AGAIN)
        parts[PARTS[ending]] = lazy
    return modules


def _update(files: TensorFiles, config: PeftConfig, name: str, parts: dict[str, Lazy], names: Collection[str]) -> Update:
    def refuse(expected: str, got: object, action: str = AGAIN) -> ConversionError:
        return files.complaint(f"module {name}", expected, got, action)

    parts = dict(parts)
    kind = EMBEDDING if any(part.startswith("lora_embedding") for part in parts) else LINEAR
    sides = ("lora_embedding_A", "lora_embedding_B") if kind == EMBEDDING else ("lora_A", "lora_B")
    if not set(sides) <= parts.keys():
        raise refuse(" and ".join(sides), f"{' and '.join(sorted(parts))} only")
    a, b = (parts.pop(side) for side in sides)
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1] or 0 in a.shape + b.shape:
        raise refuse(f"{sides[0]} [r, n_in] and {sides[1]} [n_out, r]", f"{list(a.shape)} and {list(b.shape)}")

    parameter = parameter_of(config, name, names)
    if parameter is None and not config.targets(name):
        raise refuse("a module that adapter_config.json targets", "another", f"PEFT would ignore it; {OTHER_CONFIG}")
    rank, scaling = config.rank(parameter or name), config.scaling(parameter or name)
    if a.shape[0] % rank or a.shape[0] != rank and parameter is None:
        raise refuse(f"rank {rank} as adapter_config.json says", f"rank {a.shape[0]}", OTHER_CONFIG)
    if a.shape[0] != rank:
        kind, (a, b) = EXPERTS, unfold(a, b, rank)
    elif kind == LINEAR:
        folded = fold_inner(a, b, parts)
        if folded is None:
            raise refuse("the inner matrices of LoRA-XS or NoRA that fit lora_A and lora_B", "others")
        a, b = folded

    bias, magnitude, base_layer = (parts.pop(part, None) for part in ("lora_B.bias", "lora_magnitude_vector", "base_layer"))
    parts.pop("base_layer.bias", None)  # of an output head that has one, as in phi-2
    if parts:
        raise refuse(" and ".join(sides), f"{' and '.join(sorted(parts))} too")
    if (magnitude is not None) != config.use_dora:
        raise refuse(f"use_dora {'and' if config.use_dora else 'or no'} lora_magnitude_vector", "one without the other", OTHER_CONFIG)
    if bias is not None and not config.lora_bias:
        raise refuse("lora_bias or no bias of lora_B", "one without the other", OTHER_CONFIG)
    for vector in (bias, magnitude):
        if vector is not None and (kind == EXPERTS or vector.shape != b.shape[:1]):
            raise vector.complaint(f"shape {list(b.shape[:1])} beside one matrix", list(vector.shape), AGAIN)
    module = name if parameter is None else parameter if kind == EXPERTS else parameter.removesuffix(".weight")
    return Update(module, kind, a, b, scaling, bias, magnitude, base_layer)
