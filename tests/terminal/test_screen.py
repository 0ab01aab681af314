"""The screen: nothing in a text can command the terminal, colour is left out where it is not wanted, tables come out whole."""

import io
import re
import threading

import pyte
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alora_gguf.terminal.screen import Screen, harmless

HOSTILE = "a\x1b[2Jb\x9b31mc\x07\r\x08d\u202ee\u2066f\x00\u2028g\ue000\tok\n"
OBEYED = "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]"


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def plain_environment(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")


def test_control_sequences_lose_their_teeth():
    out = io.StringIO()
    Screen(out).write(HOSTILE)
    assert out.getvalue() == "a[2Jb31mcdefg\ue000\tok\n"


@settings(deadline=None)  # the first one imports
@given(st.text())
def test_no_control_character_comes_through(text):
    out = io.StringIO()
    screen = Screen(out)
    screen.write(text, "error")
    with screen.table("name", "finding") as show:
        show([(text, text)])
    assert not re.search(OBEYED, out.getvalue())


def test_text_of_any_script_is_left_alone():
    text = "caf\u00e9 10\u00a0000 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f469\u200d\U0001f52c \u4e16\u754c"
    assert harmless(text) == text


def test_colour_is_for_terminals_that_want_it(monkeypatch, plain_environment):
    def written(out):
        Screen(out).line("x\x1b[2J", "dim")
        return out.getvalue()

    assert written(Terminal()) == "\x1b[2mx[2J\n\x1b[22m"
    assert written(io.StringIO()) == "x[2J\n"
    monkeypatch.setenv("NO_COLOR", "1")
    assert written(Terminal()) == "x[2J\n"
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert written(Terminal()) == "x[2J\n"


def test_a_table_without_a_terminal_is_its_last_rows():
    out = io.StringIO()
    with Screen(out).table("name", "finding") as show:
        show([("a", "un"), ("longer", "")])
        show([("a", "two\nlines \x1b[2J"), ("\u4e16\u754c", "x")])
    assert out.getvalue() == "name  finding\na     two lines [2J\n\u4e16\u754c  x\n"


def test_a_live_table_stays_where_it_was(plain_environment):
    out = Terminal()
    screen = Screen(out)
    screen.line("before")
    with screen.table("name", "finding") as show:
        for i in range(50):
            show([("first", "x" * (i % 7 + 1)), ("second", f"[2J\x1b[2J {i}")])
    screen.line("after", "dim")
    seen = pyte.Screen(60, 12)
    pyte.Stream(seen).feed(out.getvalue().replace("\n", "\r\n"))
    assert [line.rstrip() for line in seen.display[:6]] == ["before", "name    finding", "first   x", "second  [2J[2J 49", "after", ""]


@pytest.mark.parametrize("columns", [34, 100])
def test_a_table_in_a_narrow_terminal_is_what_was_found(plain_environment, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    out = Terminal()
    with Screen(out).table("intrinsic", "reused", "decoded", "result") as show:
        show([("answerability", "113", "31", "likelihood 0.95, found: 14 euros")])
    seen = pyte.Screen(columns, 6)
    pyte.Stream(seen).feed(out.getvalue().replace("\n", "\r\n"))
    shown = [line.rstrip() for line in seen.display if line.strip()]
    if columns == 34:
        assert shown == ["intrinsic      result", "answerability  likelihood 0.95,", "               found: 14 euros"]
    else:
        assert shown == ["intrinsic      reused  decoded  result", "answerability  113     31       likelihood 0.95, found: 14 euros"]


def test_a_table_in_a_very_narrow_terminal_loses_nothing(plain_environment, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "24")
    name, found = "the-longest-name-of-all", "likelihood 0.95, found: 14 euros"
    out = Terminal()
    with Screen(out).table("intrinsic", "reused", "decoded", "result") as show:
        show([(name, "113", "31", found)])
    seen = pyte.Screen(20, 24)
    pyte.Stream(seen).feed(out.getvalue().replace("\n", "\r\n"))
    lines = [line for line in seen.display if line.strip()]
    at = lines[0].index("result")
    assert "".join(line[:at].strip() for line in lines[1:]) == name
    assert "".join("".join(line[at:].split()) for line in lines[1:]) == found.replace(" ", "")


def test_a_live_table_has_no_colour_where_none_is_wanted(monkeypatch, plain_environment):
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    with Screen(out).table("name", "finding") as show:
        show([("first", "x")])
    assert not re.search(r"\x1b\[[0-9;]*m", out.getvalue())


def shown(pieces, columns, monkeypatch):
    """What a terminal of so many columns shows of pieces of text, its lines."""
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("LINES", "24")
    out, screen = Terminal(), pyte.Screen(columns, 1000)
    screen.set_mode(pyte.modes.LNM)
    written = Screen(out)
    for piece in pieces:
        written.write(piece, "dim")
    pyte.Stream(screen).feed(out.getvalue())
    return [line.rstrip() for line in screen.display[: screen.cursor.y + 1]]


TEXT = "It leaves at nine, says Żółw, and 世界世界世界世界世界世界 is no word; (antidisestablishmentarianism-and-more) ends.\n  - two\n\n\tfar"


@pytest.mark.parametrize("columns", [20, 33, 80])
def test_lines_end_between_words_however_the_text_comes(plain_environment, monkeypatch, columns):
    whole = shown([TEXT], columns, monkeypatch)
    for n in (1, 2, 5):
        assert shown([TEXT[i : i + n] for i in range(0, len(TEXT), n)], columns, monkeypatch) == whole
    words = " ".join(" ".join(whole).split()).split()
    assert {w for w in TEXT.split() if len(w) < columns - 1 and w.isascii()} <= set(words)
    assert "".join("".join(whole).split()) == "".join(TEXT.split()) and all(len(line) < columns for line in whole)


def test_a_line_says_what_takes_long_and_goes(plain_environment, monkeypatch):
    monkeypatch.setattr("alora_gguf.terminal.screen._PATIENCE", 0.01)
    monkeypatch.setattr("alora_gguf.terminal.screen._TICK", 0.01)
    asked, called = threading.Event(), []

    def said():
        called.append(1)
        if len(called) > 2:
            asked.set()
        return f"reading {len(called)}\x1b[2J of 9"

    def written(out):
        with Screen(out).waiting(said) as end:
            asked.wait(5)
            end()
            out.write("It")
        return out.getvalue()

    screen = pyte.Screen(40, 3)
    pyte.Stream(screen).feed(written(Terminal()))
    assert len(called) > 2 and screen.display[0].rstrip() == "It"
    asked.set()
    assert written(io.StringIO()) == "It"


def test_what_is_said_meanwhile_is_one_line_in_a_narrow_terminal(plain_environment, monkeypatch):
    monkeypatch.setattr("alora_gguf.terminal.screen._PATIENCE", 0.01)
    monkeypatch.setattr("alora_gguf.terminal.screen._TICK", 0.01)
    monkeypatch.setenv("COLUMNS", "20")
    asked, called = threading.Event(), []

    def said():
        called.append(1)
        if len(called) > 3:
            asked.set()
        return "reading 1,024 of 9,999 tokens"

    out = Terminal()
    with Screen(out).waiting(said):
        asked.wait(5)
    out.write("It")
    seen = pyte.Screen(20, 8)
    pyte.Stream(seen).feed(out.getvalue())
    assert len(called) > 3 and [line.rstrip() for line in seen.display if line.strip()] == ["It"]


@pytest.mark.parametrize("columns", range(40, 60))
def test_what_a_command_does_goes_on_below_itself(plain_environment, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    out, text = Terminal(), "attach a document: text, Markdown, HTML, PDF or DOCX; of a PDF also some pages, as /doc FILE 3-7"
    Screen(out).entry("/doc FILE  ", text)
    seen = pyte.Screen(columns, 12)
    pyte.Stream(seen).feed(out.getvalue().replace("\n", "\r\n"))
    lines = [line.rstrip() for line in seen.display if line.strip()]
    assert [line[:11] for line in lines] == ["/doc FILE  ", *[" " * 11] * (len(lines) - 1)]
    assert " ".join(line[11:] for line in lines) == text


def test_failures_have_a_place_of_their_own():
    out, errors = io.StringIO(), io.StringIO()
    Screen(out, errors).failure("no\x1b[2J")
    Screen(out).failure("yes")
    assert (out.getvalue(), errors.getvalue()) == ("yes\n", "no[2J\n")
