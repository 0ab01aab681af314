"""Messages from people, typed or piped; and the program itself, in a pseudo-terminal."""

import io
import os
import sys

import pexpect
import pytest

from alora_gguf.terminal.input import history_file, is_open, piped_messages
from alora_gguf.terminal.screen import Screen

READY, DONE = r"\x1b\[\?2004h", r"\x1b\[\?2004l"  # the line editor takes the terminal, and gives it back


def test_history_is_kept_where_xdg_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert history_file() == tmp_path / "alora_gguf" / "history"
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert history_file() == tmp_path / ".local" / "state" / "alora_gguf" / "history"


@pytest.mark.parametrize("text, wanted", [
    ("", False), ("one", False), ("one\\", True), ("one\\\ntwo", False), ('"""', True), (' """one\n\n', True), ('"""one\\', True),
    ('"""one"""', False), ('"""\none\n""" ', False), ('one """', False), ('""""""', False), ('"""""', True),
])  # fmt: skip
def test_what_more_lines_belong_to(text, wanted):
    assert is_open(text) is wanted


@pytest.mark.parametrize("given, messages, shown", [
    ("one\n\n  \ntwo", ["one", "two"], "> one\n> two\n"),
    ("one\\\ntwo \\\nthree\nfour\n", ["one\ntwo \nthree", "four"], "> one\n  two \n  three\n> four\n"),
    ('"""\n  one\n\ntwo\\\n"""\nthree\n', ["one\n\ntwo\\", "three"], "> one\n  \n  two\\\n> three\n"),
    ('"""\nls \\\n  -l\n"""\n', ["ls \\\n  -l"], "> ls \\\n    -l\n"),
    ('"""one"""\n', ["one"], "> one\n"),
    ('"""\none\n', ['"""\none'], '> """\n  one\n'),
    ("one\\", ["one\\"], "> one\\\n"),
    ('""""""\n', [], ""),
], ids=range(8))  # fmt: skip
def test_piped_messages_are_shown_as_if_typed(given, messages, shown):
    out = io.StringIO()
    assert list(piped_messages(io.StringIO(given), Screen(out))) == messages
    assert out.getvalue() == shown


@pytest.fixture
def terminal(variants, tmp_path):
    """`alora chat` in a pseudo-terminal."""
    code = "from alora_gguf.cli import main; raise SystemExit(main())"
    env = {**os.environ, "XDG_STATE_HOME": str(tmp_path), "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1"}
    env.pop("NO_COLOR", None)
    process = pexpect.spawn(
        sys.executable,
        ["-c", code, "chat", *(f"--adapter={variants[name]}" for name in ("answerability", "other")), "--temperature", "0", "--max-tokens", "400"],
        env=env,
        cwd=tmp_path,
        encoding="utf-8",
        timeout=90,
        dimensions=(40, 120),
    )
    process.expect("/answerability, /other, /all; /help")
    yield process
    process.close(force=True)


def test_a_chat_in_a_terminal(terminal, tmp_path):
    terminal.expect(READY)
    terminal.send("/answ\t")
    terminal.expect("erability")  # completed
    terminal.send("\r")
    terminal.expect(r"\x1b\[36m(un)?answerable\s.*\x1b\[2m\d+ tokens reused, \d+ decoded, \d+ ms")

    terminal.send("\x1b[200~Write a long story\nabout the sea.\x1b[201~\r")  # pasted: one message of two lines
    terminal.expect(DONE)
    terminal.expect(r"\w+ \w+ \w+")
    terminal.sendintr()
    terminal.expect(r"\d+ ms, \d+% of the context, stopped")
    terminal.expect(READY)

    terminal.send("half a line")
    terminal.sendintr()  # drops the line
    terminal.send("\x1b[A\x1b[A\x1b[A\r")  # up in the history, past the two lines of the message
    terminal.expect(r"answerable\s.*\d+ tokens reused")
    terminal.send("/help\r")
    terminal.expect("/answerability +[A-Z]")
    terminal.expect(READY)
    terminal.sendeof()
    terminal.expect(pexpect.EOF)
    terminal.wait()
    assert terminal.exitstatus == 0

    history = tmp_path / "alora_gguf" / "history"
    lines = [line for line in history.read_text().splitlines() if line.startswith("+")]
    assert lines == ["+/answerability", "+Write a long story", "+about the sea.", "+/answerability", "+/help"]
    assert history.stat().st_mode & 0o077 == 0


def test_files_lines_and_the_table_in_a_terminal(terminal, tmp_path):
    (tmp_path / "the ferry.txt").write_text("The ferry takes two hours.")
    terminal.expect(READY)
    terminal.send("/doc th\t")
    terminal.expect("e ferry.txt")  # completed
    terminal.send("\r")
    terminal.expect("document 1: the ferry.txt, 26 characters")
    terminal.expect(READY)

    terminal.send("Say\\\ryes or\x1b\rno.\r")  # a backslash, Alt-Enter
    terminal.expect(r"\x1b\[2m\d+ tokens reused")
    terminal.expect(READY)
    terminal.send("/all\r")
    terminal.expect(r"intrinsic[^\n]*reused[^\n]*decoded[^\n]*result")
    terminal.expect(r"answerability +\d+[^\n]*answerable")
    terminal.expect(r"other +\d+[^\n]*answerable")
    terminal.expect(READY)
    terminal.send("/save chat\r")
    terminal.expect("saved chat, ")
    terminal.expect(READY)
    terminal.send('"""\r/reset\r\x03')  # Enter does not end a block; Ctrl-C drops it
    terminal.expect(READY)
    terminal.send("/reset\r")
    terminal.expect("a new conversation")
    terminal.expect(READY)
    terminal.send("/resume ch\t")
    terminal.expect("at")
    terminal.send("\r")
    terminal.expect(r"> Say\r\n  yes or\r\n  no\.")
    terminal.expect(r"other: (un)?answerable")
    terminal.expect(READY)
    terminal.sendeof()
    terminal.expect(pexpect.EOF)
    terminal.wait()
    assert terminal.exitstatus == 0
