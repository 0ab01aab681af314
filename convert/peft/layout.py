"""Where an adapter's files are: PEFT's folder itself, or one inside a hub layout or cache folder."""

import os
from os import PathLike
from pathlib import Path

from ...errors import ConversionError
from ...text import complaint
from .card import KINDS

CONFIGS = ("adapter_config.json", "reslora_config.json")
HERE = "name the folder with adapter_config.json"


def adapter_folder(path: str | PathLike[str]) -> Path:
    """The one folder with an adapter's config at `path` or in it.

    Looked for in it: `<base>/<lora|alora>`, `<lora|alora>/<base>` and `<intrinsic>/` with either below it,
    the hub's layouts of intrinsics; in a folder `models--<owner>--<name>` of the hub's cache first in the
    snapshot that refs/main names. Raises ConversionError if there is none, or more than one.
    """
    path = Path(path)
    if not os.path.isdir(path):  # Path.is_dir raises on names that are too long
        got = "a file" if os.path.exists(path) else "nothing"
        raise ConversionError(complaint(path, "adapter", "a folder written by PEFT's save_pretrained", got, "check the path"))
    try:
        root = snapshot_of(path)
        found = [root] if _is_adapter(root) else _below(root)
    except OSError as e:
        raise ConversionError(complaint(path, "adapter", "a folder that can be read", e.strerror or e, "check the path")) from None
    if not found:
        raise ConversionError(complaint(path, "file", "adapter_config.json", "none", HERE))
    if len(found) > 1:
        raise ConversionError(
            complaint(path, "adapter", "one adapter", ", ".join(str(f.relative_to(root)) for f in found), "name one of these folders")
        )
    return found[0]


def _is_adapter(folder: Path) -> bool:
    return any((folder / name).is_file() for name in CONFIGS)


def snapshot_of(folder: Path) -> Path:
    """Of a folder `models--<owner>--<name>` of the hub's cache the snapshot that refs/main names, of any other the folder. Raises ConversionError."""
    main = folder / "refs" / "main"
    if not (folder.name.startswith("models--") and main.is_file()):
        return folder
    name = main.read_text(errors="replace").strip()
    if name == ".." or Path(name).name != name:  # it could lead anywhere
        raise ConversionError(complaint(main, "file", "the name of a folder in snapshots", name, HERE))
    return folder / "snapshots" / name


def _below(root: Path) -> list[Path]:
    folders = (folder for depth in ("*", "*/*", "*/*/*") for folder in root.glob(depth))
    found = {f for f in folders if _is_adapter(f) and (f.name in KINDS or f.parent.name in KINDS)}
    return sorted(found)
