"""Lines of a page, with their places, to paragraphs."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

_SPLIT_WORD = re.compile(r"(\w*[^\W\d_])[-\u00ad\u2010]\n([^\W\d_]\w*)(\S*)")
_WORD = re.compile(r"\w+(?:-\w+)*")
_LIGATURES = {
    ord(c): t for c, t in {"\ufb00": "ff", "\ufb01": "fi", "\ufb02": "fl", "\ufb03": "ffi", "\ufb04": "ffl", "\ufb05": "st", "\ufb06": "st"}.items()
}
_PARAGRAPH = 1.2  # of the distance of lines, and of a letter's size: a larger step begins another paragraph


@dataclass
class Line:
    """text; y: its height on the page, upwards; size: of its letters. Both in any unit."""

    text: str
    y: float
    size: float


def paragraphs(lines: Iterable[Line]) -> str:
    """Their text, with an empty line where the page has more room than between other lines, and where the size of letters changes."""
    given = [line for line in lines if line.text.strip()]
    steps = [a.y - b.y for a, b in pairwise(given) if abs(a.size - b.size) < 0.1 * a.size and 0 < a.y - b.y < 4 * max(a.size, 1)]
    usual = median(sorted(steps)[: len(steps) // 2 + 1]) if steps else 0.0  # most lines are inside of paragraphs, or all are as far apart
    text: list[str] = []
    for i, line in enumerate(given):
        if i:
            before = given[i - 1]
            step = before.y - line.y
            resized = max(before.size, line.size) > _PARAGRAPH * min(before.size, line.size) and step > 0.5 * min(before.size, line.size)
            text.append("\n\n" if resized or (usual and step > _PARAGRAPH * usual) else "\n")
        text.append(" ".join(line.text.split()))
    return "".join(text)


def joined(text: str) -> str:
    """Words that were split at the end of a line in one piece; where the text has the word with its hyphen elsewhere, it stays."""
    text = text.translate(_LIGATURES)
    words = set(map(str.lower, _WORD.findall(text)))

    def join(found: re.Match[str]) -> str:
        first, rest, more = found.groups()
        if not rest[0].islower():
            return found[0]
        has_hyphen = f"{first}-{rest}".lower() in words and f"{first}{rest}".lower() not in words
        return f"{first}{'-' * has_hyphen}{rest}{more}\n"

    text = _SPLIT_WORD.sub(join, text)
    return re.sub(r"\n[^\S\n]+", "\n", text).replace("\u00ad", "")
