"""What an intrinsic found, for people."""

import json
from typing import Any

from .reply import Reply


def finding(reply: Reply) -> str:
    """`answerable, answerability likelihood 0.93`, a rewritten question, or the text as it is."""
    if reply.result is None:
        return reply.text
    name, value = _unwrapped(reply.result)
    if not isinstance(value, float):
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    said = _unwrapped(json.loads(reply.text))[1]
    return (f"{said}, " if isinstance(said, str) else "") + f"{name.replace('_', ' ')} {value:.2f}".strip()


def _unwrapped(value: Any) -> tuple[str, Any]:
    """The name and value of an object's only field; no name for anything else."""
    return next(iter(value.items())) if isinstance(value, dict) and len(value) == 1 else ("", value)
