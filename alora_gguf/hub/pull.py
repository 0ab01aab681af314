"""What is fetched ahead of its use."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .bases import base_from, bases_in
from .hf_name import is_hub_name, parse_hub_name
from .intrinsics import intrinsic_from, names_of_base, places_in
from .repository import Repository


@dataclass(frozen=True)
class Pulled:
    """path: a base's GGUF, the first part if it is split, or an adapter's folder."""

    name: str
    path: Path

    def as_dict(self) -> dict[str, str]:
        return {key: str(value) for key, value in asdict(self).items()}


def pull(names: Sequence[str], base: str | None) -> list[Pulled]:
    """Fetches what is not here.

    base: what the adapters are for: a GGUF file, a name on the hub, or what a library calls it; else the bases among `names`,
    else the only one that the library has. Raises HubError, ConversionError.
    """
    repositories = [Repository(parse_hub_name(name)) for name in names]
    is_base = [not repository.name.name and bool(bases_in(repository.files)) for repository in repositories]
    paths = {i: base_from(repository) for i, repository in enumerate(repositories) if is_base[i]}
    called = [name for path in paths.values() for name in names_of_base(path)] if base is None else _called(base)
    for i, repository in enumerate(repositories):
        if not is_base[i]:
            theirs = {place.base for place in places_in(repository.files, repository.name.repo) if place.name == repository.name.name}
            paths[i] = intrinsic_from(repository, called or (list(theirs) if len(theirs) == 1 else []))
    return [Pulled(str(repository.name), paths[i]) for i, repository in enumerate(repositories)]


def _called(base: str) -> list[str]:
    if is_hub_name(base):
        return [parse_hub_name(base).repo.rpartition("/")[2]]
    return names_of_base(Path(base)) if os.path.isfile(base) else [base]
