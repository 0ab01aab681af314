"""Documents that the tests make: ordinary ones by libraries that do not read them here, hostile ones byte by byte."""

import io
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

PARAGRAPH = (
    "The night ferry to Saint Maren departs at half past nine from the northern pier, and a seat on it costs 14 euros for each passenger. "
    "Bicycles travel free of charge, dogs need a muzzle, and whoever misses it waits for the morning, when the mail boat leaves. "
)
WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
RELATIONSHIPS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


# PDF


def pdf_of_pages(n: int, *, paragraphs: int = 6, user: str | None = None, owner: str | None = None) -> bytes:
    """By reportlab: a heading and paragraphs on each page, which say the page's number."""
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.pdfencrypt import StandardEncryption
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import PageBreak, Paragraph, SimpleDocTemplate

    styles, story = getSampleStyleSheet(), []
    for page in range(1, n + 1):
        story += [Paragraph(f"Chapter {page}", styles["Heading1"])]
        story += [Paragraph(f"Page {page}, note {i}. {PARAGRAPH * 2}", styles["BodyText"]) for i in range(1, paragraphs + 1)]
        story += [PageBreak()]
    out = io.BytesIO()
    encrypt = StandardEncryption(user or "", owner, strength=128) if user is not None or owner is not None else None
    SimpleDocTemplate(out, pagesize=A4, encrypt=encrypt, invariant=1).build(story)
    return out.getvalue()


def pdf_of_lines(lines: Iterable[tuple[float, float, float, str]]) -> bytes:
    """By reportlab: one page with lines at (x, y), of a size."""
    from reportlab.pdfgen.canvas import Canvas

    out = io.BytesIO()
    canvas = Canvas(out, invariant=1)
    for x, y, size, text in lines:
        canvas.setFont("Helvetica", size)
        canvas.drawString(x, y, text)
    canvas.save()
    return out.getvalue()


def pdf_of_objects(objects: Mapping[int, bytes], root: int = 1) -> bytes:
    """Written as it stands, whatever it says."""
    data, places = b"%PDF-1.7\n", {}
    for number, body in objects.items():
        places[number] = len(data)
        data += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    start = len(data)
    data += b"xref\n0 1\n0000000000 65535 f \n"
    for number, place in places.items():
        data += b"%d 1\n%010d 00000 n \n" % (number, place)
    return data + b"trailer\n<< /Size %d /Root %d 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (max(objects) + 1, root, start)


def pdf_of_contents(contents: bytes, *, more: Mapping[int, bytes] = {}, page: bytes = b"", catalog: bytes = b"", filtered: bool = False) -> bytes:
    """One page with these operators."""
    stream = zlib.compress(contents, 9) if filtered else contents
    length = b"/Length %d%b" % (len(stream), b" /Filter /FlateDecode" if filtered else b"")
    return pdf_of_objects(
        {
            1: b"<< /Type /Catalog /Pages 2 0 R %b >>" % catalog,
            2: b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
            3: b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 600 800] /Contents 4 0 R %b >>" % (page or b"/Resources << /Font << /F 5 0 R >> >>"),
            4: b"<< %b >>\nstream\n%b\nendstream" % (length, stream),
            5: b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            **more,
        }
    )


# DOCX


def docx_of_pages(n: int, *, paragraphs: int = 6) -> bytes:
    """By python-docx: what pdf_of_pages() has."""
    import docx

    document = docx.Document()
    for page in range(1, n + 1):
        document.add_heading(f"Chapter {page}", 1)
        for i in range(1, paragraphs + 1):
            document.add_paragraph(f"Page {page}, note {i}. {PARAGRAPH * 2}")
        document.add_page_break()
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def docx_of(body: str | bytes, *, relationships: str = "", more: Mapping[str, Any] = {}) -> bytes:
    """Written by hand: document.xml has this between its body's tags, or is these bytes."""
    if isinstance(body, str):
        names = f'xmlns:w="{WORD}" xmlns:r="{RELATIONSHIPS}"'
        body = f'<?xml version="1.0" encoding="UTF-8"?><w:document {names}><w:body>{body}</w:body></w:document>'.encode()
    kinds = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
    package = "http://schemas.openxmlformats.org/package/2006"
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{package}/content-types"><Override PartName="/word/document.xml" ContentType="{kinds}"/></Types>',
        "_rels/.rels": f'<Relationships xmlns="{package}/relationships"><Relationship Id="r1" Type="{RELATIONSHIPS}/officeDocument" '
        'Target="word/document.xml"/></Relationships>',
        "word/_rels/document.xml.rels": f'<Relationships xmlns="{package}/relationships">{relationships}</Relationships>',
        "word/document.xml": body,
        **more,
    }
    return archive_of(parts)


def archive_of(parts: Mapping[str, Any]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(name, content)
    return out.getvalue()


def body_of(docx: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(docx)) as archive:
        return archive.read("word/document.xml")


def paragraph_of(text: str) -> str:
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def linked_picture(relationship: str) -> str:
    drawing, picture = "http://schemas.openxmlformats.org/drawingml/2006/main", "http://schemas.openxmlformats.org/drawingml/2006/picture"
    inline = "http://schemas.openxmlformats.org/drawingml/2006/wordprocessingDrawing"
    return (
        f'<w:p><w:r><w:drawing><wp:inline xmlns:wp="{inline}"><a:graphic xmlns:a="{drawing}"><a:graphicData><pic:pic xmlns:pic="{picture}">'
        f'<pic:blipFill><a:blip r:link="{relationship}"/></pic:blipFill></pic:pic></a:graphicData></a:graphic></wp:inline></w:drawing></w:r></w:p>'
    )
