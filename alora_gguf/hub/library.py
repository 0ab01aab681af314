"""A library of intrinsics, on the hub or in a folder: all that is in it for one base, each converted once."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from os import PathLike
from pathlib import Path

from ..convert.peft.layout import snapshot_of
from ..convert.peft.safetensors_file import SafetensorsFile
from ..errors import AdapterFileError, ConversionError
from ..text import complaint, printable
from .converted import as_gguf
from .fit import CONFIG, TECHNOLOGIES, OpenBase, Place, Size, fitting, size_of_adapter
from .hf_name import is_hub_name, parse_hub_name
from .intrinsics import TENSORS, checked, choose_all, fetch_place, files_of
from .repository import Repository

INDEX = "adapter_index.json"  # Mellea's
_DEEPEST = 4  # folders between a library and an adapter
_MOST_OF_INDEX = 1_000_000
_NAME = re.compile(r"\w(?:[\w.-]{0,94}\w)?", re.ASCII)
_log = logging.getLogger("alora_gguf.hub")

Made = Callable[[], Path]


def intrinsics_of(library: str | PathLike[str], base: Path) -> dict[str, Made]:
    """By name the adapters of a library that are for the model `base`, each a function that fetches and converts it and gives its GGUF.

    library: `hf:owner/repo[@revision]`, or a folder with adapters in `<name>/<base>/<alora|lora>`, `<name>/<alora|lora>/<base>` or
    `<name>`; such a folder of one name, a folder of libraries, or one with an adapter_index.json will do. Raises HubError,
    AdapterFileError or ConversionError; if nothing is for the base, with the bases that there are.
    """
    open_base = OpenBase.of(base)
    if is_hub_name(library):
        repository = Repository(parse_hub_name(library))
        places = choose_all(repository, open_base)
        here = [repository.has(files_of(repository, place)) for place in places]
        fetch: list[Made] = [partial(fetch_place, repository, place) for place in places]
    else:
        folder = Path(os.path.abspath(library))
        folder = snapshot_of(folder) if os.path.isdir(folder) else folder
        places = _choose_in(folder, open_base)
        here = [True] * len(places)
        fetch = [partial(checked, folder / place.folder, str(folder / place.folder)) for place in places]

    def make(i: int) -> Path:
        told = f"{printable(os.fspath(library))}: {printable(places[i].name)}, {i + 1} of {len(places)}"
        if not here[i]:
            _log.info("%s: fetching", told)
        return as_gguf(fetch[i](), base, places[i].name, on_convert=lambda: _log.info("%s: converting", told))

    return {place.name: partial(make, i) for i, place in enumerate(places)}


def places_below(folder: Path) -> list[Place]:
    """The adapters in a folder, whose own are relative to it. Raises AdapterFileError."""
    if not os.path.isdir(folder):
        got = "a file" if os.path.exists(folder) else "nothing"
        raise AdapterFileError(complaint(folder, "library", "a folder of adapters, or hf:owner/repo[@revision]", got, "check the path"))
    try:
        named = dict(_indexed(folder))
        if (folder / CONFIG).is_file():
            return [_place(folder, folder, named)]
        found = [_place(folder, config.parent, named) for depth in range(1, _DEEPEST + 1) for config in sorted(folder.glob("*/" * depth + CONFIG))]
        return [place for place in found if place.base or "/" not in place.folder or folder / place.folder in named]  # others are checkpoints
    except OSError as e:
        raise AdapterFileError(complaint(e.filename or folder, "library", "a folder that can be read", e.strerror or e, "check the path")) from e


def _choose_in(folder: Path, base: OpenBase) -> list[Place]:
    def size_of(place: Place) -> Size | None:
        try:
            return size_of_adapter({name: entry.shape for name, entry in SafetensorsFile(folder / place.folder / TENSORS).entries.items()})
        except ConversionError:
            return None

    if not (places := places_below(folder)):
        raise AdapterFileError(complaint(folder, "library", f"folders with {CONFIG}", "none", "name a folder of adapters"))
    if not (found := fitting(places, base, size_of)):
        theirs = ", ".join(sorted({place.base for place in places}))
        raise AdapterFileError(complaint(folder, "library", f"adapters for {base}", f"those for {theirs}", "take one of these as the base"))
    return found


def _place(root: Path, folder: Path, named: dict[Path, Place]) -> Place:
    """By what the index says, else by its path: the names may stand above the folder that was given."""
    inside = folder.relative_to(root).as_posix()
    if folder in named:
        return named[folder]
    *_, name, above, last = ("", "", *Path(os.path.abspath(folder)).parts)
    if last in TECHNOLOGIES:
        return Place(inside, name, above, last)
    return Place(inside, name, last, above) if above in TECHNOLOGIES else Place(inside, last, "", "lora")


def _indexed(folder: Path) -> Iterator[tuple[Path, Place]]:
    """Folders by Mellea's index: those of an io.yaml that have an adapter beside it. Raises AdapterFileError."""
    path = folder / INDEX
    if not path.is_file():
        return
    try:
        with open(path, "rb") as f:
            entries = json.loads(f.read(_MOST_OF_INDEX))["adapters"]
        found = [
            (str(e["adapter_name"]), Path(os.path.normpath(folder / str(e["io_config"]))).parent, str(e.get("technology", "lora"))) for e in entries
        ]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise AdapterFileError(complaint(path, "index", "adapters with adapter_name and io_config", f"{type(e).__name__}: {e}", "correct it")) from e
    for name, beside, technology in found:
        if not _NAME.fullmatch(name):  # it becomes a file's
            raise AdapterFileError(complaint(path, "adapter_name", "letters, digits, and . _ - between them", name, "correct it"))
        if beside.is_relative_to(folder) and (beside / CONFIG).is_file():
            place = _place(folder, beside, {})
            yield beside, place._replace(name=name, technology=technology if technology in TECHNOLOGIES else place.technology)
