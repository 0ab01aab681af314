"""What is on this machine: bases and adapters in huggingface_hub's cache, and adapters that were converted."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from ..convert import base_fingerprint, read_adapter_metadata
from ..errors import AloraError, HubError
from ..text import printable
from .bases import bases_in
from .fit import OpenBase, places_in
from .folders import cache_folder
from .hf_name import PREFIX, HubName, is_hub_name, parse_hub_name
from .repository import commit_of, hub_cache, remove_file

_QUANT = re.compile(r"(?:^|[-._/])((?:UD-)?(?:I?Q\d\w*|TQ\d\w*|BF16|F16|F32|MXFP4\w*))\.gguf$", re.IGNORECASE)


@dataclass(frozen=True)
class Entry:
    """One base or adapter.

    kind    base, alora, lora, or converted: a GGUF that was made of an adapter
    name    as it is written in place of a path; a converted adapter's is that of its file
    base    what an adapter is for, "" if that is not known
    path    of the first file, or of the adapter's folder
    source  of a converted adapter that came from the hub: repository and commit
    fits    the bases here that it is for: by name, a converted one by fingerprint
    """

    kind: str
    name: str
    base: str
    path: Path
    files: tuple[Path, ...]
    source: str = ""
    fits: tuple[str, ...] = ()

    @property
    def n_bytes(self) -> int:
        return sum(file.stat().st_size for file in self.files)

    def as_dict(self) -> dict[str, Any]:
        about = {"kind": self.kind, "name": self.name, "base": self.base, "path": str(self.path), "n_bytes": self.n_bytes}
        return about if self.kind == "base" else {**about, "fits": list(self.fits), **({"source": self.source} if self.source else {})}


def entries(others: Mapping[str, Path] = MappingProxyType({})) -> list[Entry]:
    """All of them, by name. `others` are bases that adapters may fit beside those of the cache, by what to call them."""
    converted = list(_converted())
    found = [*_fetched(), *(entry for entry, _ in converted)]
    bases = [_Base(name, path) for name, path in (*((entry.name, entry.path) for entry in found if entry.kind == "base"), *others.items())]
    made = {entry.path: fingerprint for entry, fingerprint in converted}
    fitted = [
        replace(entry, fits=tuple(base.name for base in bases if base.fits(entry, made.get(entry.path)))) if entry.kind != "base" else entry
        for entry in found
    ]
    return sorted(fitted, key=lambda entry: (entry.kind == "converted", entry.name, entry.base, entry.kind))


def remove(name: str) -> int:
    """Removes what entries() calls so; of `hf:owner/repo` all. Returns the bytes that are free now. Raises HubError."""
    here = entries()
    wanted = parse_hub_name(name) if is_hub_name(name) else None
    found = [entry for entry in here if entry.name == name or (wanted and entry.kind != "converted" and _is_part(parse_hub_name(entry.name), wanted))]
    if not found:
        raise HubError(f"{printable(name)}: expected a name of `alora list`, got another; {len(here)} are here")
    n_bytes = 0
    for entry in found:
        for file in entry.files:
            if entry.kind == "converted":
                n_bytes += file.stat().st_size
                file.unlink()
                if not any(file.parent.glob("*.gguf")):
                    shutil.rmtree(file.parent)  # with what a process that was killed left there
            elif file.is_symlink() or file.exists():  # two names may have it
                n_bytes += remove_file(file, _repository_of(file))
    for folder in {_repository_of(entry.path) for entry in found if entry.kind != "converted"}:
        if not any(file.is_file() for file in (folder / "snapshots").rglob("*")):
            shutil.rmtree(folder)
    return n_bytes


def _is_part(one: HubName, of: HubName) -> bool:
    return replace(one, name=None, quant=None) == of


def _fetched() -> Iterator[Entry]:
    for folder in hub_cache().glob("models--*--*"):
        _, owner, repo = folder.name.split("--", 2)
        for snapshot in (folder / "snapshots").glob("*"):
            files = [file.relative_to(snapshot).as_posix() for file in snapshot.rglob("*") if file.is_file()]
            name = HubName(f"{owner}/{repo}", revision=_revision(folder, snapshot.name))
            for base, parts in bases_in(files).items():
                quant = _QUANT.search(base)
                yield Entry("base", str(replace(name, quant=quant and quant[1])), "", snapshot / parts[0], tuple(snapshot / part for part in parts))
            for place in places_in(files, name.repo):
                inside = tuple(file for file in (snapshot / place.folder).iterdir() if file.is_file())
                called = replace(name, name=place.name if place.folder else None)
                yield Entry(place.technology, str(called), place.base, snapshot / place.folder, inside)


def _revision(folder: Path, commit: str) -> str:
    """What to call a commit: main, else another of its names, else itself."""
    refs = folder / "refs"
    names = sorted(ref.relative_to(refs).as_posix() for ref in refs.rglob("*") if ref.is_file())
    return next((name for name in ("main", *names) if commit_of(folder, name) == commit), commit)


def _converted() -> Iterator[tuple[Entry, str | None]]:
    """Each with the fingerprint of its base."""
    for path in (cache_folder() / "adapters").glob("*/*.gguf"):
        entry = Entry("converted", path.stem, "", path, (path,))
        try:
            known = read_adapter_metadata(path)
        except AloraError:  # of another version; it can go
            yield entry, None
            continue
        source = f"{PREFIX}{known.repository}@{(known.revision or 'main')[:12]}" if known.repository else ""
        yield replace(entry, base=known.base_name or "", source=source), known.fingerprint


class _Base:
    """A base that adapters may be for."""

    def __init__(self, name: str, path: Path):
        self.name, self._path = name, path

    def fits(self, entry: Entry, fingerprint: str | None) -> bool:
        if entry.kind == "converted":
            return fingerprint is not None and fingerprint == self._fingerprint
        return bool(entry.base) and self._open is not None and self._open.is_called(entry.base)

    @cached_property
    def _fingerprint(self) -> str | None:
        with contextlib.suppress(AloraError):
            return base_fingerprint(self._path)
        return None

    @cached_property
    def _open(self) -> OpenBase | None:
        with contextlib.suppress(AloraError):
            return OpenBase.of(self._path)
        return None


def _repository_of(path: Path) -> Path:
    """Its folder in the cache."""
    return hub_cache() / path.relative_to(hub_cache()).parts[0]
