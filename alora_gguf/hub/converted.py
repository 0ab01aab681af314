"""PEFT folders wherever a GGUF adapter is taken: converted once, and kept in the user's cache folder."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from os import PathLike
from pathlib import Path

from ..convert import adapter_folder, base_fingerprint, convert
from ..convert.peft.card import name_from_path, source_from_path
from ..errors import ConversionError
from ..text import complaint
from ..versions import CONVERTER, VERSION
from .folders import cache_folder
from .unchanged import remembered

_READ = "adapter_*", "adapters.safetensors", "reslora_*", "README.md", "io.yaml"  # what the converter reads of a folder
_CHUNK = 1 << 20


def as_gguf(path: str | PathLike[str], base: Path, name: str | None = None, *, on_convert: Callable[[], None] = lambda: None) -> Path:
    """`path` itself, or for a PEFT folder the GGUF adapter `name` (default: the folder's) that is made of it for the model `base`.

    What is kept is known by the folder's contents, where on the hub it is from, the base's fingerprint, and the versions of this package and of its converter.
    `on_convert` is called before anything is converted. Raises ConversionError.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    folder = adapter_folder(path)
    try:
        out = cache_folder() / "adapters" / _key(folder, base) / f"{name or folder_name(path)}.gguf"
        if not out.is_file():
            on_convert()
            out.parent.mkdir(parents=True, exist_ok=True)
            _convert(folder, out, base)
    except OSError as e:
        raise ConversionError(
            complaint(e.filename or path, "adapter", "files that can be read and written", e.strerror or e, "check the path")
        ) from e
    return out


def _convert(folder: Path, out: Path, base: Path) -> None:
    """What another process has put there meanwhile stays: it may be in use. Raises OSError, ConversionError."""
    made = out.with_name(f".{out.name}.{os.urandom(4).hex()}.tmp")
    try:
        convert(folder, made, base=base)
        try:
            os.link(made, out)
        except FileExistsError:
            pass
        except OSError:  # a file system without links
            os.replace(made, out)
    finally:
        made.unlink(missing_ok=True)


def folder_name(path: Path) -> str:
    """What an adapter is called that has no other name."""
    return name_from_path(path.resolve())


def _key(folder: Path, base: Path) -> str:
    files = sorted({file for pattern in _READ for file in folder.glob(pattern) if file.is_file()})
    contents = remembered(f"contents of {folder.resolve()}", files, lambda: _digest(files))
    known_by = [VERSION, CONVERTER, base_fingerprint(base), *source_from_path(folder.resolve()), contents]
    return hashlib.sha256("\n".join(map(str, known_by)).encode()).hexdigest()[:32]


def _digest(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(f"{file.name}\n{file.stat().st_size}\n".encode())
        with open(file, "rb") as f:
            while chunk := f.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
