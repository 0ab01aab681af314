"""What bytes are, by what is in them; a name's ending decides only where they can be two things."""

import re
from pathlib import PurePath

_MARKDOWN = {".md", ".markdown", ".mdown", ".mkd"}
_HTML = {".html", ".htm", ".xhtml"}
_HTML_BEGINS = re.compile(rb"(?:\s|<!--.*?-->|<\?xml[^>]*>)*<(?:!doctype\s+html|html|head|body)[\s>]", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(rb"</?[a-z][a-z0-9]*[\s>/]", re.IGNORECASE)
_WIDE = re.compile(rb"\0")
_OTHERS = {  # what begins so, and what to do with it
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": ("a file of old Office or one with a password", "save it as DOCX or PDF, without a password"),
    b"{\\rtf": ("RTF", "save it as DOCX or PDF"),
    b"\x89PNG": ("a picture", "recognise its text first"),
    b"\xff\xd8\xff": ("a picture", "recognise its text first"),
    b"GIF8": ("a picture", "recognise its text first"),
    b"II*\0": ("a picture", "recognise its text first"),
    b"MM\0*": ("a picture", "recognise its text first"),
    b"GGUF": ("a GGUF file", "give it as a model or an adapter"),
    b"\x1f\x8b": ("a gzip archive", "unpack it first"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it first"),
    b"Rar!\x1a\x07": ("a RAR archive", "unpack it first"),
}


def other_kind(data: bytes) -> tuple[str, str] | None:
    """What it is that is no document here, and what to do with it."""
    return next((said for begins, said in _OTHERS.items() if data.startswith(begins)), None)


def kind_of(data: bytes, name: str) -> str:
    """ "pdf", "zip" (perhaps DOCX), "html", "markdown" or "text"."""
    head = data[:1024]
    if head.lstrip().startswith(b"%PDF-") or (b"%PDF-" in head and b"startxref" in data[-2048:]):
        return "pdf"
    if data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "zip"
    ending = PurePath(name).suffix.lower()
    begin = _WIDE.sub(b"", data[:4096]).removeprefix(b"\xef\xbb\xbf").removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff")
    if _HTML_BEGINS.match(begin) or (ending in _HTML and _TAG.search(begin)):
        return "html"
    return "markdown" if ending in _MARKDOWN else "text"
