"""The terminal's side: nothing in an answer can command it; and the program itself, in a pseudo-terminal."""

import io
import os
import re
import sys

import pexpect
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alora_gguf.terminal import dim_writer, history_file, piped_lines, writer

HOSTILE = "a\x1b[2Jb\x9b31mc\x07\r\x08d\u202ee\u2066f\x00\u2028g\ue000\tok\n"


READY, DONE = r"\x1b\[\?2004h", r"\x1b\[\?2004l"  # the line editor takes the terminal, and gives it back


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_control_sequences_lose_their_teeth():
    out = io.StringIO()
    writer(out)(HOSTILE)
    assert out.getvalue() == "a[2Jb31mcdefg\ue000\tok\n"


@given(st.text())
def test_no_control_character_comes_through(text):
    out = io.StringIO()
    writer(out)(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", out.getvalue())


def test_text_of_any_script_is_left_alone():
    text = "caf\u00e9 10\u00a0000 \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \U0001f469\u200d\U0001f52c \u4e16\u754c"
    out = io.StringIO()
    writer(out)(text)
    assert out.getvalue() == text


def test_dim_lines_are_dim_in_a_terminal_only(monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    for out, want in ((Terminal(), "\x1b[2mx[2J\n\x1b[22m"), (io.StringIO(), "x[2J\n")):
        dim_writer(out)("x\x1b[2J\n")
        assert out.getvalue() == want
    monkeypatch.setenv("NO_COLOR", "1")
    out = Terminal()
    dim_writer(out)("x\n")
    assert out.getvalue() == "x\n"


def test_history_is_kept_where_xdg_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history_file() == tmp_path / "alora_gguf" / "history"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert history_file() == tmp_path / ".local" / "state" / "alora_gguf" / "history"


def test_piped_lines_are_shown_as_if_typed():
    shown = []
    assert list(piped_lines(io.StringIO("one\n\n  \ntwo"), shown.append)) == ["one\n", "two"]
    assert shown == ["> one\n", "> two\n"]


@pytest.fixture
def terminal(answerability, tmp_path):
    """`alora chat` in a pseudo-terminal."""
    code = "from alora_gguf.cli import main; raise SystemExit(main())"
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    env.pop("NO_COLOR", None)
    process = pexpect.spawn(
        sys.executable, ["-c", code, "chat", "--adapter", str(answerability), "--temperature", "0", "--max-tokens", "400"],
        env=env, encoding="utf-8", timeout=90, dimensions=(40, 120))
    process.expect("/answerability, /help, /all, /reset, /quit")
    yield process
    process.close(force=True)


def test_a_chat_in_a_terminal(terminal, tmp_path):
    terminal.expect(READY)
    terminal.send("/answ\t")
    terminal.expect("erability")  # completed
    terminal.send("\r")
    terminal.expect(r"answerable\s.*\x1b\[2m\d+ tokens reused, \d+ decoded, \d+ ms")

    terminal.send("\x1b[200~Write a long story\nabout the sea.\x1b[201~\r")  # pasted: one message of two lines
    terminal.expect(DONE)
    terminal.expect(r"\w+ \w+ \w+")
    terminal.sendintr()
    terminal.expect(r"\d+ ms, stopped")
    terminal.expect(READY)

    terminal.send("half a line")
    terminal.sendintr()  # drops the line
    terminal.send("\x1b[A\x1b[A\x1b[A\r")  # up in the history, past the two lines of the message
    terminal.expect(r"answerable\s.*\d+ tokens reused")
    terminal.send("/help\r")
    terminal.expect("/answerability +run this intrinsic")
    terminal.expect(READY)
    terminal.sendeof()
    terminal.expect(pexpect.EOF)
    terminal.wait()
    assert terminal.exitstatus == 0

    history = tmp_path / "alora_gguf" / "history"
    lines = [line for line in history.read_text().splitlines() if line.startswith("+")]
    assert lines == ["+/answerability", "+Write a long story", "+about the sea.", "+/answerability", "+/help"]
    assert history.stat().st_mode & 0o077 == 0
