"""Which pages of a document, as people write it: 3, 3-7, 12-, or several of them with commas."""

import re

from ..errors import DocumentError

PAGES = re.compile(r"(?:\d{1,9}(?:-(?:\d{1,9})?)?)(?:,\d{1,9}(?:-(?:\d{1,9})?)?)*")


def chosen(pages: str | None, n: int) -> list[int]:
    """Indices from 0 on, of `n` pages, each once and in their order; None: all. Raises DocumentError."""
    if pages is None:
        return list(range(n))
    if not PAGES.fullmatch(pages):
        raise DocumentError(f"pages: expected numbers as 3-7 or 1,4-6, got {pages!r:.40}; correct it")
    found: set[int] = set()
    for part in pages.split(","):
        first, dash, last = part.partition("-")
        begin, end = int(first), int(last) if last else n if dash else int(first)
        if not 1 <= begin <= end or begin > n or (last and end > n):
            raise DocumentError(f"pages: expected some of 1-{n}, got {part}; give others")
        found.update(range(begin - 1, end))
    return sorted(found)
