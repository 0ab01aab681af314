"""What the makers of rows share: a question's JSON, and a row of `alora train --decisions`."""

from collections.abc import Mapping, Sequence
from typing import Any

Question = dict[str, Any]
Asked = tuple[Question, Any]  # a question, and what is right


def predicate(statement: str, right: bool) -> Asked:
    return {"type": "predicate", "instructions": statement}, right


def choice(question: str, options: Sequence[Any] | Mapping[Any, str | None], right: Any) -> Asked:
    """Options are names, or names with descriptions."""
    return {"type": "choice", "instructions": question, "criteria": dict(options) if isinstance(options, Mapping) else list(options)}, right


def score(question: str, levels: Sequence[str], right: int) -> Asked:
    return {"type": "score", "instructions": question, "criteria": list(levels)}, right


def row(state: Any, asked: Sequence[Asked], **fields: Any) -> dict[str, Any]:
    """Of a text or JSON, or of messages; the questions are numbered."""
    is_chat = isinstance(state, list) and bool(state) and all(isinstance(m, dict) and {"role", "content"} <= m.keys() for m in state)
    questions = {f"q{i + 1}": question for i, (question, _) in enumerate(asked)}
    return {"messages" if is_chat else "state": state, "questions": questions, "right": {f"q{i + 1}": r for i, (_, r) in enumerate(asked)}, **fields}
