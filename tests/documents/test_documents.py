"""Documents: which files are taken, and what their text is."""

import io
import os
import re
from pathlib import Path

import made
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alora_gguf import Document, DocumentError, PromptError, read_document
from alora_gguf.documents.encodings import decoded, guessed
from alora_gguf.documents.kinds import kind_of
from alora_gguf.documents.lines import Line, joined, paragraphs
from alora_gguf.documents.markup import text_of_html
from alora_gguf.documents.names import file_and_pages, file_named
from alora_gguf.documents.pages import chosen
from alora_gguf.documents.reader import text_of

# files


def test_text_in_utf_8_is_taken_as_it_is(tmp_path):
    path = tmp_path / "a file.txt"
    path.write_bytes(b"\xef\xbb\xbfcaf\xc3\xa9\r\n\tand more  \n")
    assert read_document(path) == Document("a file.txt", "caf\u00e9\n\tand more  \n", "text")
    assert text_of(path.read_bytes(), "notes.md").kind == "markdown"


@pytest.mark.parametrize(
    "data, said",
    [
        (b"a\0b", "expected text, a PDF or a DOCX, got binary data"),
        (b"\x00\x01\x02\xff" * 9, "expected text, a PDF or a DOCX, got binary data"),
        (b"", "expected text, got none; check the file"),
        (b" \n", "expected text, got none; check the file"),
        (b"x" * (4 << 20) + b"x", "expected at most 4 MiB of text, got more; attach the part that matters"),
        ("\u4e2d".encode() * (2 << 20), "expected at most 4 MiB of text, got more; attach the part that matters"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 99,
            "expected text, Markdown, HTML, a PDF or a DOCX, got a file of old Office or one with a password",
        ),
        (b"\x89PNG\r\n\x1a\n", "expected text, Markdown, HTML, a PDF or a DOCX, got a picture; recognise its text first"),
        (b"{\\rtf1 Hello}", "expected text, Markdown, HTML, a PDF or a DOCX, got RTF; save it as DOCX or PDF"),
    ],
    ids=["zero", "binary", "nothing", "blank", "long", "wide", "office", "picture", "rtf"],
)
def test_what_is_no_text_is_refused(tmp_path, data, said):
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(DocumentError) as e:
        read_document(path)
    assert str(e.value).startswith(f"{path}: {said}") and "\n" not in str(e.value)
    assert isinstance(e.value, PromptError)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    for name, got in (("nothing", "nothing"), (".", "a folder"), ("pipe", "no file"), ("x\0y", "nothing"), ("x" * 300, ": File name too long")):
        with pytest.raises(DocumentError) as e:
            read_document(tmp_path / name)
        assert str(e.value) == f"{tmp_path / name}: expected a document, got{' ' * (got[0] != ':')}{got}; check the path"


def test_what_a_file_is_is_seen_in_it_and_not_in_its_name():
    pdf, docx = made.pdf_of_pages(1, paragraphs=1), made.docx_of(made.paragraph_of("Hello"))
    page = b"<!-- by hand -->\n<!DOCTYPE html><p>Hello</p>"
    for name in ("x", "x.txt", "x.pdf", "x.docx", "x.html", "x.md"):
        assert kind_of(pdf, name) == kind_of(b"\n" + pdf, name) == "pdf"
        assert kind_of(docx, name) == "zip"
        assert kind_of(page, name) == kind_of(page.decode().encode("utf-16"), name) == "html"
        assert kind_of(b"A page begins with %PDF-1.7, or with <html>.", name) == {"x.md": "markdown", "x.html": "html"}.get(name, "text")
    # what may be either
    assert kind_of(b"<p>One</p>", "x.htm") == "html" and kind_of(b"<p>One</p>", "x.md") == "markdown" and kind_of(b"1 < 2", "x.html") == "text"
    assert text_of(docx, "x.pdf").kind == "docx" and text_of(page, "x.txt").text == "Hello"


# encodings

SAID = {
    "fr": "Le café est fermé à côté de l’hôtel : 14 €.",
    "de": "Größe und Änderungen für Straßenbahnen.",
    "pl": "Proszę państwa, książka leży na półce, a prom już odpływa.",
    "cs": "Noční trajekt odjíždí ve 21:30. Lístek stojí čtrnáct eur, děti platí méně.",
    "tr": "Gece vapuru saat 21:30'da kalkıyor. Bilet ücreti on dört avro, çocuklar için yarısı.",
    "ru": "Ночной паром в Сен-Марен отходит в 21:30. Билет стоит 14 евро.",
    "el": "Το νυχτερινό πλοίο αναχωρεί στις 21:30.",
    "ja": "夜のフェリーは21時30分に出発します。切符は14ユーロです。",
    "zh": "夜间渡轮于21:30出发。票价为14欧元。",
    "tw": "夜間渡輪於21:30出發。票價為14歐元。",
    "ko": "야간 페리는 21시 30분에 출발합니다. 표는 14유로입니다.",
}
LEGACY = [
    ("fr", "cp1252"), ("de", "latin-1"), ("fr", "mac_roman"), ("pl", "cp1250"), ("pl", "iso8859_2"), ("cs", "cp1250"), ("tr", "cp1254"), ("ru", "cp1251"),
    ("ru", "koi8-r"), ("ru", "cp866"), ("el", "cp1253"), ("ja", "shift_jis"), ("ja", "euc_jp"), ("ja", "iso2022_jp"), ("zh", "gb18030"), ("tw", "big5"), ("ko", "cp949"),
]  # fmt: skip


@pytest.mark.parametrize("language, encoding", LEGACY, ids="-".join)
def test_encodings_of_old_are_guessed_and_said(language, encoding):
    text = "\n".join([SAID[language]] * 3)
    data = text.encode(encoding)
    assert decoded(data) is None
    got, name = guessed(data)
    assert got == text and name not in ("UTF-16-LE", "UTF-16-BE")


def test_a_guess_is_said():
    document = text_of(SAID["fr"].encode("cp1252"), "x.txt")
    assert document == Document("x.txt", SAID["fr"], note="read as Windows-1252, which is a guess") and document.about == document.note


@pytest.mark.parametrize("language", SAID)
def test_utf_16_and_32_need_no_guess_where_they_are_marked_and_one_where_not(language):
    text = "\n".join([SAID[language]] * 3)
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
        assert text_of(text.encode(encoding), "x.txt") == Document("x.txt", text)
    for encoding in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
        data = text.encode(encoding)
        assert decoded(data) is None and guessed(data) == (text, encoding.upper())


def test_html_is_in_what_it_says_it_is_in():
    page = '<html><head><meta charset="{}"><title>t</title></head><body><h1>{}</h1></body></html>'
    for name, python in (("koi8-r", "koi8-r"), ("KOI8-R", "koi8-r"), ("windows-1251", "cp1251")):
        assert text_of(page.format(name, "Паром").encode(python), "x.html") == Document("x.html", "# Паром", "html")
    assert text_of(page.format("iso-8859-1", "It’s").encode("cp1252"), "x.html").text == "# It’s"  # as browsers take it
    assert text_of(page.format("koi8-r", "Паром").encode("utf-8"), "x.html").text == "# Паром"
    for name in ("unicode_escape", "zip", "rot13", "idna", "nothing", "utf-7"):  # Python's own, and no text in the web
        assert text_of(page.format(name, "caf\\u00e9 é").encode("cp1252"), "x.html").text == "# caf\\u00e9 é"


# HTML

PAGES = {
    "<p>One <b>bold</b> w<i>or</i>d<p>Two\n  lines<br>three": "One bold word\n\nTwo lines\nthree",
    "<h1>A</h1>text<h3>B</h3><div>x<div>y</div></div>z": "# A\n\ntext\n\n### B\n\nx\n\ny\n\nz",
    "<ul><li>a<li>b<ul><li>c</li></ul></li><li>d</ul><p>end": "- a\n- b\n  - c\n- d\n\nend",
    "<ol start=3><li><p>a</p><li><p>b</p></ol>": "3. a\n\n4. b",
    "<table><tr><th>A<th>B<tr><td>1|2<td><p>x</p><p>y</p></table>": "| A | B |\n| --- | --- |\n| 1\\|2 | x y |",
    "<table><tr><td>a<td>b<tr><td>c</table>": "| a | b |\n| --- | --- |\n| c |  |",
    "<table><tr><td><h1>Menu</h1><td><table><tr><td>1<td>2</table></table>": "# Menu\n\n| 1 | 2 |\n| --- | --- |",
    "<pre>x  y\n  z</pre>after": "```\nx  y\n  z\n```\n\nafter",
    'see <a href="http://a.example/b">the page</a>, and <img src="c.png" alt="a cat"><img src=d.png>': "see the page, and [picture: a cat]",
    "a<script>b</script><style>c</style><template>d</template><svg><text>e</text></svg><textarea>f</textarea><noscript>g</noscript>h": "ah",
    "a<div hidden>b<div>c</div></div><span style='x: y; DISPLAY : none'>d</span><p hidden>e<p>f": "a\n\nf",
    "<title>T &amp; U</title><p>a": "# T & U\n\na",
    "<title>T</title><h1>H</h1>a": "# H\n\na",
    "&lt;b&gt; &nbsp;&eacute;&#x263a;&#0;&bogus;": "<b> é☺\ufffd&bogus;",
    "<dl><dt>a<dd>b<dt>c<dd>d</dl>": "a\nb\nc\nd",
    "</td></table></ul></pre>a</p><td>b": "a\n\nb",
    "a<!-- b --><![CDATA[c]]><?php d ?>e": "ae",
    "<table><tr><td>open": "open",
    "<table>a<tr><td>b<tr>c</table>d": "a\n\nb\n\nc\n\nd",
    "<table><tr><td>a<tr>b<td>c</table>": "| a |  |\n| --- | --- |\n| b | c |",
}


@pytest.mark.parametrize("html", PAGES, ids=range(len(PAGES)))
def test_html_is_text_with_markdown_s_headings_lists_and_tables(html):
    assert text_of_html(html) == PAGES[html]


TAGS = "p div b a h2 ul ol li table tr td th pre br hr dl dt dd blockquote span title2 img".split()


@given(st.lists(st.tuples(st.sampled_from(["", "/"]), st.sampled_from(TAGS)), max_size=40))
def test_no_word_of_a_page_is_lost_whatever_its_tags(tags):
    html = "first" + "".join(f"<{end}{tag}> w{i} " for i, (end, tag) in enumerate(tags))
    words = re.findall(r"first|w\d+", text_of_html(html))
    assert words == ["first", *(f"w{i}" for i in range(len(tags)))]


# PDF


def test_a_pdf_is_paragraphs_in_their_order():
    document = text_of(made.pdf_of_pages(3, paragraphs=2), "x.pdf")
    assert (document.kind, document.pages, document.read, document.note, document.about) == ("pdf", 3, (1, 2, 3), None, "3 pages")
    blocks = [" ".join(block.split()) for block in document.text.split("\n\n")]
    assert blocks == [
        text for page in (1, 2, 3) for text in (f"Chapter {page}", *(f"Page {page}, note {i}. {made.PARAGRAPH * 2}".strip() for i in (1, 2)))
    ]


def test_some_pages_of_a_pdf():
    data = made.pdf_of_pages(5, paragraphs=1)
    document = text_of(data, "x.pdf", pages="2,4-")
    assert re.findall(r"Chapter (\d)", document.text) == ["2", "4", "5"]
    assert (document.pages, document.read, document.about) == (5, (2, 4, 5), "3 of 5 pages")
    for pages, said in (
        ("6", "expected some of 1-5, got 6"),
        ("0", "expected some of 1-5, got 0"),
        ("3-2", "expected some of 1-5, got 3-2"),
        ("a", "expected numbers"),
    ):
        with pytest.raises(DocumentError, match=f"x.pdf: pages: {said}"):
            text_of(data, "x.pdf", pages=pages)
    for other in (b"text", b"<html><p>page", made.docx_of(made.paragraph_of("Hello"))):
        with pytest.raises(DocumentError, match="x: pages: expected a PDF with them"):
            text_of(other, "x", pages="1")
    assert chosen("3,1-2,2", 9) == [0, 1, 2] and chosen(None, 2) == [0, 1]


def test_a_pdf_of_another_maker():
    """Matplotlib writes its fonts in two ways, and no text of its marks."""
    import matplotlib
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    for kind in (3, 42):
        out = io.BytesIO()
        with matplotlib.rc_context({"pdf.fonttype": kind}), PdfPages(out) as pages:
            for text in ("The ferry departs at 21:30.", "Größe: 14 £"):
                figure = Figure()
                figure.text(0.1, 0.9, text)
                pages.savefig(figure)
            pages.savefig(Figure())
        document = text_of(out.getvalue(), "x.pdf")
        assert document.text == "The ferry departs at 21:30.\n\nGröße: 14 £" and document.note == "1 page without text"


def test_lines_are_paragraphs_by_their_distance_and_size():
    close = [Line(f"line {i}", 700 - 12 * i, 10) for i in range(4)]
    assert paragraphs(close) == "line 0\nline 1\nline 2\nline 3"
    apart = [Line("Title", 760, 18), *close, Line("next", 640, 10), Line("  and   more", 628, 10), Line(" ", 616, 10), Line("column", 700, 10)]
    assert paragraphs(apart) == "Title\n\nline 0\nline 1\nline 2\nline 3\n\nnext\nand more\ncolumn"
    assert paragraphs([Line(t, 700 - 24 * i, 10) for i, t in enumerate("abc")]) == "a\nb\nc"  # double-spaced
    assert paragraphs([]) == ""


def test_words_that_a_line_s_end_has_split_are_one():
    assert joined("an exam-\nple, of it") == "an example,\nof it"
    assert joined("well-known, and well-\nknown too") == "well-known, and well-known\ntoo"
    assert joined("a co-opera-\ntive") == "a co-operative\n"
    assert joined("pages 3-\n7 and Anglo-\nSaxon") == "pages 3-\n7 and Anglo-\nSaxon"
    assert joined("soft\u00ad\nened o\ufb03ce, soft\u00adened") == "softened\noffice, softened"


# DOCX


def test_a_docx_is_headings_lists_and_tables():
    import docx

    word = docx.Document()
    word.add_heading("The ferry", 0)
    word.add_heading("Prices", 2)
    word.add_paragraph("A ticket ").add_run("costs").bold = True
    word.paragraphs[-1].add_run(" 14 euros.")
    for text, style in (("one", "List Bullet"), ("two", "List Bullet"), ("first", "List Number"), ("second", "List Number")):
        word.add_paragraph(text, style=style)
    table = word.add_table(rows=2, cols=2)
    for i, text in enumerate(("Day", "Price", "Monday", "14 | 7")):
        table.cell(i // 2, i % 2).text = text
    word.sections[0].header.paragraphs[0].text = "Confidential"
    out = io.BytesIO()
    word.save(out)
    document = text_of(out.getvalue(), "ferry.docx")
    assert document == Document("ferry.docx", document.text, "docx")
    assert document.text == (
        "# The ferry\n\n## Prices\n\nA ticket costs 14 euros.\n\n- one\n- two\n\n1. first\n2. second\n\n"
        "| Day | Price |\n| --- | --- |\n| Monday | 14 \\| 7 |"
    )


def test_what_was_deleted_from_a_docx_is_none_of_its_text():
    run = "<w:r><w:{0}>{1}</w:{0}></w:r>".format
    body = f"<w:p>{run('t', 'kept')}<w:del>{run('delText', 'gone')}</w:del><w:ins>{run('t', ' new')}</w:ins></w:p>"
    assert text_of(made.docx_of(body), "x.docx").text == "kept new"


# names


def test_a_file_is_found_by_what_people_and_terminals_write(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b (c)'s.pdf").write_text("x")
    (tmp_path / "c.pdf").write_text("x")
    there = tmp_path / "a b (c)'s.pdf"
    for written in (
        "a b (c)'s.pdf", " ~/a b (c)'s.pdf ", f"'{tmp_path}/a b (c)'\\''s.pdf'", f'"{there}"', '"a b (c)\'s.pdf"', r"a\ b\ \(c\)\'s.pdf", there.as_uri(),
        f"{tmp_path}/a\\ b\\ \\(c\\)\\'s.pdf",
    ):  # fmt: skip
        assert file_named(written).resolve() == there, written
        assert file_and_pages(written)[1] is None
        path, pages = file_and_pages(f"{written} 3-7,9-")
        assert path.resolve() == there and pages == "3-7,9-", written
    assert file_and_pages("c.pdf 3") == (Path("c.pdf"), "3")
    assert file_and_pages("report 2024") == (Path("report 2024"), None)  # nor is there a `report`
    assert file_and_pages("3") == (Path("3"), None) and file_and_pages("") == (Path(""), None)
    (tmp_path / "c.pdf 3").write_text("x")
    assert file_and_pages("c.pdf 3") == (Path("c.pdf 3"), None)  # it is there
    (tmp_path / "'quoted'").write_text("x")
    assert file_named("'quoted'").name == "'quoted'"
    assert file_named("no such").name == "no such" and file_named("'no such'").name == "no such"
    for none in ("x\0y", "~\0x", "'~\0x'", "file://[x"):  # what no file, nobody and no address can be
        assert file_named(none) == Path(none.strip("'")) and file_and_pages(none)[1] is None
