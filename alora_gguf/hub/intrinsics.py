"""Adapters by their names on the hub: libraries of intrinsics, and repositories that are one adapter."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from ..convert.gguf.file import STRING, GGUFFile
from ..errors import ConversionError
from .bases import CONFIG
from .hf_name import HubName
from .repository import Repository

TECHNOLOGIES = ("alora", "lora")  # the first that there is
TENSORS = "adapter_model.safetensors"
MOST_BYTES: dict[str, int | None] = {CONFIG: 1_000_000, TENSORS: 1 << 33, "io.yaml": 100_000, "README.md": 1_000_000}  # what is fetched, no more


class Place(NamedTuple):
    """Where a repository has an adapter. base: the name of the model that it is for, "" if the layout has none."""

    folder: str
    name: str
    base: str
    technology: str


def fetch_intrinsic(name: HubName, bases: Sequence[str]) -> Path:
    """The PEFT folder of an adapter for a base that is called one of `bases`. Raises HubError."""
    return intrinsic_from(Repository(name), bases)


def intrinsic_from(repository: Repository, bases: Sequence[str]) -> Path:
    """The same, of a repository. Raises HubError."""
    if quant := repository.name.quant:
        repository.refuse("an adapter, hf:owner/repo/name", f"a quantisation, {quant}", "correct the name")
    place = choose(repository, bases)
    prefix = f"{place.folder}/" if place.folder else ""
    if prefix + TENSORS not in repository.files:
        got = ", ".join(file for file in repository.files if file.startswith(f"{prefix}adapter_model")) or "none"
        repository.refuse(f"{prefix}{TENSORS}", got, "only safetensors are read of what others made")
    files = {prefix + file: most for file, most in MOST_BYTES.items() if prefix + file in repository.files}
    if (card := f"{place.name}/README.md") in repository.files and place.base:  # the intrinsic's, for all of its bases
        files[card] = MOST_BYTES["README.md"]
    return repository.fetch(files) / place.folder


def choose(repository: Repository, bases: Sequence[str]) -> Place:
    """The adapter that is meant: for the base with the longest name that fits, aLoRA before LoRA. Raises HubError."""
    places = places_in(repository.files, repository.name.repo)
    wanted = repository.name.name or repository.name.repo.rpartition("/")[2]
    if not (named := [place for place in places if place.name == wanted]):
        others = ", ".join(sorted({place.name for place in places}))
        repository.refuse(f"an adapter {wanted!r}", f"{others or 'none'}", "name one as hf:owner/repo/name" if others else "name another repository")
    fitting = [place for place in named if not place.base or any(_fits(place.base, base) for base in bases)]
    if not fitting:
        theirs = ", ".join(sorted({place.base for place in named}))
        repository.refuse(
            f"an adapter for {' or '.join(dict.fromkeys(bases)) or 'a base that is named'}", f"those for {theirs}", "take one of these as the base"
        )
    return min(fitting, key=lambda place: (-len(_words(place.base)), TECHNOLOGIES.index(place.technology), place))


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


def names_of_base(path: Path) -> list[str]:
    """What a GGUF base may be called in a library: by its own name, its basename and size, its file, and its repository on the hub."""
    names = [path.stem, *(folder.name.split("--")[-1] for folder in path.parents if folder.name.startswith("models--"))]
    file = GGUFFile(path, ConversionError)
    parts = [file.get(f"general.{key}", STRING) for key in ("basename", "size_label")]
    return [name for name in (file.get("general.name", STRING), "-".join(part for part in parts if part), *names) if name]


def _fits(base: str, name: str) -> bool:
    """Whether the words of one stand in the other, in a row."""
    words, others = _words(base), _words(name)
    return any(others[i : i + len(words)] == words for i in range(len(others) - len(words) + 1))


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())
