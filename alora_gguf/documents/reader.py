"""A document's text."""

import contextlib
import threading
from os import PathLike
from pathlib import Path
from typing import Any

from ..errors import DocumentError
from ..text import printable
from .document import Document
from .encodings import decoded
from .kinds import kind_of, other_kind
from .limits import FILE_BYTES, TEXT_BYTES
from .process import read_apart


def read_document(path: str | PathLike[str], *, pages: str | None = None) -> Document:
    """The text of a file: plain text, Markdown, HTML, PDF or DOCX.

    pages   which pages of a PDF: "3", "3-7", "12-" or "1,4-6"

    Takes seconds at most, and reads what strangers made in a process of its own. Raises DocumentError.
    """
    path = Path(path)
    try:
        if path.is_file():
            with open(path, "rb") as f:
                data = f.read(FILE_BYTES + 1)
        else:
            data, got = None, "a folder" if path.is_dir() else "no file" if path.exists() else "nothing"
    except (OSError, ValueError) as e:  # ValueError: a name that no file can have
        raise DocumentError(f"{path}: expected a document, got: {getattr(e, 'strerror', None) or e}; check the path") from e
    if data is None:
        raise DocumentError(f"{path}: expected a document, got {got}; check the path")
    return _text_of(data, path.name, str(path), pages, None)


def text_of(data: bytes, name: str, *, pages: str | None = None, stop: threading.Event | None = None) -> Document:
    """As read_document, of a file's bytes and its name. `stop`, set by another thread, ends it. Raises DocumentError."""
    return _text_of(data, name, printable(name), pages, stop)


def _text_of(data: bytes, name: str, where: str, pages: str | None, stop: threading.Event | None) -> Document:
    if len(data) > FILE_BYTES:
        raise DocumentError(f"{where}: expected at most {FILE_BYTES >> 20} MiB, got more; attach the part that matters")
    if other := other_kind(data):
        raise DocumentError(f"{where}: expected text, Markdown, HTML, a PDF or a DOCX, got {other[0]}; {other[1]}")
    kind = kind_of(data, name)
    if kind in ("text", "markdown") and pages is None and (text := decoded(data)) is not None:
        said: dict[str, Any] = {"text": text}
        if len(text) > TEXT_BYTES or len(text.encode()) > TEXT_BYTES:
            raise DocumentError(f"{where}: expected at most {TEXT_BYTES >> 20} MiB of text, got more; attach the part that matters")
    else:
        try:
            said = read_apart(data, kind, pages, stop or threading.Event())
        except DocumentError as e:
            raise DocumentError(f"{where}: {e}") from e
        if missing := said.get("missing"):
            package = missing.replace("_", "-")
            raise DocumentError(f"{where}: expected the package {package} for it, got none; pip install {package}")
        if error := said.get("error"):
            raise DocumentError(f"{where}: {printable(error, limit=400)}")
    text = _clean(said["text"])
    if not text.strip():
        raise DocumentError(f"{where}: expected text, got none; check the file")
    return Document(name, text, said.get("kind", kind), said.get("pages"), tuple(said.get("read", ())), said.get("note"))


_LINE_ENDS = str.maketrans({"\r": "\n", "\f": "\n", "\0": None})


def _clean(text: str) -> str:
    """With \\n at the ends of lines, and without halves of characters, which no encoding has."""
    text = text.replace("\r\n", "\n").translate(_LINE_ENDS)
    with contextlib.suppress(UnicodeEncodeError):
        text.encode()
        return text
    return text.encode("utf-8", errors="replace").decode()
