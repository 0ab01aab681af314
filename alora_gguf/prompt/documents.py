"""Documents that a conversation is about: files as text, and how they are written into a prompt."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import PromptError
from .messages import Message

_MOST_BYTES = 1 << 20


def read_document(path: Path) -> str:
    """The text of a UTF-8 file of at most 1 MiB. Raises PromptError."""
    try:
        if not path.is_file():
            raise _refused(path, "a text file", "a folder" if path.is_dir() else "no file" if path.exists() else "nothing", "check the path")
        with open(path, "rb") as f:
            data = f.read(_MOST_BYTES + 1)
    except OSError as e:
        raise _refused(path, "a text file", e.strerror, "check the path") from e
    if len(data) > _MOST_BYTES:
        raise _refused(path, f"at most {_MOST_BYTES} bytes", "more", "attach the part that matters")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as e:
        raise _refused(path, "UTF-8 text", f"byte 0x{data[e.start]:02x} at {e.start}", "save it as UTF-8") from e
    if "\0" in text:
        raise _refused(path, "text", "binary data", "extract its text first")
    if not text.strip():
        raise _refused(path, "text", "none", "check the file")
    return text


def documents_message(documents: Sequence[Mapping[str, Any]]) -> Message:
    """Documents for a template that does not know them: as granite-common's `docs_as_message: string` puts them."""
    texts = (f"[Document {d['doc_id']}]\n{d['text']}" for d in documents)
    return {"role": "user", "content": "You have access to the following documents:\n\n" + "\n\n".join(texts)}


def _refused(path: Path, expected: str, got: Any, action: str) -> PromptError:
    return PromptError(f"{path}: expected {expected}, got {got}; {action}")
