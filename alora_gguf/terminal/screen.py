"""The screen of `alora chat`: text that no terminal obeys, colour, tables that change."""

import contextlib
import os
import shutil
import textwrap
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from typing import TextIO

PROMPT, MORE = "> ", "  "  # before the first line of a message, and before its others
Row = Sequence[str]

_STYLES = {"bold": ("1", "22"), "dim": ("2", "22"), "error": ("31", "39"), "summary": ("36", "39")}  # SGR, on and off
_ERASE = "\x1b[K"  # to the end of the line
_LEAST = 20  # columns that a text is folded into
_NARROW = 70  # columns of a terminal in which a table is its first and last columns
_SECONDS = 0.08  # between two pictures of a table
_PATIENCE, _TICK = 0.7, 0.2  # seconds until a wait is worth a line, and between two of it


class Screen:
    """Writes to `out` at once. Colour only where there is a terminal, and neither NO_COLOR nor TERM=dumb says otherwise.

    In a terminal lines are broken between words.
    """

    def __init__(self, out: TextIO, errors: TextIO | None = None):
        """errors: where failures go; None: to `out` too."""
        self._out = out
        self._errors = errors
        self._lines = _Lines()
        self._is_terminal = out.isatty() and os.environ.get("TERM") != "dumb"
        self._has_colour = self._is_terminal and not os.environ.get("NO_COLOR")

    def write(self, text: str, style: str = "") -> None:
        """style: one of bold, dim, error, summary, or nothing."""
        text = harmless(text)
        if self._is_terminal:
            text = self._lines.broken(text, shutil.get_terminal_size().columns)
        self._out.write(self._styled(text, style))
        self._out.flush()

    def _styled(self, text: str, style: str) -> str:
        if not (style and self._has_colour):
            return text
        on, off = _STYLES[style]
        return f"\x1b[{on}m{text}\x1b[{off}m"

    def line(self, text: str, style: str = "") -> None:
        self.write(f"{text}\n", style)

    def failure(self, text: str) -> None:
        """A line about what went wrong."""
        if self._errors is None:
            self.line(text, "error")
        else:
            print(harmless(text), file=self._errors, flush=True)

    def entry(self, name: str, text: str) -> None:
        """A name and what it means, which goes on below itself where the terminal ends."""
        text = " ".join(harmless(text).split())
        room = shutil.get_terminal_size().columns - 1 - len(name) if self._is_terminal else 0  # as _Lines has it
        self.line(name + f"\n{' ' * len(name)}".join(textwrap.wrap(text, room) if room >= _LEAST else [text]))

    def message(self, text: str) -> None:
        """A person's message, as if it were typed here."""
        self.line(PROMPT + text.replace("\n", f"\n{MORE}"), "bold")

    @contextlib.contextmanager
    def waiting(self, said: Callable[[], str]) -> Iterator[Callable[[], None]]:
        """In a terminal, a line that says what is under way once that takes long, cut where the terminal ends: what goes on below is not erased.

        Yields what ends it: nothing may be written before.
        """
        ended = threading.Event()

        def show() -> None:
            seconds, is_shown = _PATIENCE, False
            while not ended.wait(seconds):
                line = harmless(said())[: shutil.get_terminal_size().columns - 1]
                self._out.write(f"\r{_ERASE}" + self._styled(line, "dim"))
                self._out.flush()
                seconds, is_shown = _TICK, True
            if is_shown:
                self._out.write(f"\r{_ERASE}")
                self._out.flush()

        thread = threading.Thread(target=show, name="alora_gguf screen", daemon=True) if self._is_terminal else None
        if thread:
            thread.start()

        def end() -> None:
            ended.set()
            if thread:
                thread.join()

        try:
            yield end
        finally:
            end()

    @contextlib.contextmanager
    def table(self, *header: str) -> Iterator[Callable[[Sequence[Row]], None]]:
        """Yields what shows rows in place of those before; where there is no terminal, the last ones are written at the end."""
        rows: Sequence[Row] = []

        def show(now: Sequence[Row]) -> None:
            nonlocal rows
            rows = [[" ".join(harmless(cell).split()) for cell in row] for row in now]

        if self._is_terminal:
            with self._live(header, lambda: rows) as refresh:

                def show_now(now: Sequence[Row]) -> None:
                    show(now)
                    refresh()

                yield show_now
        else:
            yield show
            self._out.write(_columns([header, *rows]))
            self._out.flush()

    @contextlib.contextmanager
    def _live(self, header: Row, rows: Callable[[], Sequence[Row]]) -> Iterator[Callable[[], None]]:
        from rich.console import Console
        from rich.live import Live
        from rich.table import Column, Table
        from rich.text import Text

        def picture() -> Table:
            chosen = slice(None) if console.width >= _NARROW else slice(None, None, len(header) - 1)
            columns = [Column(Text(name), overflow="fold") for name in header]
            table = Table(*columns[chosen], box=None, pad_edge=False, header_style="dim" if self._has_colour else "")
            for row in rows():
                cells = [*map(Text, row[:-1]), Text(row[-1], "cyan" if self._has_colour else "")]
                table.add_row(*cells[chosen])
            return table

        shown = 0.0

        def refresh() -> None:
            nonlocal shown
            if time.monotonic() - shown > _SECONDS:
                live.update(picture(), refresh=True)
                shown = time.monotonic()

        console = Console(file=self._out, force_terminal=True, no_color=not self._has_colour, highlight=False)
        with Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False) as live:
            try:
                yield refresh
            finally:
                live.update(picture(), refresh=True)


class _Lines:
    """Breaks lines between words that come in pieces: what was written of one that does not fit is taken back, and begins the next line.

    The last column stays empty: where the cursor is behind it, terminals differ.
    """

    def __init__(self) -> None:
        self._column = 0
        self._word = ""  # what is written of the last one
        self._n_word = 0  # columns of it

    def broken(self, text: str, n_columns: int) -> str:
        from prompt_toolkit.utils import get_cwidth

        if n_columns < _LEAST:
            return text
        out: list[str] = []
        for c in text:
            n = 8 - self._column % 8 if c == "\t" else get_cwidth(c)
            if c == "\n":
                self._column = 0
            elif self._column + n >= n_columns:
                if c in " \t":
                    out.append("\n")
                    self._column = self._n_word = 0
                    self._word = ""
                    continue
                if 0 < self._n_word < self._column and n == 1:
                    out.append(f"\x1b[{self._n_word}D{_ERASE}\n{self._word}")
                    self._column = self._n_word
                else:
                    out.append("\n")
                    self._column, self._n_word, self._word = 0, 0, ""
            out.append(c)
            self._column += 0 if c == "\n" else n
            is_word = not c.isspace() and n < 2  # between characters of two columns a line may end
            self._word, self._n_word = (self._word + c, self._n_word + n) if is_word else ("", 0)
        return "".join(out)


def harmless(text: str) -> str:
    """The text without control characters, and without format characters other than the joiners, which scripts and emoji need."""
    return "".join(c for c in text if c in "\n\t\u200c\u200d" or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp"))


def _columns(rows: Sequence[Row]) -> str:
    from prompt_toolkit.utils import get_cwidth

    widths = [max(map(get_cwidth, column)) for column in zip(*rows)]
    lines = ("  ".join(cell + " " * (width - get_cwidth(cell)) for cell, width in zip(row, widths)).rstrip() for row in rows)
    return "".join(f"{line}\n" for line in lines)
