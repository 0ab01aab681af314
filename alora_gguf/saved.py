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
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from .engine.cache import Activation
from .errors import ContextFullError, SavedConversationError

if TYPE_CHECKING:
    from .conversation import Conversation
    from .model import Model

_MAGIC = b"ALORACNV"
_VERSION = 1
_LLAMA_CPP = "0.3.36"  # of llama-cpp-python: the state's format is its llama.cpp's own
_SAMPLES, _SAMPLE_BYTES = 256, 4096


def save(model: Model, conversation: Conversation, path: str | PathLike[str]) -> None:
    """Writes `path` whole or not at all. Raises SavedConversationError if it cannot be written."""
    text, tokens = conversation.cells()
    adapter = conversation.adapter
    n, state = model.loop.call(lambda: _state(model, tokens, _activations(conversation)))
    header = json.dumps({
        "version": _VERSION,
        "llama_cpp": _LLAMA_CPP,
        "model": _digest(model.path),
        "cells": model.cell_types,
        "adapter": {"name": adapter.name, "sha256": adapter.sha256} if adapter else None,
        "messages": conversation.messages,
        "text": text,
        "tokens": tokens,
        "n_cells": n,
    }).encode()
    _write(Path(path), [_MAGIC, struct.pack("<Q", len(header)), header, state])


def restore(model: Model, path: str | PathLike[str]) -> Conversation:
    """Raises SavedConversationError, or ContextFullError if the cells do not fit."""
    header, state = _read(Path(path))
    for what, expected, got, advice in (
        ("version", _VERSION, header["version"], "save it again with this version"),
        ("llama_cpp", _LLAMA_CPP, header["llama_cpp"], "save it again with this version"),
        ("model", _digest(model.path)[:12], header["model"][:12], "load the model that it was held with"),
        ("cells", model.cell_types, header["cells"], "load the model with the same type_k, type_v and flash_attn"),
    ):
        if got != expected:
            raise SavedConversationError(f"{path}: {what}: expected {expected}, got {got}; {advice}")
    adapter = header["adapter"]
    if adapter is not None and model.adapter(adapter["name"]).sha256 != adapter["sha256"]:
        raise SavedConversationError(
            f"{path}: adapter {adapter['name']!r}: expected the file with SHA-256 {adapter['sha256'][:12]}, got another of this name; load that one")
    conversation = model.conversation(messages=header["messages"], adapter=adapter and adapter["name"])
    conversation.remember(header["text"], header["tokens"])
    tokens = header["tokens"][: header["n_cells"]]
    if tokens:
        model.loop.call(lambda: _restore(model, tokens, _activations(conversation), state, path))
    return conversation


def _activations(conversation: Conversation) -> list[Activation]:
    return [Activation(conversation.adapter, 0)] if conversation.adapter else []


def _state(model: Model, tokens: list[int], activations: list[Activation]) -> tuple[int, memoryview]:
    """How many of the tokens are in the cache, and their cells."""
    keys = model.cache.keys(tokens, activations)
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


def _restore(model: Model, tokens: list[int], activations: list[Activation], state: memoryview, path) -> None:
    cache, context = model.cache, model.context
    keys = cache.keys(tokens, activations)
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
    except OSError as e:
        raise SavedConversationError(f"{path}: expected a saved conversation, got: {e.strerror}; check the path") from e
    if data[:8] != _MAGIC or len(data) < 48:
        raise SavedConversationError(f"{path}: expected a saved conversation, got another kind of file; check the path")
    if hashlib.sha256(data[:-32]).digest() != data[-32:]:
        raise SavedConversationError(f"{path}: expected the SHA-256 at its end to be that of the rest, got another; the file is damaged")
    (n,) = struct.unpack("<Q", data[8:16])
    return json.loads(bytes(data[16 : 16 + n])), data[16 + n : -32]


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
