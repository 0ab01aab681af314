"""Records a chat in a pseudo-terminal as a picture that plays it: `make docs/demo.svg docs/first_hour.svg`.

    python docs/demo.py PICTURE ADAPTER...

A shell, the program and the model are real, and so is the time that they take; only the typing is a script's.
"""

import os
import re
import sys
import tempfile
import time
from html import escape
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pexpect
import pyte
from pictures import record as note_made

COLUMNS = 100
SHELL, READY = r"\$ $", r"\x1b\[\?2004h"  # a prompt that waits: the shell's, the chat's
DOCUMENT = Path(__file__).resolve().parents[1] / "examples" / "documents" / "ferry.txt"


class Recording(NamedTuple):
    title: str
    n_rows: int
    frame: float  # least seconds of a picture
    script: list[tuple[str, str]]  # what is waited for, and then typed


RECORDINGS = {
    "demo.svg": Recording(
        "alora chat, recorded: a document, a question, an intrinsic that judges it, and what each step cost",
        22,
        0.05,
        [
            (SHELL, "alora chat --adapter *.gguf --temperature 0"),
            (READY, "/doc ferry.txt"),
            (READY, "What does a ticket cost?"),
            (READY, "/answ\t"),
            (READY, "What is the captain's name?"),
            (READY, "/all"),
        ],
    ),
    "first_hour.svg": Recording(
        "alora chat, recorded: the commands, a document, three intrinsics, a full context, a conversation that is saved and goes on",
        25,
        0.1,
        [
            (SHELL, "alora chat --adapter *.gguf --temperature 0 --ctx 256 --max-tokens 40"),
            (READY, "/help"),
            (READY, "/doc ferry.txt"),
            (READY, "What does a ticket cost?"),
            (READY, "/answ\t"),
            (READY, "And when does it arrive?"),
            (READY, "/query\t"),
            (READY, "What is the captain's name?"),
            (READY, "/answ\t"),
            (READY, "How much is a ticket?"),
            (READY, "Which platform does the ferry leave from?"),
            (READY, "/all"),
            (READY, "/save ferry.alora"),
            (READY, "/quit"),
            (SHELL, "alora chat --adapter *.gguf --temperature 0 --ctx 256 --max-tokens 40"),
            (READY, "/resume ferry.alora"),
            (READY, "When does it arrive?"),
            (READY, "/cert\t"),
        ],
    ),
}
LAST = 6.0  # seconds that the end is shown
READING = 0.15  # seconds for each line of what came, beyond the first few

WIDTH, HEIGHT, MARGIN, BAR = 8.4, 18, 16, 36  # of a cell; around the text; above it
GROUND, TEXT = "#1d2021", "#d5d0c4"
COLOURS = {"default": TEXT, "brightblack": "#8f887c", "cyan": "#7fc5b0", "red": "#f2786d", "green": "#b3bd4c"}

Run = tuple[int, str, str, bool]  # column, text, colour, bold
Row = tuple[Run, ...]


class Session:
    """A shell in a pseudo-terminal; `events` are what it wrote, and when."""

    def __init__(self, folder: Path, n_rows: int):
        env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PS1": "$ ",
            "TERM": "xterm-256color",
            "PROMPT_TOOLKIT_NO_CPR": "1",
            "XDG_STATE_HOME": str(folder / ".state"),
            "COLORTERM": "",
        }
        env.pop("NO_COLOR", None)
        self._process = pexpect.spawn("/bin/sh", env=env, cwd=str(folder), encoding="utf-8", dimensions=(n_rows, COLUMNS), timeout=120)
        self._began = time.monotonic()
        self.events: list[tuple[float, str]] = []

    def watch(self, seconds: float, until: str | None = None) -> str:
        """Takes what comes for so long, or until what came since the call matches; returns that."""
        end, seen = time.monotonic() + seconds, ""
        while (left := end - time.monotonic()) > 0:
            try:
                text = self._process.read_nonblocking(4096, timeout=left)
            except pexpect.TIMEOUT:
                break
            self.events.append((time.monotonic() - self._began, text))
            seen += text
            if until and re.search(until, seen, re.DOTALL):
                return seen
        if until:
            sys.exit(f"the chat: expected {until!r}, got {seen[-300:]!r}")
        return seen

    def type(self, text: str) -> None:
        for c in text:
            self._process.send(c)
            self.watch(0.025 if c != "\t" else 0.7)
        self.watch(0.5)
        self._process.send("\r")

    def close(self) -> None:
        self._process.close(force=True)


def record(recording: Recording, adapters: list[Path]) -> list[tuple[float, str]]:
    with tempfile.TemporaryDirectory() as folder:
        for path in adapters:
            (Path(folder) / path.name).symlink_to(path.resolve())
        (Path(folder) / DOCUMENT.name).symlink_to(DOCUMENT)
        session = Session(Path(folder), recording.n_rows)
        for prompt, text in recording.script:
            said = session.watch(120, prompt)
            session.watch(1.0 + READING * max(0, said.count("\n") - 4))
            session.type(text)
        session.watch(120, READY)
        session.close()
    return session.events


def pictures(events: list[tuple[float, str]], n_rows: int, frame: float) -> list[tuple[float, list[Row]]]:
    """What the terminal shows, and from which second on."""
    screen = pyte.Screen(COLUMNS, n_rows)
    stream = pyte.Stream(screen)
    shown: list[tuple[float, list[Row]]] = []
    for at, text in events:
        # pyte knows nothing of dim text
        stream.feed(text.replace("\x1b[2m", "\x1b[90m").replace("\x1b[22m", "\x1b[22;39m"))
        rows = [row_of(screen, y) for y in range(n_rows)]
        if shown and at - shown[-1][0] < frame:
            shown[-1] = (shown[-1][0], rows)
        elif not shown or rows != shown[-1][1]:
            shown.append((at, rows))
    first = shown[0][0]
    return [(at - first, rows) for at, rows in shown]


def row_of(screen: pyte.Screen, y: int) -> Row:
    line = screen.buffer[y]
    runs, x = [], 0
    for (colour, bold), cells in groupby((line[x] for x in range(COLUMNS)), lambda cell: (cell.fg, cell.bold)):
        text = "".join(cell.data for cell in cells)
        begin = len(text) - len(text.lstrip())
        if text.strip():
            runs.append((x + begin, text.strip(), COLOURS.get(colour, TEXT), bold))
        x += len(text)
    if screen.cursor.y == y and not screen.cursor.hidden:
        runs.append((screen.cursor.x, "\u2588", COLOURS["brightblack"], False))
    return tuple(runs)


def svg(shown: list[tuple[float, list[Row]]], title: str) -> str:
    """The pictures one below another, moved past a window; where nothing moves, the last one is seen."""
    n_rows = len(shown[0][1])
    width, height = COLUMNS * WIDTH + 2 * MARGIN, n_rows * HEIGHT + MARGIN + BAR
    pitch = (n_rows + 1) * HEIGHT  # a row between pictures: what hangs below the last one of a picture is not seen above the next
    seconds = shown[-1][0] + LAST
    names: dict[Row, str] = {}
    frames = []
    for i, (_, rows) in enumerate(shown):
        for y, row in enumerate(rows):
            if row:
                name = names.setdefault(row, f"r{len(names)}")
                frames.append(f'<use href="#{name}" y="{i * pitch + y * HEIGHT}"/>')
    keys = "".join(f"{100 * at / seconds:.3f}%{{transform:translateY({-i * pitch}px)}}" for i, (at, _) in enumerate(shown))
    last = f"transform:translateY({-(len(shown) - 1) * pitch}px)"
    defs = "".join(f'<g id="{name}">{"".join(map(text_of, row))}</g>' for row, name in names.items())
    dots = "".join(f'<circle cx="{20 + 18 * i}" cy="18" r="6" fill="{c}"/>' for i, c in enumerate(("#f2786d", "#e5b95c", "#8fbf7f")))
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img">
<title>{title}</title>
<style>
text{{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;white-space:pre}}
.strip{{{last};animation:play {seconds:.2f}s step-end infinite}}
@keyframes play{{{keys}100%{{{last}}}}}
@media (prefers-reduced-motion:reduce){{.strip{{animation:none}}}}
</style>
<defs>{defs}</defs>
<rect width="{width:.0f}" height="{height}" rx="10" fill="{GROUND}"/>{dots}
<svg x="{MARGIN}" y="{BAR}" width="{COLUMNS * WIDTH:.0f}" height="{n_rows * HEIGHT}"><g class="strip">
{chr(10).join(frames)}
</g></svg>
</svg>
"""


def text_of(run: Run) -> str:
    x, text, colour, bold = run
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x * WIDTH:.1f}" y="14" fill="{colour}"{weight} textLength="{len(text) * WIDTH:.1f}" '
        f'lengthAdjust="spacingAndGlyphs">{escape(text)}</text>'
    )


def main() -> None:
    name, *adapters = sys.argv[1:]
    recording = RECORDINGS[name]
    shown = pictures(record(recording, [Path(path) for path in adapters]), recording.n_rows, recording.frame)
    path = Path(__file__).with_name(name)
    path.write_text(svg(shown, recording.title), encoding="utf-8")
    note_made(name)
    print(f"{path}: {len(shown)} pictures, {shown[-1][0]:.0f} s, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
