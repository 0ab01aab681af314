"""What a user calls an adapter, and the file that is meant."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path

from ..errors import AdapterFileError
from ..text import printable
from .converted import as_gguf, folder_name
from .fit import CONFIG, OpenBase
from .hf_name import is_hub_name, parse_hub_name
from .intrinsics import checked, fetch_intrinsic

Bundled = Callable[[], Mapping[str, Path]]  # the adapters that the package has, by name


def adapter_name(given: str | PathLike[str]) -> str:
    """What an adapter is called that gets no other name: its file's without ending, its folder's, or its own."""
    if is_hub_name(given):
        name = parse_hub_name(given)
        return name.name or name.repo.rpartition("/")[2]
    path = _folder_of(Path(given))
    return folder_name(path) if os.path.isdir(path) else path.stem


def adapter_file(given: str | PathLike[str], base: Callable[[], Path], bundled: Bundled) -> Path:
    """The GGUF adapter for the model `base()` that `given` means, converted if it is none yet. Raises as adapter_source(), ConversionError."""
    source = adapter_source(given, base, bundled)
    return as_gguf(source, base(), _name_in(bundled, source) or adapter_name(given)) if os.path.isdir(source) else source


def adapter_source(given: str | PathLike[str], base: Callable[[], Path], bundled: Bundled) -> Path:
    """What `given` means for the model `base()`: a GGUF file or a PEFT folder, by its path, by its name on the hub, or by its name in `bundled`.

    What exists wins over a name in `bundled`. A file that does not exist is returned as it is: opening it says so. Raises
    AdapterFileError for a name that nobody has, HubError, and ConversionError if the base cannot be read.
    """
    if is_hub_name(given):
        return fetch_intrinsic(parse_hub_name(given), OpenBase.of(base()))
    name, path = os.fspath(given), _folder_of(Path(given))
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):  # as a pipe, in which one would wait
        raise AdapterFileError(f"{printable(name)}: expected a GGUF file or a PEFT folder, got neither; check the path")
    if os.path.exists(path) or not _is_name(name):
        return checked(path, os.fspath(path)) if os.path.isdir(path) else path
    known = bundled()
    if name not in known:
        raise AdapterFileError(f"adapter {printable(name)!r}: expected a file, a folder or one of {', '.join(known)}, got neither; check the name")
    return known[name]


def _name_in(bundled: Bundled, folder: Path) -> str | None:
    """Of an adapter that comes along, in whose folder others are called alike."""
    with contextlib.suppress(AdapterFileError):
        return next((name for name, path in bundled().items() if path == folder), None)
    return None


def _folder_of(path: Path) -> Path:
    """Of the tensors of a PEFT folder that folder, of anything else itself."""
    return path.parent if path.suffix == ".safetensors" and (path.parent / CONFIG).is_file() else path


def _is_name(given: str) -> bool:
    """Whether it looks like no path."""
    return Path(given).name == given and not Path(given).suffix
