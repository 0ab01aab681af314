"""Lines of training data: chat messages, and the output wanted of the intrinsic that is invoked on them."""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ..errors import TrainError
from .jsonl import read_rows, refuse

Message = dict[str, str]


@dataclass(frozen=True)
class Line:
    """One example. `where` is its file and line, for errors.

    messages   [{"role", "content"}, ...]
    output     text; any JSON value where the intrinsic's io.yaml has a response_format
    documents  [{"text", and maybe "doc_id"}, ...], as granite-common has them
    arguments  of the instruction in io.yaml
    fields     all that is in the line
    """

    where: str
    messages: list[Message]
    output: Any
    documents: list[dict[str, str]] = field(default_factory=list)
    arguments: dict[str, str] = field(default_factory=dict)
    fields: dict[str, Any] = field(default_factory=dict, repr=False)


class Said(Protocol):
    """What has a conversation."""

    @property
    def messages(self) -> list[dict[str, Any]]: ...

    @property
    def documents(self) -> list[dict[str, str]]: ...


L = TypeVar("L", bound=Said)


def read_lines(path: Path) -> list[Line]:
    """The examples of a JSONL file; fields that are not known are left alone. Raises TrainError naming the line."""
    return [_line(where, fields) for where, fields in read_rows(path, "example")]


def split(lines: Sequence[L], share: float, seed: int) -> tuple[list[L], list[L]]:
    """Two parts of the lines, the second a random share of them; lines with the same messages stay together.

    Raises TrainError if one of the two would be empty.
    """
    keys = sorted({_key(line) for line in lines})
    random.Random(seed).shuffle(keys)
    held = set(keys[: max(1, round(share * len(keys)))])
    parts = [line for line in lines if _key(line) not in held], [line for line in lines if _key(line) in held]
    if not all(parts):
        raise TrainError(f"data: expected at least two different conversations, to hold one out, got {len(keys)}; give more, or --eval")
    return parts


def _key(line: Said) -> str:
    return json.dumps([line.messages, line.documents], sort_keys=True)


def _line(where: str, fields: dict[str, Any]) -> Line:
    messages = fields.get("messages")
    if not isinstance(messages, list) or not messages:
        refuse(where, "messages", "a list of one or more messages", messages)
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            refuse(where, f"messages[{i}]", "role and content as text", message)
    if fields.get("output") is None:
        refuse(where, "output", "the text wanted", None)
    documents = fields.get("documents") or []
    if not isinstance(documents, list) or not all(isinstance(d, dict) and isinstance(d.get("text"), str) for d in documents):
        refuse(where, "documents", 'a list of {"text": ...}', documents)
    arguments = fields.get("arguments") or {}
    if not isinstance(arguments, dict) or not all(isinstance(value, str) for value in arguments.values()):
        refuse(where, "arguments", "text by name", arguments)
    messages = [{"role": m["role"], "content": m["content"]} for m in messages]
    return Line(where, messages, fields["output"], documents, arguments, fields)
