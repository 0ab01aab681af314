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
import json
import os
import struct
import tempfile
from collections.abc import Hashable
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from .conversation import Aside
from .engine.cache import Activation, n_common
from .errors import ContextFullError, SavedConversationError, SequenceLimitError
from .intrinsic import documents_of
from .pinned import LLAMA_CPP_PYTHON

if TYPE_CHECKING:
    from .conversation import Conversation
    from .model import Model

_MAGIC = b"ALORACNV"
_VERSION = 4
_HEADER = {"llama_cpp": str, "model": str, "cells": list, "adapter": dict | None, "messages": list, "documents": list, "notes": dict,
           "chat_template_kwargs": dict, "began": str, "text": str, "tokens": list, "n_cells": int, "asides": list}
_ASIDE = {"after": int, "tokens": list, "n_cells": int, "n_bytes": int}
_MOST_ASIDE, _MOST_ASIDES = 512, 2048  # cells of one, and of all of them
_SAMPLES, _SAMPLE_BYTES = 256, 4096


def save(model: Model, conversation: Conversation, path: str | PathLike[str]) -> None:
    """Writes `path` whole or not at all. Raises SavedConversationError if it cannot be written."""
    text, tokens = conversation.cells()
    adapter = conversation.adapter
    n, states, asides = model.loop.call(lambda: _states(model, conversation, tokens))
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
        "asides": asides,
    }
    try:
        data = json.dumps(header).encode()
    except (TypeError, ValueError) as e:
        raise SavedConversationError(f"{path}: expected notes that are values of JSON, got: {e}; correct them") from e
    _write(Path(path), [_MAGIC, struct.pack("<Q", len(data)), data, *states])


def restore(model: Model, path: str | PathLike[str], space: Hashable = None) -> Conversation:
    """Raises SavedConversationError, or ContextFullError if the cells do not fit."""
    header, states = _read(Path(path))
    for what, expected, got, advice in (
        ("llama_cpp", LLAMA_CPP_PYTHON, header["llama_cpp"], "save it again with this version"),
        ("model", _digest(model.path)[:12], header["model"][:12], "load the model that it was held with"),
        ("cells", model.cell_types, header["cells"], "load the model with the same type_k, type_v and flash_attn"),
    ):
        if got != expected:
            raise SavedConversationError(f"{path}: {what}: expected {expected}, got {got}; {advice}")
    adapter = header["adapter"]
    if adapter is not None and model.adapter(adapter["name"]).sha256 != adapter["sha256"]:
        raise SavedConversationError(
            f"{path}: adapter {adapter['name']!r}: expected the file with SHA-256 {adapter['sha256'][:12]}, got another of this name; load that one")
    conversation = model.conversation(
        messages=header["messages"], adapter=adapter and adapter["name"], chat_template_kwargs=header["chat_template_kwargs"], space=space)
    conversation.began = _time(header["began"], path)
    conversation.documents, conversation.notes = documents_of(header["documents"]), header["notes"]
    model.history.remember(header["text"], header["tokens"], space)
    for aside in reversed(header["asides"]):
        conversation.note_aside(Aside(aside["after"], tuple(aside["tokens"])))
    if header["n_cells"]:
        model.loop.call(lambda: _restore(model, conversation, header, states, path))
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


def _keys(model: Model, conversation: Conversation, tokens: list[int]) -> list[int]:
    return model.cache.keys(tokens, _activations(conversation), conversation.space)


def _states(model: Model, conversation: Conversation, tokens: list[int]) -> tuple[int, list[memoryview], list[dict]]:
    """How many cells of the conversation are in the cache, what they hold, and its asides hold, and those asides."""
    cache, context = model.cache, model.context
    seq = cache.acquire()

    def state(source: int, start: int, end: int) -> memoryview:
        try:
            if start:
                context.share(source, seq, start, end)
            else:
                context.fork(source, seq, end)
            return context.state(seq)
        finally:
            context.clear(seq)

    try:
        held = cache.holder(_keys(model, conversation, tokens))
        if held is None:
            return 0, [], []
        n, states, asides, paths, room = held[1], [state(held[0], 0, held[1])], [], [tokens[: held[1]]], _MOST_ASIDES
        for aside in list(conversation.asides)[::-1] if context.has_ranges else ():
            path = [*tokens[: aside.after], *aside.tokens]
            start = max(n_common(path, other) for other in paths)
            held = cache.holder(_keys(model, conversation, path))
            if held is None or held[1] < len(path) or not 0 < len(path) - start <= min(len(aside.tokens), room, _MOST_ASIDE):
                continue  # its cells had to go, are there already, or are too many
            paths.append(path)
            states.append(state(held[0], start, len(path)))
            asides.append({"after": aside.after, "tokens": list(aside.tokens), "n_cells": len(path) - start, "n_bytes": len(states[-1])})
            room -= len(path) - start
        return n, states, asides
    finally:
        context.release(seq)


def _restore(model: Model, conversation: Conversation, header: dict, states: list[memoryview], path) -> None:
    """Puts what is not there yet into the cache: the conversation, and of its asides what there is room for."""
    cache, context = model.cache, model.context
    tokens, asides = header["tokens"], header["asides"] if context.has_ranges else []
    paths = [_keys(model, conversation, said) for said in (
        tokens[: header["n_cells"]], *([*tokens[: aside["after"]], *aside["tokens"]] for aside in asides))]
    starts = [0, *(len(keys) - aside["n_cells"] for keys, aside in zip(paths[1:], asides))]
    is_there = lambda keys: (cache.holder(keys) or (0, 0))[1] == len(keys)  # noqa: E731
    if all(map(is_there, paths)):
        return
    if len(paths[0]) > context.n_ctx:
        raise ContextFullError(f"{path}: expected {context.n_ctx} cells at most (n_ctx), got {len(paths[0])}; give a larger n_ctx")
    seqs = [cache.acquire()]
    try:
        with contextlib.suppress(SequenceLimitError):
            while len(seqs) < len(paths):
                seqs.append(cache.acquire())
        while cache.n_cells + sum(len(keys) - start for keys, start in zip(paths, starts) if not is_there(keys)) > context.n_ctx and cache.evict():
            pass
        for keys, start, state in zip(paths, starts, states):
            if not seqs or is_there(keys):
                continue
            held = cache.holder(keys[:start]) if start else (None, 0)
            if held is None or held[1] < start:
                continue
            if not context.restore(seqs[-1], state):
                if start:
                    continue
                raise ContextFullError(f"{path}: expected room for {len(keys)} cells, got less; end a call or give a larger n_ctx")
            if not context.spans(seqs[-1], start, len(keys)):
                raise SavedConversationError(f"{path}: expected cells from {start} up to {len(keys)} in a state, got others; the file is damaged")
            if start:
                context.share(held[0], seqs[-1], 0, start)
            cache.adopt(keys, seqs.pop(), start)
    finally:
        for seq in seqs:
            context.release(seq)


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


def _read(path: Path) -> tuple[dict, list[memoryview]]:
    """The header, and the states of the conversation and of its asides."""
    try:
        data = memoryview(path.read_bytes())
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
        raise SavedConversationError(f"{path}: header: expected asides of {ends[0] - 16 - n} bytes at most, got {ends[0] - ends[-1]}; the file is damaged")
    ends = [16 + n, *reversed(ends)]
    return header, [data[a:b] for a, b in zip(ends, ends[1:])]


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
    n = len(header["tokens"])
    if not all(_is_aside(aside, n) for aside in header["asides"]) or not 0 <= header["n_cells"] <= n or not _are_tokens(header["tokens"]):
        raise SavedConversationError(f"{path}: header: expected tokens and asides with cells of them, got something else; the file is damaged")
    return header


def _is_aside(aside: object, n: int) -> bool:
    """Whether it can be one of a conversation of `n` tokens."""
    return (isinstance(aside, dict) and all(isinstance(aside.get(name), kind) for name, kind in _ASIDE.items())
            and 0 <= aside["after"] <= n and 0 < aside["n_cells"] <= len(aside["tokens"]) and aside["n_bytes"] > 0
            and _are_tokens(aside["tokens"]))


def _are_tokens(tokens: list) -> bool:
    return all(isinstance(token, int) and 0 <= token < 2**31 for token in tokens)


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
