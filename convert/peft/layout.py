"""Where an adapter's files are: PEFT's folder itself, or one inside a hub layout or cache folder."""

import os
import re
from os import PathLike
from pathlib import Path

from ...errors import ConversionError
from ...text import complaint
from .card import KINDS

CONFIGS = ("adapter_config.json", "reslora_config.json")
TENSORS = (".safetensors", ".bin")
HERE = "name the folder with adapter_config.json"
MOST_NAMED = 10


def adapter_folder(path: str | PathLike[str]) -> Path:
    """The one folder with an adapter's config at `path` or in it.

    Looked for in it: `<base>/<lora|alora>`, `<lora|alora>/<base>` and `<intrinsic>/` with either below it,
    the hub's layouts of intrinsics; in a folder `models--<owner>--<name>` of the hub's cache first in the
    snapshot that refs/main names. Of a file of tensors it is the folder that it is in. Raises ConversionError if there is
    none, or more than one; it names the sub-folders that have one, as checkpoints of a training, and takes none of them.
    """
    path = Path(path)
    if path.suffix in TENSORS and os.path.isfile(path) and _is_adapter(path.parent):
        path = path.parent
    if not os.path.isdir(path):  # Path.is_dir raises on names that are too long
        got = "a file" if os.path.exists(path) else "nothing"
        raise ConversionError(complaint(path, "adapter", "a folder written by PEFT's save_pretrained", got, "check the path"))
    try:
        root = snapshot_of(path)
        found = [root] if _is_adapter(root) else _below(root)
        others = [] if found else _elsewhere(root)
    except OSError as e:
        raise ConversionError(complaint(path, "adapter", "a folder that can be read", e.strerror or e, "check the path")) from None
    if others:
        names = [str(folder.relative_to(root)) for folder in others[:MOST_NAMED]]
        more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
        which = "name that folder" if len(others) == 1 else "name one of these folders"
        raise ConversionError(complaint(path, "file", "adapter_config.json", f"none here, but in {', '.join(names)}{more}", which))
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
    return [folder for folder in _elsewhere(root) if folder.name in KINDS or folder.parent.name in KINDS]


def _elsewhere(root: Path) -> list[Path]:
    """The folders in it with an adapter, a checkpoint of few steps before one of many."""
    folders = (folder for depth in ("*", "*/*", "*/*/*") for folder in root.glob(depth))
    return sorted({folder for folder in folders if _is_adapter(folder)}, key=_by_numbers)


def _by_numbers(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path))]
