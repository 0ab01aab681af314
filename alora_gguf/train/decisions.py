"""Rows of decisions: a state or a conversation, questions about it, and what is right of each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import PromptError, TrainError
from ..prompt.decisions.question import Choice, Predicate, Question, question_of, state_messages
from .jsonl import read_rows, refuse

TYPES = ("predicate", "choice", "score")


def type_of(question: Question) -> str:
    return "predicate" if isinstance(question, Predicate) else "choice" if isinstance(question, Choice) else "score"


@dataclass(frozen=True)
class RightOf:
    """One question of a row. `where` is its file, line and name, for errors.

    right   how likely each option is, in the order of the options: 1 for the right one, or as the row says
    """

    where: str
    question: Question
    right: tuple[float, ...]

    @property
    def type(self) -> str:
        return type_of(self.question)


@dataclass(frozen=True)
class DecisionLine:
    """One row. `where` is its file and line.

    messages   the conversation, or the state as messages
    fields     all that is in the line
    """

    where: str
    messages: list[dict[str, Any]]
    questions: list[RightOf]
    documents: list[dict[str, str]] = field(default_factory=list)
    fields: dict[str, Any] = field(default_factory=dict, repr=False)


def read_decisions(path: Path) -> list[DecisionLine]:
    """The rows of a JSONL file; fields that are not known are left alone. Raises TrainError naming the line."""
    return [_line(where, fields) for where, fields in read_rows(path, "row")]


def _line(where: str, fields: dict[str, Any]) -> DecisionLine:
    if ("state" in fields) == ("messages" in fields):
        refuse(where, "line", "state or messages", "both" if "state" in fields else None)
    try:
        messages = fields["messages"] if "messages" in fields else state_messages(fields["state"])
    except PromptError as e:
        raise TrainError(f"{where}: {e}") from e
    if not isinstance(messages, list) or not messages or not all(isinstance(m, dict) and isinstance(m.get("role"), str) for m in messages):
        refuse(where, "messages", "a list of one or more messages", messages)
    asked, right = fields.get("questions"), fields.get("right")
    if not isinstance(asked, dict) or not asked:
        refuse(where, "questions", "one or more by name", asked)
    if not isinstance(right, dict):
        refuse(where, "right", "what is right of each question, by its name", right)
    for name in [*asked, *right]:
        if name not in asked or name not in right:
            refuse(where, f"{'right' if name in asked else 'questions'}: {name}", "the same names in questions and right", None)
    return DecisionLine(where, messages, [_right(f"{where}: {name}", asked[name], right[name]) for name in asked], fields=fields)


def _right(where: str, asked: Any, right: Any) -> RightOf:
    try:
        question = question_of(asked, where)
    except PromptError as e:
        raise TrainError(str(e)) from e
    values: list[Any] = (
        [True, False]
        if isinstance(question, Predicate)
        else ([value for value, _ in question.pairs] if isinstance(question, Choice) else list(range(question.n_options)))
    )
    if isinstance(right, dict):
        return RightOf(where, question, _shares(where, values, right))
    if isinstance(question, Predicate) and isinstance(right, int | float) and 0 <= right <= 1:
        return RightOf(where, question, (float(right), 1 - float(right)))
    found = [i for i, value in enumerate(values) if value == right and isinstance(value, bool) == isinstance(right, bool)]
    if not found and not isinstance(question, Choice | Predicate):
        found = [i for i, level in enumerate(question.levels) if level == right]
    if not found:
        expected = "true, false or a probability" if isinstance(question, Predicate) else f"one of {', '.join(map(str, values))}"
        refuse(where, "right", expected, right)
    return RightOf(where, question, tuple(float(i == found[0]) for i in range(len(values))))


def _shares(where: str, values: Sequence[Any], right: Mapping[str, Any]) -> tuple[float, ...]:
    """Of each value, by what JSON calls it."""
    names = [str(value).lower() if isinstance(value, bool) else str(value) for value in values]
    given = [right.get(name, 0) for name in names]
    if set(right) - set(names) or not all(isinstance(share, int | float) and share >= 0 for share in given) or not 0 < sum(given) < math.inf:
        refuse(where, "right", f"shares of {', '.join(names)}", right)
    return tuple(share / sum(given) for share in given)
