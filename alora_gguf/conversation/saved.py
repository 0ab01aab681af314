"""A saved conversation: what was said, and the cells that hold it.

The file: the 8 bytes `ALORACNV`; the number of bytes of the header as a little-endian u64; the
header, JSON; the states, as llama_state_seq_get_data writes them: that of the conversation, and of each
of the header's asides; 32 bytes, the SHA-256 of all before.

An aside is what stands between the conversation and the start of an intrinsic that was asked on it:
`after` so many tokens of the conversation come these `tokens`, of the base; the state has the last
`n_cells` of them. With it, an intrinsic that is asked again stands on the very same cells. It is left
away where memory has no ranges of cells: recurrent and hybrid ones, and sliding windows.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import struct
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import SavedConversationError

_MAGIC = b"ALORACNV"
_VERSION = 6
_HEADER = {
    "llama_cpp": str,
    "model": str,
    "model_name": str,
    "cells": list,
    "adapter": dict | None,
    "messages": list,
    "n_dropped": int,
    "documents": list,
    "notes": dict,
    "chat_template_kwargs": dict,
    "tools": list,
    "began": str,
    "text": str,
    "tokens": list,
    "n_cells": int,
    "asides": list,
}
_ASIDE = {"after": int, "tokens": list, "n_cells": int, "n_bytes": int}


@dataclass
class Saved:
    """What is in the file.

    llama_cpp   version of llama-cpp-python: the states' format is its llama.cpp's own
    model       digest of the model's file; model_name: the file's, for people
    cells       the types of the cache's cells, as in Engine.cell_types
    adapter     name and sha256 of the LoRA that the conversation is held with
    messages    all that was said; n_dropped: how many of them are in no prompt any more
    text        of what is in prompts; tokens: those of the text; n_cells: how many of them have cells in the first state
    asides      a mapping for each of the other states: after, tokens, n_cells, n_bytes
    states      of the conversation, if it has cells, and of the asides
    """

    llama_cpp: str
    model: str
    model_name: str
    cells: list[int]
    adapter: dict[str, str] | None
    messages: list[dict[str, Any]]
    n_dropped: int
    documents: list[dict[str, str]]
    notes: dict[str, Any]
    chat_template_kwargs: dict[str, Any]
    tools: list[dict[str, Any]]
    began: str
    text: str
    tokens: list[int]
    n_cells: int
    asides: list[dict[str, Any]]
    states: list[memoryview] = field(repr=False)

    def write(self, path: str | PathLike[str]) -> None:
        """Writes `path` whole or not at all. Raises SavedConversationError if it cannot be written."""
        header = {"version": _VERSION, **{f.name: getattr(self, f.name) for f in fields(self) if f.name != "states"}}
        try:
            data = json.dumps(header).encode()
        except (TypeError, ValueError) as e:
            raise SavedConversationError(f"{path}: expected notes that are values of JSON, got: {e}; correct them") from e
        _write(Path(path), [_MAGIC, struct.pack("<Q", len(data)), data, *self.states])

    @classmethod
    def read(cls, path: str | PathLike[str]) -> Saved:
        """Raises SavedConversationError for a file that is none, or is damaged."""
        header, states = _read(Path(path))
        return cls(**{name: header[name] for name in _HEADER}, states=states)

    def check(self, path: str | PathLike[str], llama_cpp: str, model: str, name: str, cells: list[int]) -> None:
        """Raises SavedConversationError unless it was saved with these."""
        if model != self.model:
            held = self.model_name if self.model_name != name else f"another file of the name {name}"
            raise SavedConversationError(f"{path}: expected a conversation with {name}, got one with {held}; load the model that it was held with")
        for what, expected, got, advice in (
            ("llama_cpp", llama_cpp, self.llama_cpp, "save it again with this version"),
            ("cells", cells, self.cells, "load the model with the same type_k, type_v and flash_attn"),
        ):
            if got != expected:
                raise SavedConversationError(f"{path}: {what}: expected {expected}, got {got}; {advice}")

    def time(self, path: str | PathLike[str]) -> datetime:
        """When it began. Raises SavedConversationError."""
        try:
            return datetime.fromisoformat(self.began)
        except ValueError as e:
            raise SavedConversationError(f"{path}: header: expected a time in began, got {self.began!r:.40}; the file is damaged") from e


def check_target(path: Path) -> None:
    """Raises SavedConversationError if `path` is there and no saved conversation: to be replaced by one, it has to be one."""
    try:
        begin = _begin(path)
    except FileNotFoundError:
        return
    except (OSError, ValueError) as e:
        raise SavedConversationError(f"{path}: expected a file that can be written, got: {getattr(e, 'strerror', None) or e}; check the path") from e
    if begin != _MAGIC:
        raise SavedConversationError(f"{path}: expected a new file or a saved conversation, got another kind of file; choose another name")


def _begin(path: Path) -> bytes:
    """The first bytes of a file; none of what is no file, as a pipe, in which one would wait. Raises OSError, ValueError."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        return b""
    with open(path, "rb") as f:
        return f.read(len(_MAGIC))


def _write(path: Path, parts: Sequence[bytes | memoryview]) -> None:
    digest = hashlib.sha256()
    temporary = None
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as f:
            temporary = f.name
            for part in parts:
                digest.update(part)
                f.write(part)
            f.write(digest.digest())
            f.flush()
            os.fsync(f.fileno())
        os.replace(temporary, path)
    except OSError as e:
        raise SavedConversationError(f"{path}: expected a file that can be written, got: {e.strerror}; check the path and the room there") from e
    finally:  # after a signal too
        if temporary:
            with contextlib.suppress(OSError):  # it is `path` now
                os.unlink(temporary)


def _read(path: Path) -> tuple[dict[str, Any], list[memoryview]]:
    """The header, and the states of the conversation and of its asides."""
    try:
        data = memoryview(path.read_bytes() if _begin(path) == _MAGIC else b"")
    except (OSError, ValueError) as e:
        raise SavedConversationError(f"{path}: expected a saved conversation, got: {getattr(e, 'strerror', None) or e}; check the path") from e
    if data[:8] != _MAGIC or len(data) < 48:
        raise SavedConversationError(f"{path}: expected a saved conversation, got another kind of file; check the path")
    if hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise SavedConversationError(f"{path}: expected the SHA-256 at its end to be that of the rest, got another; the file is damaged")
    (n,) = struct.unpack("<Q", data[8:16])
    header = _header(bytes(data[16 : 16 + n]), path)
    ends = [len(data) - 32]
    for aside in reversed(header["asides"]):
        ends.append(ends[-1] - aside["n_bytes"])
    if ends[-1] < 16 + n:
        raise SavedConversationError(
            f"{path}: header: expected asides of {ends[0] - 16 - n} bytes at most, got {ends[0] - ends[-1]}; the file is damaged"
        )
    ends = [16 + n, *reversed(ends)]
    return header, [data[a:b] for a, b in itertools.pairwise(ends)]


def _header(data: bytes, path: Path) -> dict[str, Any]:
    try:
        header: dict[str, Any] = json.loads(data)
        version = header["version"]
    except (ValueError, LookupError, TypeError, RecursionError) as e:
        raise SavedConversationError(f"{path}: header: expected JSON with a version, got something else; the file is damaged") from e
    if version != _VERSION:
        raise SavedConversationError(f"{path}: version: expected {_VERSION}, got {version!r:.20}; save it again with this version")
    for name, kind in _HEADER.items():
        if not isinstance(header.get(name), kind):
            raise SavedConversationError(f"{path}: header: expected {name} in it, got {type(header.get(name)).__name__}; the file is damaged")
    n = len(header["tokens"])
    if not all(_is_aside(aside, n) for aside in header["asides"]) or not 0 <= header["n_cells"] <= n or not _are_tokens(header["tokens"]):
        raise SavedConversationError(f"{path}: header: expected tokens and asides with cells of them, got something else; the file is damaged")
    return header


def _is_aside(aside: object, n: int) -> bool:
    """Whether it can be one of a conversation of `n` tokens."""
    return (
        isinstance(aside, dict)
        and all(isinstance(aside.get(name), kind) for name, kind in _ASIDE.items())
        and 0 <= aside["after"] <= n
        and 0 < aside["n_cells"] <= len(aside["tokens"])
        and aside["n_bytes"] > 0
        and _are_tokens(aside["tokens"])
    )


def _are_tokens(tokens: list[Any]) -> bool:
    return all(isinstance(token, int) and 0 <= token < 2**31 for token in tokens)
