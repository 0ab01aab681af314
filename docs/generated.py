"""Pages that are made from the code: written, or with --check compared with what is there."""

import argparse
import sys
from pathlib import Path


def write_or_check(page: Path, made: str, what: str, description: str) -> int:
    """The exit code: 1 if the page is old, which is a line on standard error. what: is on the page."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the page is old")
    if not parser.parse_args().check:
        page.write_text(made, encoding="utf-8")
    elif not page.is_file() or page.read_text(encoding="utf-8") != made:
        print(f"docs/{page.name}: expected {what}, got an older page; python docs/{Path(sys.argv[0]).name} writes it", file=sys.stderr)
        return 1
    return 0
