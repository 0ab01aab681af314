"""Documents that are attached from files."""

import sys
from pathlib import Path

import pytest

from alora_gguf import ContextFullError, Document, DocumentError, PromptError, read_document

sys.path.insert(0, str(Path(__file__).parent.parent / "documents"))
import made


@pytest.fixture
def report(tmp_path) -> Path:
    path = tmp_path / "report.pdf"
    path.write_bytes(made.pdf_of_pages(9, paragraphs=2))
    return path


def test_a_file_is_its_text_and_its_name(shared, report):
    with shared.conversation() as by_path, shared.conversation() as by_text:
        document = by_path.attach(report, pages="2-3")
        assert isinstance(document, Document) and document == read_document(report, pages="2-3")
        assert (document.title, document.pages, document.read) == ("report.pdf", 9, (2, 3))
        by_text.attach(document.text, "report.pdf")
        assert by_path.documents == by_text.documents and by_path.documents[0]["title"] == "report.pdf"
        assert by_path.attach(document, "another title") == document and by_path.documents[1]["title"] == "another title"
        assert by_text.attach(str(report)).text == str(report)  # a str is text, whatever it says
        assert "title" not in by_text.documents[1]


def test_what_cannot_be_attached_leaves_the_documents(shared, report, tmp_path):
    with shared.conversation() as chat:
        chat.attach("It takes two hours.")
        for document, options, error, said in (
            (tmp_path, {}, DocumentError, "expected a document, got a folder"),
            (report, {"pages": "10"}, DocumentError, "pages: expected some of 1-9, got 10"),
            ("text", {"pages": "1"}, PromptError, "pages: expected the Path of a PDF with them"),
            (b"bytes", {}, PromptError, "expected"),
        ):
            with pytest.raises(error, match=said):
                chat.attach(document, **options)
        assert [d["text"] for d in chat.documents] == ["It takes two hours."]


def test_what_is_too_long_says_what_would_fit(shared, report, monkeypatch):
    n = len(shared.tokenize(read_document(report).text))
    with shared.conversation() as chat:
        with pytest.raises(ContextFullError) as e:
            chat.attach(report)
        most = int(str(e.value).split()[4])
        assert 1900 < most < 2048 - 32
        fit = 9 * (most * 3 // 4) // n
        line = f"report.pdf: expected at most {most} tokens of documents, got {n}; attach some of its pages, as 1-{fit}; or give a larger context"
        assert str(e.value).startswith(line) and int(str(e.value).rpartition(" ")[2]) * 3 / 4 >= n
        document = chat.attach(report, pages=f"1-{fit}")
        assert document.note is None
        with pytest.raises(ContextFullError, match=r"attach a part of it; or"):
            chat.attach(report)
    monkeypatch.setattr(shared.vocab, "n_trained", 1000)
    with shared.conversation() as chat:
        with pytest.raises(ContextFullError, match=rf"as 1-{9 * 750 // n}; this model was trained on 1000$"):
            chat.attach(report)
        document = chat.attach(report, pages="1-5")
        assert document.note == f"{len(shared.tokenize(document.text))} tokens with it, more than the 1000 that this model was trained on"


@pytest.mark.parametrize("system", [None, "word " * 200])
def test_there_is_room_for_a_question_behind_the_longest_document(shared, system):
    words = " word" * 2000
    with shared.conversation(system=system) as chat:
        with pytest.raises(ContextFullError) as e:
            chat.attach(words)
        most = int(str(e.value).split()[4])
        with pytest.raises(ContextFullError, match=rf"at most {most} tokens of documents, got {most + 1};"):
            chat.attach(" word" * (most + 1))
        chat.attach(" word" * most)
        question = {"role": "user", "content": "How long does it take?"}
        prompt = shared.engine.prompts.chat([*chat.messages, question], chat.setting(chat.variables()))
        assert 2048 - 32 < len(prompt.tokens) < 2048 - 16
