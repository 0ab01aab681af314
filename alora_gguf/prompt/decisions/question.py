"""Typed questions: how each is written, the labels that answer it, and what their log probabilities mean. No model is needed."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import numpy as np

from ...errors import PromptError
from ...reply import Decision, Usage

MOST_OPTIONS = 255
MOST_ORDERS = 64
_ROLES = "system", "developer", "user", "assistant", "tool"
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

Text: TypeAlias = str | Mapping[str, Any] | Sequence[Any]  # or a value of JSON
Value: TypeAlias = str | bool | int
State: TypeAlias = Text  # or messages


@dataclass(frozen=True)
class Asked:
    """One way to ask a question.

    text     that stands in a user's turn
    labels   that may answer it, as text; values: what each means
    """

    text: str
    labels: list[str]
    values: list[Value]


@dataclass(frozen=True)
class Predicate:
    """Whether a statement is true: a Decision's `probability`.

    instructions   the statement, or a question that yes or no answers: text, or JSON
    true, false    what counts as that
    adapter        the name of an adapter that answers this question
    stop_above, stop_below   of a watcher: an answer ends of which it says a probability above or below
    """

    instructions: Text
    true: Text | None = None
    false: Text | None = None
    adapter: str | None = None
    stop_above: float | None = None
    stop_below: float | None = None

    def __post_init__(self) -> None:
        _check_instructions(self.instructions)
        _check_adapter(self.adapter)
        for name in ("stop_above", "stop_below"):
            value = getattr(self, name)
            if not (value is None or isinstance(value, int | float) and 0 <= value <= 1):
                raise PromptError(f"{name}: expected a probability from 0 to 1, or None, got {value!r:.80}")

    @property
    def n_options(self) -> int:
        return 2

    def asked(self, order: Sequence[int], is_label: Callable[[str], bool]) -> Asked:
        """The question with its two answers in this order; is_label(text): whether a label is one token."""
        sides = [("Yes", True, self.true), ("No", False, self.false)]
        listed = [sides[i] for i in order]
        described = [f"{label}: {_text(meaning)}" for label, _, meaning in listed if meaning is not None]
        first, second = (label for label, _, _ in listed)
        text = "\n".join([_text(self.instructions), *described, f"Is that so? Answer {first} or {second}."])
        return Asked(text, [label for label, _, _ in sides], [value for _, value, _ in sides])


@dataclass(frozen=True)
class Choice:
    """Which of several options it is: a Decision's `choice`, and the `probabilities` of all.

    options   values, with what they mean or None; or a list of values. Texts and booleans, 1 to 255
    labels    "letters" stand for options, and are tokens; "values": the option's own words; None: values for an adapter that was trained on
              decisions, else letters
    """

    instructions: Text
    options: Mapping[Any, Text | None] | Sequence[Any]
    adapter: str | None = None
    labels: str | None = None

    def __post_init__(self) -> None:
        _check_instructions(self.instructions)
        _check_adapter(self.adapter)
        given = self.options
        if isinstance(given, str) or not isinstance(given, Mapping | Sequence):
            raise PromptError(f"options: expected a list of values, or a mapping of values to what they mean, got {given!r:.80}")
        pairs = self.pairs
        for value, _ in pairs:
            if not (isinstance(value, bool) or isinstance(value, str) and value.strip()):
                raise PromptError(f"options: expected texts or booleans, got {value!r:.80}")
        if (twice := _twice([value for value, _ in pairs])) is not None:
            raise PromptError(f"options: expected each once, got {twice!r:.80} twice; leave it out")
        if not 1 <= len(pairs) <= MOST_OPTIONS:
            raise PromptError(f"options: expected 1 to {MOST_OPTIONS}, got {len(pairs)}")
        if self.labels not in (None, "letters", "values"):
            raise PromptError(f"labels: expected letters, values or None, got {self.labels!r:.80}")
        if self.labels == "values" and (twice := _twice([_text(value) for value, _ in pairs])) is not None:
            raise PromptError(f"labels: expected values that differ as texts, got {twice!r:.80} twice; name one otherwise, or use letters")

    @property
    def pairs(self) -> list[tuple[Any, Text | None]]:
        """Each value, with what it means."""
        return list(self.options.items()) if isinstance(self.options, Mapping) else [(value, None) for value in self.options]

    @property
    def n_options(self) -> int:
        return len(self.options)

    def asked(self, order: Sequence[int], is_label: Callable[[str], bool]) -> Asked:
        options = self.pairs
        if self.labels == "values":
            labels = [_text(value) for value, _ in options]
            listed = [_line(f"- {labels[i]}", options[i][1]) for i in order]
            return Asked("\n".join([_text(self.instructions), *listed, "Answer with one of them."]), labels, [value for value, _ in options])
        codes = letters(len(options), is_label)
        listed = [_line(f"{code}: {_text(options[i][0])}", options[i][1]) for code, i in zip(codes, order)]
        what = "the letter" if all(len(code) == 1 for code in codes) else "the code"
        text = "\n".join([_text(self.instructions), *listed, f"Answer with {what} of one."])
        return Asked(text, codes, [options[i][0] for i in order])


@dataclass(frozen=True)
class Score:
    """How much: a Decision's `score` is the expected level, counted from 0.

    levels   what each means, the lowest first, 1 to 255
    """

    instructions: Text | None
    levels: Sequence[Text]
    adapter: str | None = None

    def __post_init__(self) -> None:
        if self.instructions is not None:
            _check_instructions(self.instructions)
        _check_adapter(self.adapter)
        if isinstance(self.levels, str) or not isinstance(self.levels, Sequence) or not 1 <= len(self.levels) <= MOST_OPTIONS:
            raise PromptError(f"levels: expected a list of 1 to {MOST_OPTIONS} texts, got {self.levels!r:.80}")

    @property
    def n_options(self) -> int:
        return len(self.levels)

    def asked(self, order: Sequence[int], is_label: Callable[[str], bool]) -> Asked:
        n_digits = len(str(len(self.levels) - 1))
        codes = [f"{i:0{n_digits}}" for i in range(len(self.levels))]
        listed = [f"{codes[i]}: {_text(self.levels[i])}" for i in order]
        said = "How much is it?" if self.instructions is None else _text(self.instructions)
        return Asked("\n".join([said, *listed, "Answer with one of these numbers."]), codes, list(range(len(codes))))


Question: TypeAlias = Predicate | Choice | Score


def letters(n: int, is_label: Callable[[str], bool]) -> list[str]:
    """Labels for `n` options, none the beginning of another: letters, or pairs of them; where too few pairs are tokens, numbers."""
    if n <= len(_LETTERS):
        return list(_LETTERS[:n])
    pairs = [pair for first, second in product(_LETTERS, repeat=2) if is_label(pair := first + second)]
    return pairs[:n] if len(pairs) >= n else [f"{i:03}" for i in range(1, n + 1)]


def orders(question: Question, n: int, seed: int) -> list[list[int]]:
    """`n` orders of its options, the given one first, or all if they are fewer: turns of the given one, then turns of others that `seed` says.

    So each option stands at another place each time, until it has stood at all of them equally often. Levels have two: up and down.
    """
    m = question.n_options
    given = list(range(m))
    if not isinstance(question, Choice):
        return [given, given[::-1]][: min(n, m)]
    n = min(n, math.factorial(m))
    chance = random.Random(seed)
    rounds = [given]
    while len(rounds) * m < n:
        other = [0, *chance.sample(given[1:], m - 1)]  # of all turns of one another this one
        if other not in rounds:
            rounds.append(other)
    turns = [round(i * m / min(n, m)) % m for i in range(n)]
    return [[*rounds[i // m][turn:], *rounds[i // m][:turn]] for i, turn in enumerate(turns)]


def decision(
    question: Question, asked: Sequence[Asked], scores: Sequence[np.ndarray], usage: Usage, warnings: Sequence[str] = (), temperature: float = 1.0
) -> Decision:
    """What the labels' log probabilities mean: one of `scores` for each way that it was asked, whose probabilities are averaged.

    temperature   that they are divided by
    """
    if isinstance(question, Choice):
        kind, values = "choice", [value for value, _ in question.pairs]
    elif isinstance(question, Predicate):
        kind, values = "predicate", [True, False]
    else:
        kind, values = "score", list(range(len(question.levels)))
    mean: dict[Any, float] = dict.fromkeys(values, 0.0)
    for way, logprobs in zip(asked, scores):
        for value, share in zip(way.values, shares(logprobs / temperature)):
            mean[value] += share / len(asked)
    return Decision(kind, mean, usage, warnings=list(warnings))


def shares(logprobs: np.ndarray) -> list[float]:
    """The probabilities of labels among themselves."""
    p = np.exp(logprobs - logprobs.max())
    made: list[float] = (p / p.sum()).tolist()
    return made


def state_messages(state: State) -> list[dict[str, Any]]:
    """What questions are asked about, as messages: those that it is already, or one of a user. Raises PromptError."""
    if isinstance(state, Sequence) and state and all(isinstance(m, Mapping) and m.get("role") in _ROLES for m in state):
        return [dict(m) for m in state if isinstance(m, Mapping)]
    if not (isinstance(state, str | Mapping | list | tuple) and state and (not isinstance(state, str) or state.strip())):
        raise PromptError(f"state: expected text, JSON or messages, got {state!r:.80}")
    try:
        return [{"role": "user", "content": state if isinstance(state, str) else json.dumps(state, ensure_ascii=False)}]
    except (TypeError, ValueError, RecursionError) as e:
        raise PromptError(f"state: expected a value of JSON, got: {e}") from e


def question_of(given: Any, where: str) -> Question:
    """From JSON: System One's form, and this package's words for it. Raises PromptError."""
    if not isinstance(given, Mapping):
        raise PromptError(f"{where}: expected a question, which is an object with a type, got {given!r:.80}")
    given = _with_instructions(given)
    kind = "predicate" if given.get("type") == "noul" else given.get("type")
    forms: Mapping[Any, tuple[tuple[str, ...], Callable[..., Question]]] = {
        "predicate": (("criteria", "adapter"), _predicate),
        "choice": (("criteria", "adapter", "labels"), _from_criteria(Choice)),
        "score": (("criteria", "adapter"), _from_criteria(Score)),
    }
    if not isinstance(kind, str) or kind not in forms:
        raise PromptError(f"{where}.type: expected predicate (or noul), choice or score, got {given.get('type')!r:.80}")
    names, make = forms[kind]
    for name in given:
        if name not in ("type", "instructions", *names):
            raise PromptError(f"{where}: expected some of instructions, {', '.join(names)}, got {name!r:.80}")
    try:
        return make(given.get("instructions"), **{name: given[name] for name in names if name in given})
    except PromptError as e:
        said = str(e)
        own, _, rest = said.partition(":")
        raise PromptError(f"{where}.criteria:{rest}" if own in ("options", "levels") else f"{where}.{said}") from e


def _from_criteria(make: Callable[..., Question]) -> Callable[..., Question]:
    """`criteria` are the options or levels, which it checks."""
    return lambda instructions, *, criteria=None, **more: make(instructions, criteria, **more)


def _with_instructions(question: Mapping[str, Any]) -> dict[str, Any]:
    """A question's criteria may say all of it, where there are some."""
    given = {name: value for name, value in question.items() if value is not None}
    kind, criteria = given.get("type"), given.get("criteria")
    says = any(value is not None for value in criteria.values()) if isinstance(criteria, Mapping) else bool(criteria)
    if "instructions" in given or not (kind == "choice" or kind in ("noul", "predicate") and says):
        return given
    return {**given, "instructions": "Which is it?" if kind == "choice" else "Is it so?"}


def questions_of(given: Any, where: str) -> dict[str, Question | str]:
    """By their names, from JSON; a text is an intrinsic's name. Raises PromptError."""
    if not isinstance(given, Mapping) or not given:
        raise PromptError(f"{where}: expected an object with a question by each name, got {given!r:.80}")
    return {name: question if isinstance(question, str) else question_of(question, f"{where}: {name}") for name, question in given.items()}


def question_in(line: str) -> Question:
    """From a line that somebody types: a statement, or `Which? this | that`. Raises PromptError."""
    asked, mark, rest = line.partition("?") if "?" in line.rpartition("|")[0] else ("Which is it", "?", line)
    options = [option.strip() for option in rest.split("|")]
    if "|" in line and not all(options):
        raise PromptError(f"question: expected an option on each side of a |, got {line!r:.80}; write it as `Which? this | that`")
    return Choice(asked + mark, options) if "|" in line else Predicate(line)


def _predicate(instructions: Any, *, criteria: Any = None, adapter: str | None = None) -> Predicate:
    if not (criteria is None or isinstance(criteria, Mapping) and set(criteria) <= {"true", "false"}):
        raise PromptError(f"criteria: expected an object with true and false, got {criteria!r:.80}")
    return Predicate(instructions, (criteria or {}).get("true"), (criteria or {}).get("false"), adapter)


def _check_instructions(given: Any) -> None:
    if not (isinstance(given, str) and given.strip() or isinstance(given, Mapping | list | tuple) and given):
        raise PromptError(f"instructions: expected text or JSON, got {given!r:.80}")


def _check_adapter(given: Any) -> None:
    if not isinstance(given, str | None):
        raise PromptError(f"adapter: expected the name of one, or None, got {given!r:.80}")


def _text(given: Any) -> str:
    try:
        return given.strip() if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
    except (TypeError, ValueError, RecursionError) as e:
        raise PromptError(f"question: expected texts or values of JSON, got: {e}") from e


def _twice(values: Sequence[Any]) -> Any:
    """One that is there more than once; None if there is none."""
    return next((value for value, n in Counter(values).items() if n > 1), None)


def _line(said: str, meaning: Any) -> str:
    return said if meaning is None else f"{said}: {_text(meaning)}"
