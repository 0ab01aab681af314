"""From a conversation to its file and back: messages, and the cells that it has in the cache."""

from __future__ import annotations

from os import PathLike

from ..engine.adapter import Adapter
from ..engine.engine import Engine
from ..engine.state import Cells, digest_of, read_cells, write_cells
from ..errors import SavedConversationError
from ..prompt.io_yaml import documents_of
from ..versions import LLAMA_CPP_PYTHON
from .held import Aside, Held
from .saved import Saved


def saved(held: Held) -> Saved:
    """Its state, with the cells of what has been said and of how intrinsics were asked on it. Raises ClosedError."""
    held.check_open()
    engine, (text, tokens), adapter = held.engine, held.cells(), held.adapter
    asides = [aside for aside in reversed(held.asides) if aside.after <= len(tokens)]  # others are of what is not said any more
    paths = [held.keys([*tokens[: aside.after], *aside.tokens]) for aside in asides]
    cells = engine.loop.call(lambda: list(read_cells(engine, held.keys(tokens), paths)))
    return Saved(
        llama_cpp=LLAMA_CPP_PYTHON,
        model=digest_of(engine.path),
        model_name=engine.path.stem,
        cells=engine.cell_types,
        adapter={"name": adapter.name, "sha256": adapter.sha256} if adapter else None,
        messages=held.messages,
        n_dropped=held.n_dropped,
        documents=held.documents,
        notes=held.notes,
        chat_template_kwargs=held.chat_template_kwargs,
        tools=held.tools,
        began=held.began.isoformat(),
        text=text,
        tokens=tokens,
        n_cells=len(cells[0][1].keys) if cells else 0,
        asides=[
            {"after": asides[i].after, "tokens": list(asides[i].tokens), "n_cells": len(one.keys) - one.start, "n_bytes": len(one.state)}
            for i, one in cells
            if i is not None
        ],
        states=[one.state for _, one in cells],
    )


def checked(path: str | PathLike[str], engine: Engine) -> tuple[Saved, Adapter | None]:
    """A file of this model's, and the LoRA that its conversation is held with. Raises SavedConversationError, UnknownAdapterError."""
    saved = Saved.read(path)
    saved.check(path, LLAMA_CPP_PYTHON, digest_of(engine.path), engine.path.stem, engine.cell_types)
    adapter = engine.adapters[saved.adapter["name"]] if saved.adapter else None
    if saved.adapter and adapter is not None and adapter.sha256 != saved.adapter["sha256"]:
        raise SavedConversationError(
            f"{path}: adapter {adapter.name!r}: expected the file with SHA-256 {saved.adapter['sha256'][:12]}, got another of this name; load that one"
        )
    return saved, adapter


def restore(held: Held, saved: Saved, path: str | PathLike[str]) -> None:
    """Gives a new conversation what was saved beside its messages, and the cache its cells. Raises SavedConversationError."""
    engine = held.engine
    held.began, held.n_dropped = saved.time(path), saved.n_dropped
    held.documents, held.notes = documents_of(saved.documents), saved.notes
    if held.fits_again(held.messages, held.setting(held.variables()), max_tokens=held.n_ctx):
        held.n_dropped = 0
    engine.history.remember(saved.text, saved.tokens, held.cache_salt)
    for aside in reversed(saved.asides):
        held.note_aside(Aside(aside["after"], tuple(aside["tokens"])))
    if saved.n_cells > engine.context.n_ctx and held.on_full != "error":
        return  # the next question leaves out the oldest turns, and computes the rest
    if saved.n_cells:
        paths = [saved.tokens[: saved.n_cells], *([*saved.tokens[: aside["after"]], *aside["tokens"]] for aside in saved.asides)]
        starts = [0, *(len(path) - aside["n_cells"] for path, aside in zip(paths[1:], saved.asides))]
        cells = [Cells(held.keys(path), start, state) for path, start, state in zip(paths, starts, saved.states)]
        engine.loop.call(lambda: write_cells(engine, cells, str(path)))
