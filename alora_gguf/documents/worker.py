"""Reads one document in a process of its own: bytes come on standard input, JSON goes to standard output.

`process` starts it. What it may use is limited, and once its modules are imported it opens nothing but modules.
"""

import contextlib
import json
import logging
import os
import sys
import time
from importlib import import_module
from typing import Any

from ..errors import DocumentError
from .docx import text_of_docx
from .encodings import declared, decoded, guessed, strictly
from .limits import MEMORY_BYTES, SECONDS, TEXT_BYTES
from .markup import text_of_html
from .pdf import text_of_pdf

_REFUSED = (
    "socket.", "subprocess.", "shutil.", "urllib.", "http.", "ftplib.", "smtplib.", "poplib.", "imaplib.", "nntplib.", "telnetlib.", "webbrowser.",
    "ctypes.", "pty.", "tempfile.", "sqlite3.", "winreg.", "msvcrt.", "syslog.", "mmap.", "fcntl.", "signal.", "os.",
)  # fmt: skip
_LISTS = ("os.listdir", "os.scandir")  # as imports do


def main(given: dict[str, Any]) -> None:
    began = time.monotonic()
    _limit()
    logging.disable(logging.CRITICAL)  # what libraries say of oddities
    data = sys.stdin.buffer.read()
    with contextlib.suppress(ModuleNotFoundError):  # said where it is needed
        import_module({"pdf": "pypdf", "zip": "mammoth"}.get(given["kind"], "charset_normalizer"))
    sys.addaudithook(_refuse)
    sys.stdout.buffer.write(json.dumps(answer(data, given["kind"], given["pages"], began)).encode())
    sys.stdout.flush()


def answer(data: bytes, kind: str, pages: str | None, began: float) -> dict[str, Any]:
    """`text` and what else is known of it, or `error`: what was expected, what came, what to do; or `missing`: a package."""
    try:
        said = _read(data, kind, pages, began)
        if len(said["text"].encode("utf-8", errors="replace")) > TEXT_BYTES:
            raise DocumentError(f"expected at most {TEXT_BYTES >> 20} MiB of text, got more; attach the part that matters")
        return said
    except DocumentError as e:
        return {"error": str(e)}
    except ModuleNotFoundError as e:
        return {"missing": e.name}
    except MemoryError:
        return {
            "error": f"expected a document that can be read with {MEMORY_BYTES >> 20} MiB of memory, got one that needs more; attach a part of it"
        }
    except RecursionError:
        return {"error": "expected a document with few things in each other, got too many; save it anew"}
    except Exception as e:  # whatever a library stumbles over
        return {"error": f"expected a document that can be read, got a damaged one ({type(e).__name__}: {e}); save it anew"}


def _read(data: bytes, kind: str, pages: str | None, began: float) -> dict[str, Any]:
    if kind == "pdf":
        return text_of_pdf(data, pages, began)
    if pages is not None:
        raise DocumentError("pages: expected a PDF with them, got another document, which has none; leave them out")
    if kind == "zip":
        return {"kind": "docx", **text_of_docx(data)}
    text, note = _decoded(data, is_html=kind == "html")
    return {"text": text_of_html(text) if kind == "html" else text, "note": note}


def _decoded(data: bytes, *, is_html: bool) -> tuple[str, str | None]:
    """The text, and what is to be said of how it was found."""
    if (text := decoded(data)) is not None:
        return text, None
    if is_html and (name := declared(data)) and (text := strictly(data, name)) is not None:
        return text, None
    if (found := guessed(data)) is None:
        raise DocumentError("expected text, a PDF or a DOCX, got binary data; save it as one of them")
    return found[0], f"read as {found[1]}, which is a guess"


def _limit() -> None:
    """Memory, time, files: where the system has such limits; where it has none, the other process ends this one in time."""
    try:
        import resource
        import signal
    except ModuleNotFoundError:
        return
    limits = {"RLIMIT_AS": MEMORY_BYTES, "RLIMIT_CPU": SECONDS + 5, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0}
    for name, most in limits.items():
        with contextlib.suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (most, most))
    signal.alarm(SECONDS + 5)  # if the other process is gone


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    """Of all that Python is asked for, what reaches out of this process."""
    if event == "open":
        path, mode, _ = arguments
        folders = tuple(f"{path}{os.sep}" for path in sys.path if path)
        if isinstance(path, str) and path.startswith(folders) and not set(mode or "r") & set("wax+"):
            return
    elif event in _LISTS or not event.startswith(_REFUSED):
        return
    raise PermissionError(f"{event}: expected a document that is read alone, got one that asks for more")
