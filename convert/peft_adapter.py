"""A folder that PEFT's save_pretrained wrote: its config and its tensors, as updates."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import ConversionError
from .peft_config import PeftConfig, read_config
from .safetensors_file import Entry, SafetensorsFile
from .text import complaint
from .update import LINEAR, Update

PREFIX = "base_model.model."
NAME = re.compile(r"(?P<module>.+)\.(?P<part>lora_A|lora_B|base_layer)\.weight")

# Endings of tensors that belong to an option, though the config may not say so.
OTHER_TENSORS = {
    ".lora_embedding_A": "adapters of embeddings are not converted yet",
    ".lora_embedding_B": "adapters of embeddings are not converted yet",
    ".lora_magnitude_vector": "DoRA's magnitudes are not converted yet",
    ".lora_magnitude_vector.weight": "DoRA's magnitudes are not converted yet",
    ".lora_B.bias": "GGUF adapters hold no bias of lora_B",
}
WHOLE_WEIGHT = ("it is a whole weight, which GGUF adapters do not hold; save the adapter without modules_to_save and"
                " with save_embedding_layers=False")


@dataclass(frozen=True)
class PeftAdapter:
    """updates are in the file's order; their shapes agree with each other and with the config's ranks."""

    path: Path
    config: PeftConfig
    updates: list[Update]


def read_peft_adapter(folder) -> PeftAdapter:
    """The adapter in `folder`; no tensor data is read yet.

    Raises ConversionError on a missing or malformed file, an option that cannot be converted, a
    tensor that is no lora_A or lora_B, half a pair, shapes that disagree, or modules that the
    config does not target.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):  # Path.is_dir raises on names that are too long
        got = "a file" if os.path.exists(folder) else "nothing"
        raise ConversionError(complaint(folder, "adapter", "a folder written by PEFT's save_pretrained", got, "check the path"))
    config = read_config(folder / "adapter_config.json")
    file = SafetensorsFile(folder / "adapter_model.safetensors")
    updates = [_update(file, module, parts, config) for module, parts in _parts_by_module(file).items()]
    if not updates:
        raise file.complaint("file", "lora_A and lora_B tensors", "none", "save the adapter again")
    for update in updates:
        _check_against_config(file, update, config)
    _check_every_target_was_saved(config, updates)
    return PeftAdapter(folder, config, updates)


def _parts_by_module(file: SafetensorsFile) -> dict[str, dict[str, Entry]]:
    parts: dict[str, dict[str, Entry]] = {}
    for name, entry in file.entries.items():
        match = NAME.fullmatch(name.removeprefix(PREFIX))
        if match is None or not name.startswith(PREFIX):
            reason = next((why for ending, why in OTHER_TENSORS.items() if name.endswith(ending)), WHOLE_WEIGHT)
            raise file.complaint(f"tensor {name}", f"{PREFIX}<module>.lora_A.weight or .lora_B.weight", "another name", reason)
        parts.setdefault(match["module"], {})[match["part"]] = entry
    return parts


def _update(file: SafetensorsFile, module: str, parts: dict[str, Entry], config: PeftConfig) -> Update:
    if not {"lora_A", "lora_B"} <= parts.keys():
        raise file.complaint(f"module {module}", "lora_A and lora_B", f"{' and '.join(sorted(parts))} only", "save the adapter again")
    a, b = parts["lora_A"], parts["lora_B"]
    if len(a.shape) != 2 or len(b.shape) != 2 or a.shape[0] != b.shape[1] or 0 in a.shape + b.shape:
        raise file.complaint(f"module {module}", "lora_A [r, n_in] and lora_B [n_out, r]",
                             f"{list(a.shape)} and {list(b.shape)}", "save the adapter again")
    base_layer = parts.get("base_layer")
    return Update(module, LINEAR, file.lazy(a), file.lazy(b), config.scaling(module),
                  base_layer=base_layer and file.lazy(base_layer))


def _check_against_config(file: SafetensorsFile, update: Update, config: PeftConfig):
    expected = config.rank(update.module)
    if update.rank != expected:
        raise file.complaint(f"module {update.module}", f"rank {expected} as adapter_config.json says", f"rank {update.rank}",
                             "use the config that was saved with these tensors")
    if not config.targets(update.module):
        raise file.complaint(f"module {update.module}", "a module that adapter_config.json targets", "another",
                             "PEFT would ignore it; use the config that was saved with these tensors")


def _check_every_target_was_saved(config: PeftConfig, updates: list[Update]):
    if not isinstance(config.target_modules, list):
        return
    for target in config.target_modules:
        if not any(update.module == target or update.module.endswith(f".{target}") for update in updates):
            raise ConversionError(complaint(
                config.path, f"option target_modules, {target}", "tensors of it in adapter_model.safetensors", "none",
                "use the config that was saved with these tensors, or take it out if the model has no such module"))
