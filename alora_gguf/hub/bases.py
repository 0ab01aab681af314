"""Base models by their names on the hub."""

from __future__ import annotations

import re
from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from ..convert.gguf.file import STRING, GGUFFile
from ..errors import AdapterFileError
from .fit import CONFIG
from .hf_name import HubName, is_hub_name, parse_hub_name
from .repository import Repository

QUANT = "Q4_K_M"  # if no other is named, as llama.cpp does
_PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
_NO_BASE = re.compile(r"(?:.*/)?mmproj|.*\bimatrix\b", re.IGNORECASE)


def base_file(given: str | PathLike[str]) -> Path:
    """The GGUF that `given` means: a path, or a base on the hub, which is fetched if it is not here. Raises HubError."""
    return fetch_base(parse_hub_name(given)) if is_hub_name(given) else Path(given)


def fetch_base(name: HubName) -> Path:
    """Its file, or the first of its parts. Raises HubError."""
    return base_from(Repository(name))


def base_from(repository: Repository) -> Path:
    """The same, of a repository. Raises HubError."""
    if repository.name.name:
        repository.refuse("a base model, hf:owner/repo[:QUANT]", "the name of an adapter", "correct the name")
    files = chosen_files(repository)
    return repository.fetch(dict.fromkeys(files)) / files[0]


def is_adapter(path: Path) -> bool:
    """Whether it is one, and no base: a GGUF adapter or a PEFT folder."""
    try:
        return (path / CONFIG).is_file() or (path.is_file() and GGUFFile(path).get("general.type", STRING) == "adapter")
    except (AdapterFileError, OSError):
        return False


def chosen_files(repository: Repository) -> list[str]:
    """The parts of the base that its name means. Raises HubError."""
    bases = bases_in(repository.files)
    if not bases:
        repository.refuse("a GGUF model", f"{len(repository.files)} other files", "name a repository with GGUF files")
    quant = repository.name.quant
    chosen = next((base for base in bases if is_quant(base, quant or QUANT)), None if quant else next(iter(bases)))
    if chosen is None:
        repository.refuse(f"a file of {quant}", ", ".join(bases), "name one of these, as hf:owner/repo:QUANT")
    parts = bases[chosen]
    if (part := _PART.fullmatch(parts[0])) and [int(_PART.fullmatch(p)[2]) for p in parts] != list(range(1, int(part[3]) + 1)):  # type: ignore[index]
        repository.refuse(f"{int(part[3])} parts of {chosen}", f"{len(parts)}", "fetch them all")
    return parts


def bases_in(files: Iterable[str]) -> dict[str, list[str]]:
    """Models by name, each with its file, or its parts in order."""
    bases: dict[str, list[str]] = {}
    for file in sorted(files):
        if file.endswith(".gguf") and not _NO_BASE.match(file):
            part = _PART.fullmatch(file)
            bases.setdefault(f"{part[1]}.gguf" if part else file, []).append(file)
    return bases


def is_quant(base: str, quant: str) -> bool:
    """Q4_K is not Q4_K_M: what follows is no part of a quantisation's name."""
    return re.search(rf"(?<![A-Za-z0-9]){re.escape(quant)}(?![A-Za-z0-9_])", base, re.IGNORECASE) is not None
