"""From an adapter GGUF back to a folder that PEFT loads."""

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import AdapterMismatchError, ConversionError
from ..text import complaint
from .adapter_file import AdapterFile, AdapterMetadata, AdapterPair, AdapterTensor
from .base.gguf_base import Base, read_base
from .base.locate import find_base
from .lazy import Lazy, zeros
from .mapping.dora import with_magnitude
from .mapping.restore import restore
from .peft.decisions import FILE as DECISIONS
from .peft.parameters import fold, wrapped
from .peft.safetensors_file import write_safetensors
from .peft.tensor_names import PREFIX
from .update import EMBEDDING, EXPERTS, MATRIX, ROWS, Placed, Update


def export(path: str | PathLike[str], folder: str | PathLike[str], base: str | PathLike[str]) -> Path:
    """Writes the adapter GGUF at `path` as PEFT's adapter_config.json and adapter_model.safetensors; returns `folder`.

    folder: must not exist, or be empty. base: the base model's GGUF or a folder with one.
    The values are those that the GGUF holds, in its types (F32 for Q8_0). Raises AdapterFileError,
    AdapterMismatchError if it was made for another base, or ConversionError; then there is no folder.
    """
    adapter, folder = AdapterFile(path), Path(folder)
    base_model = read_base(find_base(base, None, Path(path)))
    known = adapter.metadata
    if known.fingerprint not in (None, base_model.fingerprint):
        raise AdapterMismatchError(
            complaint(
                path,
                "key alora.base.fingerprint",
                f"{base_model.fingerprint}, that of {base_model.path}",
                known.fingerprint,
                "name the base that the adapter was made for with --base",
            )
        )
    updates = restore([_placed(adapter, pair, base_model) for pair in adapter.pairs], base_model)
    config, tensors = _config(known, updates), _tensors(updates)
    _write_folder(
        folder,
        {
            "adapter_config.json": (json.dumps(config, indent=2) + "\n").encode(),
            "README.md": _card(known),
            "io.yaml": known.io_yaml.encode() if known.io_yaml else None,
            DECISIONS: known.decisions.to_json().encode() if known.decisions else None,
        },
        tensors,
    )
    return folder


def _placed(adapter: AdapterFile, pair: AdapterPair, base: Base) -> Placed:
    def lazy(tensor: AdapterTensor) -> Lazy:
        dtype = tensor.type.name.upper() if tensor.type.block == 1 else "F32"
        return Lazy.saved(adapter.file.path, tensor.name, tensor.ne[::-1], dtype, lambda: adapter.read(tensor))

    role = ROWS if pair.weight == "token_embd.weight" else EXPERTS if len(pair.a.ne) > 2 else MATRIX
    placed = Placed(pair.weight, role, lazy(pair.a), lazy(pair.b), pair.scale, bias=None if pair.bias is None else lazy(pair.bias))
    return placed if pair.magnitude is None else with_magnitude(placed, lazy(pair.magnitude), base)


def _config(known: AdapterMetadata, updates: list[Update]) -> dict[str, Any]:
    """alpha_m is what gives PEFT's alpha_m / r_m; where it is the file's own alpha it is that to the last bit."""
    ranks = {update.module: update.rank for update in updates}
    alphas = {update.module: known.alpha if update.scaling == known.alpha / update.rank else update.scaling * update.rank for update in updates}
    r, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": None,
        "inference_mode": True,
        "r": r,
        "lora_alpha": alpha,
        "rank_pattern": _unusual(ranks, r),
        "alpha_pattern": _unusual(alphas, alpha),
        "target_modules": sorted(update.module for update in updates if update.kind != EXPERTS),
        "target_parameters": sorted(update.module for update in updates if update.kind == EXPERTS) or None,
        "bias": "none",
        "lora_bias": any(update.bias for update in updates),
        "use_dora": any(update.magnitude for update in updates),
        "alora_invocation_tokens": known.invocation_tokens or None,
    }


def _tensors(updates: list[Update]) -> list[tuple[str, Lazy]]:
    """PEFT's names and layouts, sorted by name."""
    with_bias, with_magnitude = (any(values) for values in zip(*((u.bias, u.magnitude) for u in updates)))
    experts = {update.module for update in updates if update.kind == EXPERTS}
    tensors: dict[str, Lazy] = {}
    for update in updates:
        a, b, name = update.a, update.b, update.module
        if update.kind == EXPERTS:
            (a, b), name = fold(a, b), wrapped(name, experts)
        if update.kind == EMBEDDING:
            tensors |= {f"{name}.lora_embedding_A": a, f"{name}.lora_embedding_B": b}
        else:
            tensors |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
        if with_magnitude and update.magnitude is None:
            raise update.a.complaint("a lora_magnitude beside every pair", "none", "PEFT's use_dora is for all of an adapter's modules")
        if update.magnitude is not None:
            tensors[f"{name}.lora_magnitude_vector"] = update.magnitude
        if with_bias and update.kind not in (EMBEDDING, EXPERTS):
            tensors[f"{name}.lora_B.bias"] = update.bias or zeros(b, b.shape[0])
    return sorted((PREFIX + name, lazy) for name, lazy in tensors.items())


def _card(known: AdapterMetadata) -> bytes:
    fields = {"model_name": known.name, "license": known.license, "description": known.description, "invoked_after": known.invoked_after}
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in fields.items() if value]
    return "\n".join(["---", *lines, "---", ""]).encode("utf-8", "replace")


def _unusual(values: Mapping[str, float], usual: float) -> dict[str, float]:
    """A pattern of PEFT's, which has to reach the end of a name."""
    return {f"^{re.escape(module)}": value for module, value in values.items() if value != usual}


def _write_folder(folder: Path, files: dict[str, bytes | None], tensors: list[tuple[str, Lazy]]) -> None:
    """All of it or nothing: written beside `folder` and then moved."""
    temporary = folder.with_name(f".{folder.name}.{os.urandom(4).hex()}.tmp")
    try:
        if folder.is_dir() and any(folder.iterdir()) or folder.is_file():
            raise ConversionError(complaint(folder, "folder", "a new or empty one", "one with files in it", "name another"))
        try:
            os.mkdir(temporary)
            for name, content in files.items():
                if content:
                    (temporary / name).write_bytes(content)
            with open(temporary / "adapter_model.safetensors", "wb") as file:
                write_safetensors(file, tensors)
            os.replace(temporary, folder)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
    except OSError as e:
        raise ConversionError(complaint(folder, "folder", "a place that can be written", e.strerror or e, "name another or make room")) from None
