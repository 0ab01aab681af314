"""Draws what `make demo </dev/null` prints, as docs/demo.svg: `make docs/demo.svg`."""

import re
import subprocess
import sys
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

WIDTH = 100
DIM = re.compile(r"\d+ tokens reused, \d+ decoded, .*")


def main() -> None:
    demo = subprocess.run(["make", "--no-print-directory", "demo"], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if demo.returncode:
        sys.exit(demo.stderr)
    lines = demo.stdout.splitlines()
    lines = lines[next(i for i, line in enumerate(lines) if line.startswith("> ")) :]  # without the set-up's
    console = Console(record=True, width=WIDTH, file=open("/dev/null", "w"))
    console.print(Text("$ make demo </dev/null", "bold green"))
    for line in lines:
        console.print(Text(line, "bold" if line.startswith("> ") else "dim" if DIM.fullmatch(line) else ""))
    template = re.sub(r"@font-face \{\{.*?\n    \}\}\n", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)  # no font from elsewhere
    svg = console.export_svg(title="alora chat", theme=MONOKAI, code_format=template, unique_id="demo")
    Path(__file__).with_name("demo.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
