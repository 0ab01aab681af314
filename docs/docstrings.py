"""Docstrings as Markdown, for mkdocstrings: what they align in columns becomes a list.

`n_ctx      cells of the KV cache` becomes "- `n_ctx`: cells of the KV cache".
"""

import re
from collections.abc import Iterator
from typing import Any

import griffe

FIELD = re.compile(r"(\S(?:.*?\S)?) {2,}(?=\S)")  # a name, and blanks up to what it is


class Columns(griffe.Extension):
    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(docstring: str) -> str:
    return "\n\n".join("\n".join(_listed(part.splitlines())) for part in re.split(r"\n\s*\n", docstring))


def _listed(lines: list[str]) -> Iterator[str]:
    """Of one paragraph. A field begins with a name, or goes on with blanks; the first one says where descriptions begin."""
    first = FIELD.match(lines[0])
    if not first:
        yield from lines
        return
    column = first.end()
    for line in lines:
        if line.startswith(" "):
            yield f"  {line.strip()}"
        elif field := FIELD.match(line):
            yield f"- `{field[1]}`: {line[field.end() :]}"
        elif line[column - 1 : column] == " ":  # a name as wide as its column
            yield f"- `{line[:column].strip()}`: {line[column:].strip()}"
        else:
            yield f"\n{line}"
