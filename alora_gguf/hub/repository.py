"""A repository on the hub: what it has, and the files of it that are needed, in huggingface_hub's cache.

huggingface_hub does the work, and is imported by the first name that needs it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any, NoReturn

from ..convert.peft.safetensors_file import SafetensorsFile
from ..errors import HubError
from ..text import human_bytes, printable
from .hf_name import HubName

_CHUNK = 1 << 20
_FULL = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))


@dataclass(frozen=True)
class RepoFile:
    """n_bytes, sha256: as the hub says; None where it does not."""

    n_bytes: int | None = None
    sha256: str | None = None


class Repository:
    """One repository at one commit: as the hub has it, or where no request is to be made or none is answered, what is here of it.

    files   by name, with / between folders
    """

    def __init__(self, name: HubName):
        """Raises HubError."""
        from huggingface_hub import constants

        self.name = name
        self.endpoint: str = constants.ENDPOINT
        self._cache = cache_of(name.repo)
        self._reason = "HF_HUB_OFFLINE or --offline is set" if constants.HF_HUB_OFFLINE else ""  # that nothing is fetched
        info: Any = None if self._reason else self._ask()
        if info is None:
            self.commit, self.files = self._here()
        else:
            self.commit = str(info.sha)
            self.files = {str(s.rfilename): _as_said(s) for s in info.siblings or ()}
        if not re.fullmatch("[0-9a-f]{40}", self.commit):
            self.refuse("a commit of 40 hex digits", self.commit)
        for file in self.files:
            if PureWindowsPath(file).anchor or not file.isprintable() or ".." in PureWindowsPath(file).parts:
                self.refuse("names of files that stay in its folder", repr(file))

    @property
    def folder(self) -> Path:
        """Where its files are once they have been fetched."""
        return self._cache / "snapshots" / self.commit

    def refuse(self, expected: str, got: str, action: str = "name another repository or revision") -> NoReturn:
        raise HubError(f"{self.name}: expected {printable(expected, 1000)}, got {printable(got, 1000)}; {action}")

    def fetch(self, files: dict[str, int | None]) -> Path:
        """The folder that has these files of it; what is there already is not asked for. `files` says the most bytes of each. Raises HubError."""
        for file, most in files.items():
            n_bytes = self.files[file].n_bytes if file in self.files else None
            if most is not None and n_bytes is not None and n_bytes > most:
                self.refuse(f"at most {human_bytes(most)} of {file}", human_bytes(n_bytes))
        missing = [file for file in files if not (self.folder / file).is_file()]
        if missing and self._reason:
            self._cannot(missing, self._reason)
        for file in missing:
            self._fetch(file)
        for file, most in files.items():
            self._check_inside(path := self.folder / file)
            if most is not None and path.stat().st_size > most:
                self.refuse(f"at most {human_bytes(most)} of {file}", human_bytes(path.stat().st_size))
        return self.folder

    def has(self, files: Iterable[str]) -> bool:
        """Whether all of these are here."""
        return all((self.folder / file).is_file() for file in files)

    def shapes(self, file: str) -> dict[str, tuple[int, ...]] | None:
        """Of the tensors of a safetensors file, by name; of one that is not here its header alone is asked for. None if that is not to be had."""
        try:
            if self.has([file]):
                return {name: entry.shape for name, entry in SafetensorsFile(self.folder / file).entries.items()}
            if self._reason:
                return None
            from huggingface_hub import HfApi

            header = HfApi().parse_safetensors_file_metadata(self.name.repo, file, revision=self.commit)
            return {str(name): tuple(map(int, info.shape)) for name, info in header.tensors.items()}
        except Exception:  # as below; whoever needs it does without
            return None

    def _fetch(self, file: str) -> None:
        from huggingface_hub import hf_hub_download

        revision = self.commit if commit_of(self._cache, self.name.revision) == self.commit else self.name.revision  # a branch is written down so
        try:
            path = Path(hf_hub_download(self.name.repo, file, revision=revision))
        except Exception as e:  # its transports' errors have no class in common
            self._cannot([file], _said(e), e)
        if path != self.folder / file:
            self.refuse(f"{file} of commit {self.commit[:12]}", f"that of {path.relative_to(self._cache / 'snapshots').parts[0][:12]}", "try again")
        self._check_inside(path)
        self._check(path, self.files[file])

    def _check_inside(self, path: Path) -> None:
        """A server's ETag is the name of a blob."""
        if not (path.is_file() and path.resolve().is_relative_to(self._cache.resolve())):
            self.refuse(f"{path.name} in the cache's folder", f"a link to {path.resolve()}", f"remove {path}")

    def _check(self, path: Path, file: RepoFile) -> None:
        """What came is what the hub said it has; else nothing of it stays."""
        wanted: list[Any] = [file.n_bytes, file.sha256]
        got: list[Any] = [path.stat().st_size if file.n_bytes is not None else None, _sha256(path) if file.sha256 else None]
        if wanted != got:
            remove_file(path, self._cache)
            self.refuse(f"{path.name} of {wanted[0]} bytes, sha256 {wanted[1]}", f"{got[0]} bytes, sha256 {got[1]}", "fetch it again")

    def _ask(self) -> Any:
        """What the hub says of it; None if it says nothing and something is here."""
        from huggingface_hub import HfApi
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        try:
            return HfApi().model_info(self.name.repo, revision=self.name.revision, files_metadata=True)
        except RevisionNotFoundError:
            self.refuse(f"a revision of {self.endpoint}/{self.name.repo}", f"{self.name.revision!r}, which it does not have", "check the name")
        except RepositoryNotFoundError as e:
            raise HubError(
                f"{self.name}: expected a repository that may be read at {self.endpoint}/{self.name.repo}, got none; "
                "check the name, or set HF_TOKEN if it is private or gated"
            ) from e
        except Exception as e:  # as above
            self._reason = _said(e)
            if not commit_of(self._cache, self.name.revision):
                self._cannot([], self._reason, e)
        return None

    def _here(self) -> tuple[str, dict[str, RepoFile]]:
        commit = commit_of(self._cache, self.name.revision)
        if commit is None:
            self._cannot([], self._reason)
        folder = self._cache / "snapshots" / commit
        return commit, {file.relative_to(folder).as_posix(): RepoFile(file.stat().st_size) for file in folder.rglob("*") if file.is_file()}

    def _cannot(self, files: list[str], reason: str, error: Exception | None = None) -> NoReturn:
        what = f"{', '.join(files)} " if files else ""
        url = f"{self.endpoint}/{self.name.repo}, revision {self.name.revision}"
        full = isinstance(error, OSError) and error.errno in _FULL
        action = f"make room in {hub_cache()}" if full else "fetch it once with a network, or name a file that is here"
        raise HubError(f"{self.name}: expected to fetch {printable(what, 1000)}from {url}, got: {printable(reason)}; {action}") from error


def _as_said(sibling: Any) -> RepoFile:
    return RepoFile(sibling.size if isinstance(sibling.size, int) else None, sibling.lfs.sha256 if sibling.lfs else None)


def hub_cache() -> Path:
    """huggingface_hub's cache folder."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def cache_of(repo: str) -> Path:
    """The folder in it with what is here of a repository."""
    return hub_cache() / f"models--{repo.replace('/', '--')}"


def remove_file(path: Path, cache: Path) -> int:
    """Removes a file of a repository's cache, and its blob if nothing else is a link to it. Returns the bytes that are free now."""
    blob = path.resolve()
    n_bytes = blob.stat().st_size
    path.unlink()
    if path.parent.resolve() / path.name != blob:  # a link, as everywhere but on Windows
        if not blob.is_relative_to(cache.resolve()) or any(link.resolve() == blob for link in (cache / "snapshots").rglob("*") if link.is_symlink()):
            return 0
        blob.unlink()
    return n_bytes


def commit_of(cache: Path, revision: str) -> str | None:
    """The commit that a revision is here; None if nothing of it is."""
    ref = cache / "refs" / revision
    commit = ref.read_text(errors="replace").strip() if ref.is_file() else revision
    return commit if re.fullmatch("[0-9a-f]{40}", commit) and (cache / "snapshots" / commit).is_dir() else None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        while chunk := f.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}{f' ({os.fspath(error.filename)})' if error.filename else ''}"
    return next(iter(str(error).strip().splitlines()), "") or type(error).__name__
