"""Words for people: one-line complaints, and text from files made safe for a terminal."""

import json
from typing import Any


def printable(text: str, limit: int = 200) -> str:
    """`text` on one line, without anything a terminal would obey, cut at `limit` characters.

    Control, format and bidirectional characters become their escapes, so a file's own strings
    can neither move the cursor nor forge a second line.
    """
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def printable_json(value: Any) -> str:
    """JSON in lines; text of any script as it is, and whatever a terminal would obey as JSON's own escapes."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def complaint(file: object, what: str, expected: str, got: object, action: str) -> str:
    """`<file>: <what>: expected X, got Y; <action>`: one line, whatever the strings hold."""
    file, what, expected, got, action = (printable(str(part), limit=400) for part in (file, what, expected, got, action))
    return f"{file}: {what}: expected {expected}, got {got}; {action}"


def human_bytes(n: int) -> str:
    """1536 -> '1.5 KB'; powers of 1000, as file managers count."""
    if n < 1000:
        return f"{n} B"
    size = float(n)
    for unit in ("KB", "MB", "GB"):
        size /= 1000
        if size < 1000 or unit == "GB":
            break
    return f"{size:.1f} {unit}"
