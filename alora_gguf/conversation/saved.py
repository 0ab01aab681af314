"""A saved conversation: what was said, and the cells that hold it.

The file: the 8 bytes `ALORACNV`; the number of bytes of the header as a little-endian u64; the
header, JSON; the state, as llama_state_seq_get_data writes it; 32 bytes, the SHA-256 of all before.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Hashable
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from ..engine.cache import Activation
from ..errors import ContextFullError, SavedConversationError
from ..prompt.io_yaml import documents_of
from ..versions import LLAMA_CPP_PYTHON

if TYPE_CHECKING:
    from .conversation import Conversation
    from ..model import Model

_MAGIC = b"ALORACNV"
_VERSION = 3
_HEADER = {"llama_cpp": str, "model": str, "cells": list, "adapter": dict | None, "messages": list, "documents": list, "notes": dict,
           "chat_template_kwargs": dict, "began": str, "text": str, "tokens": list, "n_cells": int}
_SAMPLES, _SAMPLE_BYTES = 256, 4096


def save(engine, conversation: Conversation, path: str | PathLike[str]) -> None:
    """Writes `path` whole or not at all. Raises SavedConversationError if it cannot be written."""
    model = engine
    text, tokens = conversation.cells()
    adapter = conversation.adapter
    n, state = model.loop.call(lambda: _state(model, model.cache.keys(tokens, _activations(conversation), conversation.cache_salt)))
    header = {
        "version": _VERSION,
        "llama_cpp": LLAMA_CPP_PYTHON,  # the state's format is its llama.cpp's own
        "model": _digest(model.path),
        "cells": model.cell_types,
        "adapter": {"name": adapter.name, "sha256": adapter.sha256} if adapter else None,
        "messages": conversation.messages,
        "documents": conversation.documents,
        "notes": conversation.notes,
        "chat_template_kwargs": conversation.chat_template_kwargs,
        "began": conversation.began.isoformat(),
        "text": text,
        "tokens": tokens,
        "n_cells": n,
    }
    try:
        data = json.dumps(header).encode()
    except (TypeError, ValueError) as e:
        raise SavedConversationError(f"{path}: expected notes that are values of JSON, got: {e}; correct them") from e
    _write(Path(path), [_MAGIC, struct.pack("<Q", len(data)), data, state])


def restore(opened: Model, path: str | PathLike[str], cache_salt: Hashable = None) -> Conversation:
    """Raises SavedConversationError, or ContextFullError if the cells do not fit."""
    model = opened.engine
    header, state = _read(Path(path))
    for what, expected, got, advice in (
        ("llama_cpp", LLAMA_CPP_PYTHON, header["llama_cpp"], "save it again with this version"),
        ("model", _digest(model.path)[:12], header["model"][:12], "load the model that it was held with"),
        ("cells", model.cell_types, header["cells"], "load the model with the same type_k, type_v and flash_attn"),
    ):
        if got != expected:
            raise SavedConversationError(f"{path}: {what}: expected {expected}, got {got}; {advice}")
    adapter = header["adapter"]
    if adapter is not None and model.adapters[adapter["name"]].sha256 != adapter["sha256"]:
        raise SavedConversationError(
            f"{path}: adapter {adapter['name']!r}: expected the file with SHA-256 {adapter['sha256'][:12]}, got another of this name; load that one")
    conversation = opened.conversation(
        messages=header["messages"], adapter=adapter and adapter["name"], chat_template_kwargs=header["chat_template_kwargs"], cache_salt=cache_salt)
    conversation.began = _time(header["began"], path)
    conversation.documents, conversation.notes = documents_of(header["documents"]), header["notes"]
    model.history.remember(header["text"], header["tokens"], cache_salt)
    tokens = header["tokens"][: header["n_cells"]]
    if tokens:
        model.loop.call(lambda: _restore(model, model.cache.keys(tokens, _activations(conversation), cache_salt), state, path))
    return conversation


def check_target(path: Path) -> None:
    """Raises SavedConversationError if `path` is there and no saved conversation: to be replaced by one, it has to be one."""
    try:
        with open(path, "rb") as f:
            begin = f.read(8) if path.is_file() else b""
    except FileNotFoundError:
        return
    except (OSError, ValueError) as e:
        raise SavedConversationError(f"{path}: expected a file that can be written, got: {getattr(e, 'strerror', None) or e}; check the path") from e
    if begin != _MAGIC:
        raise SavedConversationError(f"{path}: expected a new file or a saved conversation, got another kind of file; choose another name")


def _activations(conversation: Conversation) -> list[Activation]:
    return [Activation(conversation.adapter, 0)] if conversation.adapter else []


def _state(model: Model, keys: list[int]) -> tuple[int, memoryview]:
    """How many cells of the path are in the cache, and what they hold."""
    seq = model.cache.acquire()
    try:
        held = model.cache.holder(keys)
        if held is None:
            return 0, memoryview(b"")
        source, n = held
        model.context.fork(source, seq, n)
        return n, model.context.state(seq)
    finally:
        model.context.release(seq)


def _restore(model: Model, keys: list[int], state: memoryview, path) -> None:
    cache, context = model.cache, model.context
    if (held := cache.holder(keys)) and held[1] == len(keys):
        return
    if len(keys) > context.n_ctx:
        raise ContextFullError(f"{path}: expected {context.n_ctx} cells at most (n_ctx), got {len(keys)}; give a larger n_ctx")
    seq = cache.acquire()
    while cache.n_cells + len(keys) > context.n_ctx and cache.evict():
        pass
    if not context.restore(seq, state):
        context.release(seq)
        raise ContextFullError(f"{path}: expected room for {len(keys)} cells, got less; end a call or give a larger n_ctx")
    cache.adopt(keys, seq)


def _write(path: Path, parts: list) -> None:
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
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise SavedConversationError(f"{path}: expected a file that can be written, got: {e.strerror}; check the path and the room there") from e


def _read(path: Path) -> tuple[dict, memoryview]:
    try:
        data = memoryview(path.read_bytes())
    except (OSError, ValueError) as e:
        raise SavedConversationError(f"{path}: expected a saved conversation, got: {getattr(e, 'strerror', None) or e}; check the path") from e
    if data[:8] != _MAGIC or len(data) < 48:
        raise SavedConversationError(f"{path}: expected a saved conversation, got another kind of file; check the path")
    if hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise SavedConversationError(f"{path}: expected the SHA-256 at its end to be that of the rest, got another; the file is damaged")
    (n,) = struct.unpack("<Q", data[8:16])
    return _header(bytes(data[16 : 16 + n]), path), data[16 + n : -32]


def _header(data: bytes, path: Path) -> dict:
    try:
        header = json.loads(data)
        version = header["version"]
    except (ValueError, LookupError, TypeError, RecursionError) as e:
        raise SavedConversationError(f"{path}: header: expected JSON with a version, got something else; the file is damaged") from e
    if version != _VERSION:
        raise SavedConversationError(f"{path}: version: expected {_VERSION}, got {version!r:.20}; save it again with this version")
    for name, kind in _HEADER.items():
        if not isinstance(header.get(name), kind):
            raise SavedConversationError(f"{path}: header: expected {name} in it, got {type(header.get(name)).__name__}; the file is damaged")
    return header


def _time(text: str, path) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError as e:
        raise SavedConversationError(f"{path}: header: expected a time in began, got {text!r:.40}; the file is damaged") from e


def _digest(path: Path) -> str:
    """A model's identity: the size of its file, its first MiB, and samples from all over it."""
    digest = hashlib.sha256()
    with open(path, "rb") as f:
        size = f.seek(0, os.SEEK_END)
        digest.update(struct.pack("<Q", size))
        f.seek(0)
        digest.update(f.read(1 << 20))
        for i in range(_SAMPLES):
            f.seek(size * i // _SAMPLES)
            digest.update(f.read(_SAMPLE_BYTES))
    return digest.hexdigest()
