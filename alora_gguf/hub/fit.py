"""Which base model an adapter of a library is for: by what both are called, and where that leaves a choice, by their sizes."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from ..convert.gguf.file import STRING, UINT32, GGUFFile
from ..errors import ConversionError

TECHNOLOGIES = ("alora", "lora")  # the first that there is
CONFIG = "adapter_config.json"


class Place(NamedTuple):
    """Where a library has an adapter. base: the name of the model that it is for, "" if the layout has none."""

    folder: str
    name: str
    base: str
    technology: str


class Size(NamedTuple):
    """Layers, and the width of what goes through them."""

    n_layer: int
    n_embd: int


@dataclass(frozen=True)
class OpenBase:
    """names: what a library may call it. Where no more than a name is known, the architecture is "" and the size None."""

    names: tuple[str, ...]
    architecture: str = ""
    size: Size | None = None

    @classmethod
    def of(cls, path: Path) -> OpenBase:
        """A GGUF: by its own name, its basename and size, its file, and its repository on the hub. Raises ConversionError."""
        file = GGUFFile(path, ConversionError)
        parts = [file.get(f"general.{key}", STRING) for key in ("basename", "size_label")]
        repositories = [folder.name.split("--")[-1] for folder in path.parents if folder.name.startswith("models--")]
        names = (file.get("general.name", STRING), "-".join(part for part in parts if part), path.stem, *repositories)
        architecture = file.get("general.architecture", STRING, "")
        size = [file.metadata.get(f"{architecture}.{key}") for key in ("block_count", "embedding_length")]
        known = [value for kind, value in filter(None, size) if kind == UINT32]
        return cls(tuple(name for name in names if name), architecture, Size(*known) if len(known) == 2 else None)

    def is_called(self, base: str) -> bool:
        """Whether its words stand in one of the names, in a row."""
        words = _words(base)
        return any(others[i : i + len(words)] == words for others in map(_words, self.names) for i in range(len(others) - len(words) + 1))

    def is_related(self, base: str) -> bool:
        """Whether the name begins as the architecture does: granite-4.0-h-tiny is for a granitehybrid."""
        return any(len(word) > 3 and self.architecture.startswith(word) for word in _words(base))

    def __str__(self) -> str:
        return " or ".join(dict.fromkeys(self.names)) or "a base that is named"


def fitting(places: Sequence[Place], base: OpenBase, size_of: Callable[[Place], Size | None]) -> list[Place]:
    """Those that are for the base, of each name one: that for the longest name of a base, aLoRA before LoRA.

    Where names fit several bases of the library, sizes that are known have to be the base's too. Where they fit none, one that
    begins as the base's architecture is taken for it if no other has its size.
    """

    @cache
    def size(of: str) -> Size | None:
        return size_of(next(place for place in places if place.base == of)) if base.size else None

    called = [place for place in places if not place.base or base.is_called(place.base)]
    if len({place.base for place in called}) > 1:
        called = [place for place in called if not place.base or size(place.base) in (None, base.size)] or called
    if not called:
        related = {place.base for place in places if base.is_related(place.base)}
        same = {of for of in related if size(of) is not None and size(of) == base.size}
        called = [place for place in places if len(same) == 1 and place.base in same]
    chosen: dict[str, Place] = {}
    for place in sorted(called, key=lambda place: (-len(_words(place.base)), TECHNOLOGIES.index(place.technology), place)):
        chosen.setdefault(place.name, place)
    return sorted(chosen.values(), key=lambda place: place.name)


def places_in(files: Iterable[str], repo: str) -> list[Place]:
    """The adapters of a repository: `<name>/<base>/<alora|lora>`, the older `<name>/<alora|lora>/<base>`, `<name>`, or the repository itself."""
    places = []
    for file in files:
        folder, _, config = file.rpartition("/")
        if config == CONFIG:
            match folder.split("/"):
                case [""]:
                    places.append(Place("", repo.rpartition("/")[2], "", "lora"))
                case [name]:
                    places.append(Place(folder, name, "", "lora"))
                case [name, base, technology] if technology in TECHNOLOGIES:
                    places.append(Place(folder, name, base, technology))
                case [name, technology, base] if technology in TECHNOLOGIES:
                    places.append(Place(folder, name, base, technology))
    return places


def size_of_adapter(shapes: Mapping[str, Sequence[int]]) -> Size | None:
    """Of the base that an adapter with these tensors was trained on; None if they do not say. Most of its matrices read what goes through the layers."""
    layers = [int(found[1]) for name in shapes if (found := re.search(r"\.(?:layers|h|blocks)\.(\d{1,9})\.", name))]
    widths = Counter(shape[-1] for name, shape in shapes.items() if ".lora_A." in name and len(shape) == 2)
    return Size(max(layers) + 1, widths.most_common(1)[0][0]) if layers and widths else None


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())
