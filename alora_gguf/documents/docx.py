"""DOCX to text, by mammoth, which makes HTML of it."""

import io
import zipfile
from typing import Any
from xml.parsers import expat

from ..errors import DocumentError
from .limits import DEPTH, XML_BYTES
from .markup import text_of_html

_BODY = "word/document.xml"
_OTHERS = {
    "xl/workbook.xml": "a spreadsheet",
    "ppt/presentation.xml": "a presentation",
    "META-INF/container.xml": "an EPUB",
    "content.xml": "OpenDocument",
}
_STYLES = """
p[style-name='Title'] => h1:fresh
p[style-name='Subtitle'] => p:fresh
b =>
i =>
r[style-name='Strong'] =>
r[style-name='Emphasis'] =>
"""


def text_of_docx(data: bytes) -> dict[str, Any]:
    """Headings, lists and tables as Markdown. Pictures, comments, headers and footers are left out. Raises DocumentError."""
    import mammoth

    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            _check(archive)
        html = mammoth.convert_to_html(
            io.BytesIO(data), style_map=_STYLES, include_embedded_style_map=False, external_file_access=False, convert_image=lambda image: []
        ).value
    except (zipfile.BadZipFile, KeyError, EOFError, NotImplementedError, OSError) as e:
        raise DocumentError(f"expected a DOCX that can be read, got: {str(e).rstrip('.?')}; save it anew") from e
    except expat.ExpatError as e:
        raise DocumentError(f"expected a DOCX of XML, got: {e}; save it anew") from e
    return {"text": text_of_html(html.replace("\u2191</a>", "</a>"))}  # from a footnote back to where it belongs


def _check(archive: zipfile.ZipFile) -> None:
    names = set(archive.namelist())
    if _BODY not in names and not any(name.startswith("word/") for name in names):
        kind = next((what for name, what in _OTHERS.items() if name in names), "another archive")
        raise DocumentError(f"expected a DOCX, got {kind}; save it as DOCX or PDF")
    parts = [info for info in archive.infolist() if info.filename.endswith((".xml", ".rels"))]
    n = sum(info.file_size for info in parts)
    if n > XML_BYTES:
        raise DocumentError(f"expected at most {XML_BYTES >> 20} MiB unpacked, got {n >> 20} MiB; attach the part that matters")
    if any(info.flag_bits & 1 for info in parts):
        raise DocumentError("expected a DOCX without a password, got an encrypted one; save it without")
    for info in parts:
        _check_xml(archive.read(info))


def _check_xml(data: bytes) -> None:
    """Raises DocumentError for entities of its own, of which Word writes none, and for what is nested without end."""
    depth = 0

    def refuse(*_: Any) -> None:
        raise DocumentError("expected a DOCX as Word writes it, got one with a DOCTYPE; save it anew")

    def begin(*_: Any) -> None:
        nonlocal depth
        depth += 1
        if depth > DEPTH:
            raise DocumentError(f"expected at most {DEPTH} elements in each other, got more; save it anew")

    def end(*_: Any) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler, parser.StartElementHandler, parser.EndElementHandler = refuse, begin, end
    parser.Parse(data, True)
