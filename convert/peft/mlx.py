"""Adapters of mlx-lm: a config of its own, and matrices that lie the other way round.

mlx-lm computes W x + scale (x lora_a) lora_b, with lora_a [n_in, r] and lora_b [r, n_out], and no alpha.
"""

import json
from pathlib import Path
from typing import Any

from ...errors import ConversionError
from ...text import complaint
from ..lazy import Lazy
from ..update import EMBEDDING, LINEAR, Update
from .adapter import PeftAdapter
from .config import PeftConfig, is_number, read_json
from .safetensors_file import SafetensorsFile

CONFIG, TENSORS = "adapter_config.json", "adapters.safetensors"
OWN = ("fine_tune_type", "lora_parameters")  # fields that PEFT does not have
EMBEDDINGS = ("embed_tokens", "wte", "embed_in", "word_embeddings")
AGAIN = "train it again with mlx_lm.lora, fine_tune_type lora, or name the adapter in PEFT's form"


def is_mlx(folder: Path) -> bool:
    """Whether mlx-lm wrote it. Raises ConversionError if its config cannot be read."""
    return (folder / TENSORS).is_file() or any(name in read_json(folder / CONFIG) for name in OWN)


def read_mlx(folder: Path) -> PeftAdapter:
    """The adapter in `folder`; no tensor data is read yet.

    Raises ConversionError on a missing or malformed file, DoRA, whole weights, experts, and an `alpha`, which versions
    of mlx-lm have counted in different ways.
    """
    path = folder / CONFIG
    fields = read_json(path)

    def refuse(what: str, expected: str, got: object, action: str = AGAIN) -> ConversionError:
        return ConversionError(complaint(path, what, expected, got if isinstance(got, str) else json.dumps(got), action))

    kind = fields.get("fine_tune_type", "lora")
    if kind != "lora":
        raise refuse("option fine_tune_type", '"lora", of adapters that mlx-lm wrote', kind)
    parameters = fields.get("lora_parameters")
    if not isinstance(parameters, dict):
        raise refuse("option lora_parameters", "rank and scale, as mlx-lm writes them", parameters)
    scale: Any = parameters.get("scale")
    base = fields.get("model")
    if not is_number(scale):
        raise refuse("option lora_parameters, scale", "a finite number", scale)
    if "alpha" in parameters:
        factor = "versions of mlx-lm before 2025 multiplied by alpha / rank too; write the product into scale, or leave scale, and remove alpha"
        raise refuse("option lora_parameters, alpha", "scale alone", parameters["alpha"], factor)
    pairs = _pairs(SafetensorsFile(folder / TENSORS))
    updates = [_update(module, pair, float(scale)) for module, pair in pairs.items()]
    rank = max(update.rank for update in updates)
    config = PeftConfig(path, rank, float(scale) * rank, base_model_name_or_path=base if isinstance(base, str) else None)
    return PeftAdapter(folder, config, updates)


def _pairs(file: SafetensorsFile) -> dict[str, dict[str, Lazy]]:
    pairs: dict[str, dict[str, Lazy]] = {}
    for name, lazy in file.tensors().items():
        module, _, part = name.rpartition(".")
        if part not in ("lora_a", "lora_b") or not module:
            got = "DoRA's magnitude" if part == "m" else "another name"
            raise lazy.complaint("<module>.lora_a or .lora_b, as mlx-lm writes them", got, AGAIN)
        pairs.setdefault(module, {})[part] = lazy
    if not pairs:
        raise file.complaint("file", "lora_a and lora_b tensors", "none", AGAIN)
    for module, pair in pairs.items():
        shapes = [pair[part].shape if part in pair else None for part in ("lora_a", "lora_b")]
        if any(shape is None or len(shape) != 2 or 0 in shape for shape in shapes) or shapes[0][1:] != shapes[1][:1]:  # type: ignore[index]
            got = " and ".join("none" if shape is None else str(list(shape)) for shape in shapes)
            raise file.complaint(f"module {module}", "lora_a [n_in, r] and lora_b [r, n_out] of one matrix", got, AGAIN)
    return pairs


def _update(module: str, pair: dict[str, Any], scale: float) -> Update:
    kind = EMBEDDING if module.rpartition(".")[2] in EMBEDDINGS else LINEAR
    return Update(module, kind, pair["lora_a"].transpose(), pair["lora_b"].transpose(), scale)
