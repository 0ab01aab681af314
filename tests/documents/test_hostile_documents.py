"""Documents of strangers: each ends in one line, within limits, and nothing in them is fetched, run or written."""

import http.server
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time

import made
import pytest

from alora_gguf import DocumentError, read_document
from alora_gguf.documents import limits, process, reader
from alora_gguf.documents.process import read_apart
from alora_gguf.documents.reader import text_of

BEGIN = "import json, sys; given = json.loads(sys.argv[1]); sys.path[:] = given['path']; from alora_gguf.documents import worker; "
KIDS = {1: b"<< /Type /Catalog /Pages 2 0 R >>"}
PAGE = b"<< /Type /Page /Parent 2 0 R >>"
FORM = b"<< /Type /XObject /Subtype /Form /Resources << /XObject << /X 6 0 R >> >> /Length 5 >>\nstream\n/X Do\nendstream"
ENTITIES = b"".join(b'<!ENTITY a%d "%s">' % (i, (b"&a%d;" % (i - 1) if i else b"a") * 10) for i in range(9))

HOSTILE = {
    "pdf-pages-in-a-loop": (lambda: made.pdf_of_objects({**KIDS, 2: b"<< /Type /Pages /Kids [2 0 R] /Count 1 >>"}), "expected a PDF that can be read"),
    "pdf-objects-in-a-loop": (lambda: made.pdf_of_objects({**KIDS, 2: b"3 0 R", 3: b"2 0 R"}), "expected a document that can be read, got a damaged"),
    "pdf-xref-in-a-loop": (
        lambda: made.pdf_of_contents(b"").replace(b"/Root", b"/Prev %d /Root" % made.pdf_of_contents(b"").index(b"xref")),
        "expected text, got none",
    ),
    "pdf-of-forms-in-a-loop": (
        lambda: made.pdf_of_contents(b"/X Do", page=b"/Resources << /XObject << /X 6 0 R >> >>", more={6: FORM}),
        "expected text, got none",
    ),
    "pdf-of-1001-pages": (
        lambda: made.pdf_of_objects({**KIDS, 2: b"<< /Type /Pages /Count 1001 /Kids [%b] >>" % (b"3 0 R " * 1001), 3: PAGE}),
        "expected at most 1000 pages, got 1001; give some of them, as 1-1000",
    ),
    "pdf-of-10^10-pages": (
        lambda: made.pdf_of_objects(
            {**KIDS, **{i: b"<< /Type /Pages /Count 1 /Kids [%b] >>" % (b"%d 0 R " % (i + 1) * 10) for i in range(2, 12)}, 12: PAGE}
        ),
        "expected a PDF that can be read",
    ),
    "pdf-that-unpacks-to-128-mb": (lambda: made.pdf_of_contents(b" " * (1 << 27), filtered=True), "expected a PDF that can be read"),
    "pdf-of-arrays-in-each-other": (lambda: made.pdf_of_contents(b"[" * 100_000), "expected a "),
    "pdf-without-pages": (lambda: made.pdf_of_objects({**KIDS, 2: b"<< /Type /Pages /Kids [] /Count 0 >>"}), "expected pages, got none"),
    "pdf-of-pictures": (
        lambda: made.pdf_of_contents(b"q 100 0 0 100 0 0 cm BI /W 1 /H 1 /BPC 8 /CS /G ID \x00 EI Q"),
        "expected text, got none on 1 page, as of a scanner; recognise the text first",
    ),
    "pdf-with-a-password": (lambda: made.pdf_of_pages(1, user="secret", owner="other"), "expected a PDF without a password, got an encrypted one"),
    "pdf-that-ends-early": (lambda: made.pdf_of_pages(3)[:2000], "expected a "),
    "docx-that-unpacks-to-256-mb": (lambda: made.docx_of(b" " * (1 << 28)), "expected at most 32 MiB unpacked, got 256 MiB"),
    "docx-of-entities": (
        lambda: made.docx_of(b'<?xml version="1.0"?><!DOCTYPE w [%b]><w>&a8;</w>' % ENTITIES),
        "expected a DOCX as Word writes it, got one with a DOCTYPE",
    ),
    "docx-of-entities-in-utf-16": (
        lambda: made.docx_of(f'<?xml version="1.0" encoding="UTF-16"?><!DOCTYPE w [{ENTITIES.decode()}]><w>&a8;</w>'.encode("utf-16")),
        "expected a DOCX as Word writes it, got one with a DOCTYPE",
    ),
    "docx-of-elements-in-each-other": (lambda: made.docx_of("<w:p>" * 5000 + "</w:p>" * 5000), "expected at most 200 elements in each other"),
    "docx-of-no-xml": (lambda: made.docx_of(b"<w:document>&<"), "expected a DOCX of XML"),
    "docx-without-a-body": (lambda: made.archive_of({"word/styles.xml": "<a/>"}), "expected a DOCX that can be read"),
    "docx-that-ends-early": (lambda: made.docx_of(made.paragraph_of("Hello"))[:200], "expected a DOCX that can be read"),
    "spreadsheet": (lambda: made.archive_of({"xl/workbook.xml": "<a/>"}), "expected a DOCX, got a spreadsheet; save it as DOCX or PDF"),
    "html-of-tables-in-each-other": (lambda: b"<html>" + b"<table><tr><td>" * 20_000, "expected text, got none"),
    "html-of-half-a-tag": (lambda: b"<html>" + b"<a " * 3_000_000, "expected a document that can be read with 1024 MiB of memory"),
    "html-of-much": (lambda: b"<html>" + (b"<p>" + b"word " * 200) * 5000, "expected at most 4 MiB of text"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_document_is_one_line(name):
    make, said = HOSTILE[name]
    with pytest.raises(DocumentError) as e:
        text_of(make(), "x\x1b[2J.bin")
    assert str(e.value).startswith(f"x\\x1b[2J.bin: {said}") and str(e.value).isprintable(), str(e.value)
    assert len(str(e.value)) < 500


def test_what_only_its_owner_may_change_is_read():
    assert "night ferry" in text_of(made.pdf_of_pages(1, user="", owner="other"), "x.pdf").text


def test_a_page_of_many_elements_is_read():
    assert text_of(b"<html>" + b"<div>" * 20_000 + b"x", "x").text == "x"


# what is in a document


@pytest.fixture
def listener():
    """A server that says who asked it."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        do_HEAD = do_POST = do_GET

        def log_message(self, *arguments):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_nothing_in_a_document_is_fetched(listener, tmp_path):
    url, asked = listener
    secret = tmp_path / "secret.txt"
    secret.write_text("the secret")
    html = f"""<html><head><link rel=stylesheet href={url}/a><base href={url}/><meta http-equiv=refresh content="0; url={url}/b"></head>
        <body onload="fetch('{url}/c')"><script src={url}/d></script><img src={url}/e alt=picture><iframe src={secret.as_uri()}></iframe>
        <object data={url}/f></object><p style="background: url({url}/g)">Hello</body></html>"""
    assert text_of(html.encode(), "x.html").text == "[picture: picture]\n\nHello"
    relation = '<Relationship Id="p{0}" Type="{1}/image" Target="{2}" TargetMode="External"/>'.format
    places = [f"{url}/h", secret.as_uri(), str(secret)]
    relations = "".join(relation(i, made.RELATIONSHIPS, place) for i, place in enumerate(places))
    relations += f'<Relationship Id="t" Type="{made.RELATIONSHIPS}/attachedTemplate" Target="{url}/i" TargetMode="External"/>'
    body = "".join(made.linked_picture(f"p{i}") for i in range(len(places)))
    assert text_of(made.docx_of(made.paragraph_of("Hello") + body, relationships=relations), "x.docx").text == "Hello"
    for place in places:
        doctype = f'<!DOCTYPE w [<!ENTITY x SYSTEM "{place}">]>'
        with pytest.raises(DocumentError, match="DOCTYPE"):
            text_of(made.docx_of(f"<?xml version='1.0'?>{doctype}<w:p xmlns:w='{made.WORD}'>&x;</w:p>".encode()), "x.docx")
    actions = [
        f"<< /S /URI /URI ({url}/j) >>", f"<< /S /JavaScript /JS (app.launchURL\\('{url}/k'\\)) >>", f"<< /S /Launch /F (touch {tmp_path}/touched) >>",
        f"<< /S /GoToR /F ({secret}) >>", f"<< /S /SubmitForm /F ({url}/l) >>",
    ]  # fmt: skip
    external = f"<< /Length 0 /F ({secret}) /FFilter /ASCIIHexDecode >>\nstream\n\nendstream".encode()
    for action in actions:
        data = made.pdf_of_contents(
            b"BT /F 12 Tf 50 700 Td (Hello) Tj ET",
            catalog=b"/OpenAction " + action.encode(),
            page=b"/Resources << /Font << /F 5 0 R >> >> /AA << /O %b >> /Contents [4 0 R 6 0 R]" % action.encode(),
            more={6: external},
        )
        assert text_of(data, "x.pdf").text == "Hello"
    assert asked == [] and sorted(os.listdir(tmp_path)) == ["secret.txt"]


TRIES = {
    "read": "open({secret!r}).read()",
    "read by number": "os.open({secret!r}, os.O_RDONLY)",
    "write": "open({new!r}, 'w')",
    "write by number": "os.open({new!r}, os.O_WRONLY | os.O_CREAT)",
    "write among modules": "open(os.path.join(sys.path[-1], 'new'), 'w')",
    "remove": "os.remove({secret!r})",
    "rename": "os.rename({secret!r}, {new!r})",
    "folder": "os.mkdir({new!r})",
    "link": "os.symlink({secret!r}, {new!r})",
    "socket": "socket.socket()",
    "connection": "socket.create_connection(('127.0.0.1', 9))",
    "name": "socket.getaddrinfo('localhost', 80)",
    "address": "urllib.request.urlopen('http://127.0.0.1:9/')",
    "file address": "urllib.request.urlopen('file://' + {secret!r})",
    "program": "subprocess.run(['true'])",
    "shell": "os.system('true')",
    "fork": "os.fork()",
    "other program": "os.execv('/bin/true', ['true'])",
    "signal": "os.kill(os.getppid(), 0)",
    "library": "ctypes.CDLL(None)",
}


def test_the_process_that_reads_opens_connects_and_starts_nothing(monkeypatch, tmp_path):
    """What a library could be talked into: each is tried where documents are read."""
    secret, new = tmp_path / "secret.txt", tmp_path / "new"
    secret.write_text("the secret")
    tries = {name: code.format(secret=str(secret), new=str(new)) for name, code in TRIES.items()}
    monkeypatch.setattr(
        process,
        "_START",
        BEGIN + f"import ctypes, os, socket, subprocess, urllib.request\ntries = {tries!r}\nsaid = {{}}\n"
        "sys.addaudithook(worker._refuse)\n"
        "for name, code in tries.items():\n"
        "    try:\n        eval(code); said[name] = 'done'\n"
        "    except PermissionError as e:\n        said[name] = 'refused' if 'read alone' in str(e) else str(e)\n"
        "    except Exception as e:\n        said[name] = repr(e)\n"
        "import plistlib, encodings.cp875\n"  # modules may still be imported
        "print(json.dumps(said))",
    )
    assert read_apart(b"", "pdf", None, threading.Event()) == dict.fromkeys(TRIES, "refused")
    assert os.listdir(tmp_path) == ["secret.txt"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="other systems have other limits")
def test_the_process_that_reads_has_limits(monkeypatch, tmp_path):
    monkeypatch.setattr(
        process,
        "_START",
        BEGIN + "import resource; worker._limit()\n"
        "said = {name: resource.getrlimit(getattr(resource, 'RLIMIT_' + name))[0] for name in ('AS', 'CPU', 'FSIZE', 'CORE')}\n"
        "try:\n    bytearray(2 << 30)\nexcept MemoryError:\n    said['memory'] = 'refused'\n"
        f"try:\n    with open({str(tmp_path / 'new')!r}, 'w') as f: f.write('x')\nexcept OSError as e:\n    said['write'] = e.strerror\n"
        "print(json.dumps(said))",
    )
    said = read_apart(b"", "pdf", None, threading.Event())
    assert said == {"AS": 1 << 30, "CPU": 25, "FSIZE": 0, "CORE": 0, "memory": "refused", "write": "File too large"}


@pytest.mark.parametrize(
    "code, said",
    [
        ("while True: pass", "expected a document that can be read in 0.5 s, got one that takes longer; attach a part of it"),
        ("import os; os.abort()", "expected a document that can be read, got one that ends the process that reads it"),
        ("print('no JSON')", "expected a document that can be read, got one that ends the process that reads it"),
        ("import sys; [sys.stdout.write('x' * 1000000) for _ in range(100)]; input()", "expected a document that can be read, got one that ends"),
    ],
    ids=["long", "abort", "words", "much"],
)
def test_whatever_becomes_of_the_process_is_one_line(monkeypatch, code, said):
    started = []

    class Started(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Started)
    monkeypatch.setattr(process, "_START", code)
    if "while" in code:
        monkeypatch.setattr(process, "SECONDS", 0.5)
    with pytest.raises(DocumentError) as e:
        text_of(b"%PDF-1.7 " + b"x" * (1 << 20), "x.pdf")
    assert str(e.value).startswith(f"x.pdf: {said}") and "\n" not in str(e.value)
    assert [p.poll() is not None for p in started] == [True]


def test_another_thread_ends_it(monkeypatch):
    monkeypatch.setattr(process, "_START", "import time; time.sleep(600)")
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    with pytest.raises(DocumentError, match="it was stopped"):
        text_of(b"%PDF-1.7", "x.pdf", stop=stop)


def test_ctrl_c_ends_it(tmp_path):
    """The process that reads is gone when Ctrl-C comes out of the call."""
    (tmp_path / "x.pdf").write_bytes(b"%PDF-1.7")
    code = (
        "import subprocess, alora_gguf\nfrom alora_gguf.documents import process\n"
        "process._START = 'import os, sys, time; print(os.getpid(), file=open(sys.argv[2], \"w\"), flush=True); time.sleep(600)'\n"
        "begin = subprocess.Popen\n"
        "subprocess.Popen = lambda command, **options: begin([*command, 'pid'], **{**options, 'cwd': '.'})\n"
        "try:\n    alora_gguf.read_document('x.pdf')\nexcept KeyboardInterrupt:\n    print('interrupted')\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as parent:
        end = time.monotonic() + 60
        while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip()):
            assert parent.poll() is None and time.monotonic() < end
            time.sleep(0.02)
        parent.send_signal(signal.SIGINT)
        assert parent.communicate(timeout=60)[0] == "interrupted\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_neither_the_current_folder_nor_secrets_reach_it(monkeypatch, tmp_path):
    """A folder of downloads may have a pypdf.py."""
    for name in ("pypdf", "json", "mammoth", "sitecustomize"):
        (tmp_path / f"{name}.py").write_text(f"open({str(tmp_path / 'touched')!r}, 'w')")
    (tmp_path / "x.pdf").write_bytes(made.pdf_of_pages(1, paragraphs=1))
    code = f"import sys; sys.path.append({str(reader.__file__).rpartition('/alora_gguf/')[0]!r}); sys.path.remove(''); sys.path.insert(0, '')\n"
    code += "import alora_gguf; sys.stdout.write(alora_gguf.read_document('x.pdf').text[:9])"
    for_json = tmp_path / "json.py"
    for_json.unlink()  # the parent itself would import it
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "Chapter 1" and not (tmp_path / "touched").exists(), done.stderr
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("PYTHONSTARTUP", "x")
    monkeypatch.setattr(process, "_START", "import json, os; print(json.dumps(dict(os.environ)))")
    assert not {"HF_TOKEN", "PYTHONSTARTUP", "HOME"} & read_apart(b"", "pdf", None, threading.Event()).keys()


def test_a_package_that_is_missing_is_one_line(monkeypatch):
    kinds = {
        "pypdf": made.pdf_of_pages(1, paragraphs=1),
        "mammoth": made.docx_of(made.paragraph_of("x")),
        "charset_normalizer": "Паром".encode("cp1251"),
    }
    for name, data in kinds.items():
        monkeypatch.setattr(process, "_START", f"import sys; sys.modules[{name!r}] = None; {BEGIN} worker.main(given)")
        package = name.replace("_", "-")
        with pytest.raises(DocumentError, match=f"^x: expected the package {package} for it, got none; pip install {package}$"):
            text_of(data, "x")
        assert text_of(b"text", "x").text == "text" and text_of(b"<html>page", "x").text == "page"


def test_a_document_that_takes_long_says_how_far_it_was(monkeypatch):
    """The reader looks at the clock after each page."""
    from alora_gguf.documents import pdf

    now = iter(range(0, 1000, 5))
    monkeypatch.setattr(pdf.time, "monotonic", lambda: next(now))
    with pytest.raises(DocumentError, match=r"expected a text within 20 s, got [1-5] of 9 pages; give some of them, as 1-[1-5]"):
        pdf.text_of_pdf(made.pdf_of_pages(9, paragraphs=1), None, 0.0)


def test_the_largest_file_is_not_read_whole(tmp_path):
    path = tmp_path / "large.pdf"
    with open(path, "wb") as f:
        f.truncate(1 << 40)
    with pytest.raises(DocumentError, match="expected at most 64 MiB, got more; attach the part that matters"):
        read_document(path)


@pytest.mark.parametrize("kind", ["pdf", "docx"])
def test_damaged_files_are_read_or_one_line(kind):
    """Cut short and with bytes changed, of a DOCX in its XML, in this process: whatever a library raises is said."""
    import random

    from alora_gguf.documents.worker import answer

    whole = made.pdf_of_pages(1, paragraphs=1) if kind == "pdf" else made.body_of(made.docx_of_pages(1, paragraphs=1))
    chance, outcomes = random.Random(3), set()
    for _ in range(60):
        data = bytearray(whole[: chance.randrange(len(whole))] if chance.random() < 0.3 else whole)
        for _ in range(chance.randrange(10)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        given = (bytes(data), "pdf") if kind == "pdf" else (made.docx_of(bytes(data)), "zip")
        said = answer(*given, None, time.monotonic())
        assert ("text" in said) != bool({"error", "missing"} & said.keys())
        outcomes.add("text" in said)
    assert outcomes == {True, False}
    json.dumps(said)


def test_security_md_names_these_tests(repo):
    said = (repo / "SECURITY.md").read_text(encoding="utf-8").partition("## Documents")[2].partition("\n## ")[0]
    names = set(re.findall(r"`(test_\w+)`", said))
    assert names and names <= {name for name in globals() if name.startswith("test_")}
    for number in (
        f"{limits.SECONDS} seconds",
        f"{limits.MEMORY_BYTES >> 30} GiB",
        f"{limits.TEXT_BYTES >> 20} MiB",
        f"{limits.FILE_BYTES >> 20} MiB",
        f"{limits.PAGES} pages",
    ):
        assert number in said, number
