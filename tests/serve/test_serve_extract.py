"""POST /extract: documents as text for a page that attaches them."""

import socket
import sys
import threading
import time
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "documents"))
import made

SLOW = made.pdf_of_contents(b"BT /F 12 Tf (abcdefghijklmnopqrstuvwxyz) Tj ET\n" * 400_000, filtered=True)  # for longer than reading may take


def ask(server, data, **asked):
    response = httpx.post(f"{server.url}/extract", params=asked, content=data, timeout=120)
    return response.status_code, response.json()


def test_documents_are_text(server):
    assert ask(server, "café".encode(), name="notes.txt") == (200, {"title": "notes.txt", "text": "café", "kind": "text"})
    assert ask(server, "café".encode("cp1252"), name="C:\\x\\notes.md") == (
        200,
        {"title": "notes.md", "text": "café", "kind": "markdown", "note": "read as Windows-1252, which is a guess"},
    )
    assert ask(server, made.docx_of(made.paragraph_of("Hello")), name="../a/x.docx") == (200, {"title": "x.docx", "text": "Hello", "kind": "docx"})
    status, said = ask(server, made.pdf_of_pages(4, paragraphs=1), name="x.pdf", pages="2-3")
    assert status == 200 and said.keys() == {"title", "text", "kind", "pages"} and said["pages"] == 4
    assert said["text"].startswith("Chapter 2\n\nPage 2, note 1.") and "Chapter 3" in said["text"] and "Chapter 4" not in said["text"]


@pytest.mark.parametrize(
    "data, asked, said, param",
    [
        (b"x", {}, "name: expected the file's name as /extract?name=report.pdf, got none; give it", "name"),
        (b"x", {"name": "a/"}, "name: expected the file's name as /extract?name=report.pdf, got none; give it", "name"),
        (b"x", {"name": "x", "page": "1"}, "page: expected name and pages, got another parameter; leave it out", "page"),
        (b"", {"name": "x"}, "x: expected text, got none; check the file", None),
        (b"\x89PNG", {"name": "x\n.png"}, "x\\n.png: expected text, Markdown, HTML, a PDF or a DOCX, got a picture; recognise its text first", None),
        (b"x", {"name": "x", "pages": "1"}, "x: pages: expected a PDF with them, got another document, which has none; leave them out", None),
    ],
    ids=range(6),
)
def test_what_is_refused_is_an_error_of_the_usual_form(server, data, asked, said, param):
    status, answer = ask(server, data, **asked)
    assert status == 400 and answer["error"] == {"message": said, "type": "invalid_request_error", "param": param, "code": None}


def children(server) -> int:
    pid = server.process.pid
    return len(" ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")).split())


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are counted in /proc")
def test_documents_wait_for_each_other_and_for_nothing_else_and_end_with_their_client(server):
    host, port = server.url.removeprefix("http://").split(":")
    head = b"POST /extract?name=x.pdf HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(SLOW)
    answers = []
    slow = [socket.create_connection((host, int(port))) for _ in range(2)]
    try:
        for connection in slow:
            connection.sendall(head + SLOW)
        wait_until(lambda: children(server) == 2)
        third = threading.Thread(target=lambda: answers.append(ask(server, b"<html>page", name="x")))
        third.start()
        for _ in range(3):
            assert server.call("GET", "/health")[0] == 200
            assert server.call("POST", "/v1/completions", {"prompt": "Hi", "max_tokens": 2})[0] == 200
        assert children(server) == 2 and not answers
    finally:
        for connection in slow:
            connection.close()
    third.join(60)
    assert answers == [(200, {"title": "x", "text": "page", "kind": "html"})]
    wait_until(lambda: children(server) == 0)


def test_its_key_is_asked_for(tiny_base, tmp_path):
    from live import running

    with running(tmp_path / "log", "--model", tiny_base, "--ctx", 512, "--api-key", "secret", "--max-body", 1) as server:
        assert server.call("POST", "/extract?name=x", b"x")[0] == 401
        assert server.call("POST", "/extract?name=x", b"x", Authorization="Bearer secret")[0] == 200
        assert server.call("POST", "/extract?name=x", b"x" * (1 << 20) + b"x", Authorization="Bearer secret")[0] == 413
