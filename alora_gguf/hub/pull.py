"""What is fetched ahead of its use."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from ..text import printable
from .bases import base_from, bases_in
from .fit import OpenBase, Place, places_in
from .hf_name import is_hub_name, parse_hub_name
from .intrinsics import choose_all, fetch_place, files_of, intrinsic_from
from .repository import Repository

_log = logging.getLogger("alora_gguf.hub")


@dataclass(frozen=True)
class Pulled:
    """path: a base's GGUF, the first part if it is split, or an adapter's folder."""

    name: str
    path: Path

    def as_dict(self) -> dict[str, str]:
        return {key: str(value) for key, value in asdict(self).items()}


def pull(names: Sequence[str], base: str | None) -> list[Pulled]:
    """Fetches what is not here; of a library without a name in it all that is for the base.

    base: what the adapters are for: a GGUF file, a name on the hub, or what a library calls it; else the bases among `names`,
    else the only one that the library has. Raises HubError, ConversionError.
    """
    repositories = [Repository(parse_hub_name(name)) for name in names]
    is_base = [not repository.name.name and bool(bases_in(repository.files)) for repository in repositories]
    fetched = {i: [Pulled(str(repository.name), base_from(repository))] for i, repository in enumerate(repositories) if is_base[i]}
    called = _together([OpenBase.of(pulled[0].path) for pulled in fetched.values()]) if base is None else _called(base)
    for i, repository in enumerate(repositories):
        if not is_base[i]:
            fetched[i] = _adapters(repository, called)
    return [pulled for i in range(len(repositories)) for pulled in fetched[i]]


def _adapters(repository: Repository, base: OpenBase) -> list[Pulled]:
    places = places_in(repository.files, repository.name.repo)
    theirs = {place.base for place in places if repository.name.name in (None, place.name)}
    if not base.names and len(theirs) == 1:
        base = OpenBase(tuple(theirs))
    if repository.name.name or any(not place.folder for place in places):
        return [Pulled(str(repository.name), intrinsic_from(repository, base))]
    chosen = choose_all(repository, base)
    return [_pulled(repository, place, f"{i} of {len(chosen)}") for i, place in enumerate(chosen, 1)]


def _pulled(repository: Repository, place: Place, which: str) -> Pulled:
    if not repository.has(files_of(repository, place)):
        _log.info("%s: %s, %s: fetching", repository.name, printable(place.name), which)
    return Pulled(str(replace(repository.name, name=place.name)), fetch_place(repository, place))


def _together(bases: Sequence[OpenBase]) -> OpenBase:
    return bases[0] if len(bases) == 1 else OpenBase(tuple(name for base in bases for name in base.names))


def _called(base: str) -> OpenBase:
    if is_hub_name(base):
        return OpenBase((parse_hub_name(base).repo.rpartition("/")[2],))
    return OpenBase.of(Path(base)) if os.path.isfile(base) else OpenBase((base,))
