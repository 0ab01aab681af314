"""PDF to text, by pypdf."""

import io
import time
from typing import Any

from ..errors import DocumentError
from .limits import PAGES, SECONDS, TEXT_BYTES
from .lines import Line, joined, paragraphs
from .pages import chosen


def text_of_pdf(data: bytes, pages: str | None, began: float) -> dict[str, Any]:
    """The text of these pages, an empty line between them. `began`: when reading did, by time.monotonic(). Raises DocumentError."""
    import pypdf
    from pypdf.errors import DependencyError, FileNotDecryptedError, PyPdfError

    try:
        reader = pypdf.PdfReader(io.BytesIO(data))
        n = len(reader.pages)
        found = chosen(pages, n)
        if len(found) > PAGES:
            raise DocumentError(f"expected at most {PAGES} pages, got {len(found)}; give some of them, as 1-{PAGES}")
        texts, n_bytes = [], 0
        for i, page in enumerate(found):
            if time.monotonic() - began > SECONDS - 2:
                raise DocumentError(f"expected a text within {SECONDS} s, got {i} of {len(found)} pages; give some of them, as 1-{max(1, i)}")
            texts.append(_text_of_page(reader.pages[page]))
            n_bytes += len(texts[-1].encode("utf-8", errors="replace"))
            if n_bytes > TEXT_BYTES:
                raise DocumentError(f"expected at most {TEXT_BYTES >> 20} MiB of text, got more on {i + 1} of {len(found)} pages; give some of them")
    except (FileNotDecryptedError, DependencyError) as e:
        with_package = "; without one, pip install cryptography" if isinstance(e, DependencyError) else ""
        raise DocumentError(f"expected a PDF without a password, got an encrypted one; save it without{with_package}") from e
    except PyPdfError as e:
        raise DocumentError(f"expected a PDF that can be read, got: {str(e).rstrip('.') or type(e).__name__}; save it anew") from e
    if not found:
        raise DocumentError("expected pages, got none; check the file")
    empty = sum(not text for text in texts)
    if empty == len(texts):
        raise DocumentError(f"expected text, got none on {_n_pages(empty)}, as of a scanner; recognise the text first, as with ocrmypdf")
    return {
        "text": joined("\n\n".join(text for text in texts if text)),
        "pages": n,
        "read": [page + 1 for page in found],
        "note": f"{_n_pages(empty)} without text" if empty else None,
    }


def _n_pages(n: int) -> str:
    return f"{n} page{'s' * (n != 1)}"


def _text_of_page(page: Any) -> str:
    lines = [Line("", 0.0, 0.0)]

    def visit(text: str, matrix: list[float], text_matrix: list[float], font: Any, size: float) -> None:
        pieces = text.split("\n")
        for i, piece in enumerate(pieces):
            if i:
                lines.append(Line("", 0.0, 0.0))
            line = lines[-1]
            if piece.strip() and not line.text.strip():
                x, y = text_matrix[4], text_matrix[5]
                line.y = x * matrix[1] + y * matrix[3] + matrix[5]
                line.size = abs(size * text_matrix[3] * matrix[3]) or abs(size)
            line.text += piece

    page.extract_text(visitor_text=visit)
    return paragraphs(lines)
