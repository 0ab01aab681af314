"""The terminal's side of `alora chat`: line editing, history, completion, colour."""

import os
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

PROMPT = "> "


def history_file() -> Path:
    """Where lines are kept from chat to chat: the XDG state folder."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "alora_gguf" / "history"


def typed_lines(commands: list[str]) -> Iterator[str]:
    """Lines as a person types them. Ctrl-C drops the line, Ctrl-D ends."""
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    path = history_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        history = FileHistory(str(path))
    except OSError:
        history = InMemoryHistory()
    session = PromptSession(history=history, completer=WordCompleter(commands, sentence=True), complete_while_typing=False)
    while True:
        try:
            yield session.prompt(PROMPT)
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def piped_lines(source: TextIO, write: Callable[[str], None]) -> Iterator[str]:
    """Lines of a file or pipe, each shown as if it were typed."""
    for line in source:
        if line.strip():
            write(f"{PROMPT}{line.rstrip()}\n")
            yield line


def writer(out: TextIO) -> Callable[[str], None]:
    """Writes text at once, and nothing that a terminal would obey."""

    def write(text: str) -> None:
        out.write("".join(filter(_is_harmless, text)))
        out.flush()

    return write


def _is_harmless(c: str) -> bool:
    """Anything but control characters, and format characters other than the joiners, which scripts and emoji need."""
    return c in "\n\t\u200c\u200d" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp")


def dim_writer(out: TextIO) -> Callable[[str], None]:
    """The same, dimmed where there is a terminal and NO_COLOR is not set."""
    plain = writer(out)
    if not out.isatty() or os.environ.get("NO_COLOR"):
        return plain

    def write(text: str) -> None:
        out.write("\x1b[2m")
        plain(text)
        out.write("\x1b[22m")
        out.flush()

    return write


def is_interactive() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()
