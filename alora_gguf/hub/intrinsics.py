"""Adapters by their names on the hub: libraries of intrinsics, and repositories that are one adapter."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .fit import CONFIG, OpenBase, Place, Size, fitting, places_in, size_of_adapter
from .hf_name import HubName
from .repository import Repository
from .signature import MOST_BYTES as MOST_OF_SIGNATURE
from .signature import SIGNATURE, check_signature

TENSORS = "adapter_model.safetensors"
MOST_BYTES: dict[str, int | None] = {  # what is fetched, no more
    CONFIG: 1_000_000,
    TENSORS: 1 << 33,
    "io.yaml": 100_000,
    "README.md": 1_000_000,
    SIGNATURE: MOST_OF_SIGNATURE,
}


def fetch_intrinsic(name: HubName, base: OpenBase) -> Path:
    """The PEFT folder of an adapter for a base. Raises HubError."""
    return intrinsic_from(Repository(name), base)


def intrinsic_from(repository: Repository, base: OpenBase) -> Path:
    """The same, of a repository. Raises HubError."""
    _check_no_base(repository)
    return fetch_place(repository, choose(repository, base))


def choose(repository: Repository, base: OpenBase) -> Place:
    """The adapter that is meant. Raises HubError."""
    places = places_in(repository.files, repository.name.repo)
    wanted = repository.name.name or repository.name.repo.rpartition("/")[2]
    if not (named := [place for place in places if place.name == wanted]):
        others = ", ".join(sorted({place.name for place in places}))
        action = "name one as hf:owner/repo/name, or take all with --intrinsics" if others else "name another repository"
        repository.refuse(f"an adapter {wanted!r}", f"{others or 'none'}", action)
    return _fitting(repository, named, base, "an adapter")[0]


def choose_all(repository: Repository, base: OpenBase) -> list[Place]:
    """The adapters that are for the base, one of each name. Raises HubError if there are none."""
    _check_no_base(repository)
    if repository.name.name:
        return [choose(repository, base)]
    if not (places := places_in(repository.files, repository.name.repo)):
        repository.refuse("a library of adapters", f"{len(repository.files)} other files", "name another repository")
    return _fitting(repository, places, base, "adapters")


def fetch_place(repository: Repository, place: Place) -> Path:
    """Its PEFT folder, with what its signature says compared with it. Raises HubError."""
    prefix = f"{place.folder}/" if place.folder else ""
    if prefix + TENSORS not in repository.files:
        got = ", ".join(file for file in repository.files if file.startswith(f"{prefix}adapter_model")) or "none"
        repository.refuse(f"{prefix}{TENSORS}", got, "only safetensors are read of what others made")
    folder = repository.fetch({file: MOST_BYTES[file.rpartition("/")[2]] for file in files_of(repository, place)}) / place.folder
    return checked(folder, f"hf:{repository.name.repo}{f'/{place.name}' if place.folder else ''}")


def checked(folder: Path, called: str) -> Path:
    """The folder itself, if its signature is not against it. Raises HubError."""
    check_signature(folder, [file for file in MOST_BYTES if file != SIGNATURE and (folder / file).is_file()], called)
    return folder


def files_of(repository: Repository, place: Place) -> list[str]:
    """What is fetched of an adapter, and the card of the intrinsic, for all of its bases."""
    prefix = f"{place.folder}/" if place.folder else ""
    card = [f"{place.name}/README.md"] if place.base else []
    return [file for file in (*(prefix + file for file in MOST_BYTES), *card) if file in repository.files]


def _fitting(repository: Repository, places: Sequence[Place], base: OpenBase, what: str) -> list[Place]:
    def size_of(place: Place) -> Size | None:
        shapes = repository.shapes(f"{place.folder}/{TENSORS}")
        return size_of_adapter(shapes) if shapes else None

    if not (found := fitting(places, base, size_of)):
        theirs = ", ".join(sorted({place.base for place in places}))
        repository.refuse(f"{what} for {base}", f"those for {theirs}", "take one of these as the base")
    return found


def _check_no_base(repository: Repository) -> None:
    if quant := repository.name.quant:
        repository.refuse("an adapter, hf:owner/repo/name", f"a quantisation, {quant}", "correct the name")
