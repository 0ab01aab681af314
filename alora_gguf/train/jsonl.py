"""Rows of training data: a JSON object a line."""

import json
from pathlib import Path
from typing import Any, NoReturn

from ..errors import TrainError


def read_rows(path: Path, kind: str) -> list[tuple[str, dict[str, Any]]]:
    """(file and line, object) of each line that is not blank; `kind` says what a line has. Raises TrainError naming the line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise TrainError(f"{path}: expected a JSONL file in UTF-8, got: {getattr(e, 'strerror', None) or e}; check the path") from e
    rows = [_row(f"{path}: line {number}", raw) for number, raw in enumerate(text.split("\n"), start=1) if raw.strip()]
    if not rows:
        raise TrainError(f"{path}: expected one {kind} a line, got an empty file; give some")
    return rows


def refuse(where: str, what: str, expected: str, got: object) -> NoReturn:
    raise TrainError(f"{where}: {what}: expected {expected}, got {f'{got!r:.80}' if got is not None else 'nothing'}; correct the line")


def _row(where: str, raw: str) -> tuple[str, dict[str, Any]]:
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError) as e:
        raise TrainError(f"{where}: expected a JSON object, got: {e}; correct the line") from e
    if not isinstance(fields, dict):
        refuse(where, "line", "a JSON object", fields)
    return where, fields
