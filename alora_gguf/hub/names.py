"""What a user calls an adapter, and the file that is meant."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path

from ..errors import AdapterFileError
from ..text import printable
from .converted import as_gguf, folder_name

Bundled = Callable[[], Mapping[str, Path]]  # the adapters that the package has, by name


def adapter_name(given: str | PathLike[str]) -> str:
    """What an adapter is called that gets no other name: its file's without ending, its folder's, or its own."""
    path = Path(given)
    return folder_name(path) if os.path.isdir(path) else path.stem


def adapter_file(given: str | PathLike[str], base: Callable[[], Path], bundled: Bundled) -> Path:
    """The GGUF adapter for the model `base()` that `given` means: a file, a PEFT folder, or a name in `bundled`.

    What exists wins over a name. A file that does not exist is returned as it is: opening it says so. Raises
    AdapterFileError for a name that nobody has, ConversionError.
    """
    name, path = os.fspath(given), Path(given)
    if os.path.exists(path) or not _is_name(name):
        return as_gguf(path, base()) if os.path.isdir(path) else path
    known = bundled()
    if name not in known:
        raise AdapterFileError(f"adapter {printable(name)!r}: expected a file, a folder or one of {', '.join(known)}, got neither; check the name")
    return as_gguf(known[name], base(), name)


def _is_name(given: str) -> bool:
    """Whether it looks like no path."""
    return Path(given).name == given and not Path(given).suffix
