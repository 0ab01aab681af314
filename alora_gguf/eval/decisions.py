"""Rows of decisions, asked of the base and of adapters: how often right, how sure, and how much the order of options matters."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from ..model import Model
from ..reply import Decision
from ..train.decisions import DecisionLine, RightOf, read_decisions
from . import metrics
from .plan import Plan
from .row import ALORA, Row

BASE, LORA = "base, prompted", "LoRA"
N_ORDERS = 2  # in which each question is asked, to see what that changes


@dataclass(frozen=True)
class Answered:
    """A question's answer.

    shares, right   of each option in its own order: how likely it is, as was said and as the row has it
    moved           the mean change of an option's probability when the options stand in another order
    """

    line: DecisionLine
    one: RightOf
    shares: np.ndarray
    right: np.ndarray
    moved: float
    n_computed: float
    ms: float

    @property
    def is_right(self) -> bool:
        return bool(self.right[int(self.shares.argmax())] == self.right.max())

    @property
    def chance(self) -> float:
        """Of being right by guessing."""
        return float((self.right == self.right.max()).mean())


def rows_of(plan: Plan, model: Model, limit: int | None, on_example: Callable[[str, int, int], None]) -> list[Row]:
    """The rows of every test; `model` has the plan's adapters, by its name. Raises AloraError."""
    ways: dict[str, str | None] = {BASE: None}
    if plan.lora is not None:
        ways[LORA] = f"{plan.name}-lora"
    if plan.alora is not None:
        ways[ALORA] = plan.name
    rows = []
    for title, path in plan.tests.items():
        answered = _answers(model, path, ways, limit, partial(on_example, title))
        by_alora = answered.get(ALORA)
        rows += [_row(plan, title, way, of, None if way == ALORA else by_alora) for way, of in answered.items()]
    return rows


def _answers(
    model: Model, path: Path, ways: dict[str, str | None], limit: int | None, on_example: Callable[[int, int], None]
) -> dict[str, list[Answered]]:
    lines = read_decisions(path)[:limit]
    answered: dict[str, list[Answered]] = {way: [] for way in ways}
    for i, line in enumerate(lines):
        for way, adapter in ways.items():
            answered[way] += answers(model, line, adapter)
        on_example(i + 1, len(lines))
    return answered


def answers(model: Model, line: DecisionLine, adapter: str | None) -> list[Answered]:
    """Those to a row's questions, all at once on a conversation that is in the cache."""
    questions = {str(i): one.question for i, one in enumerate(line.questions)}
    chat = model.conversation(messages=line.messages)
    model.generate(model.engine.prompts.chat(line.messages, add_generation_prompt=False).tokens, max_tokens=1, temperature=0)
    begun = time.perf_counter()
    once = chat.decide(questions, adapter=adapter)
    ms = (time.perf_counter() - begun) * 1e3
    twice = chat.decide(questions, adapter=adapter, n_orders=N_ORDERS)
    n_computed = once.usage.prompt_tokens - once.usage.cached_tokens
    return [
        _answered(line, one, once[name], twice[name], n_computed / len(questions), ms / len(questions))
        for name, one in zip(questions, line.questions)
    ]


def _answered(line: DecisionLine, one: RightOf, once: Decision, twice: Decision, n_computed: float, ms: float) -> Answered:
    """The probabilities of two orders are averaged: how far one is from the mean is how far it is from the other, by half."""
    shares, both = (np.array(list(d.probabilities.values())) if d.error is None else _unsure(one) for d in (once, twice))
    return Answered(line, one, shares, np.array(one.right), float(2 * abs(both - shares).mean()), n_computed, ms)


def _unsure(one: RightOf) -> np.ndarray:
    """Of an answer that failed."""
    return np.full(len(one.right), 1 / len(one.right))


def _row(plan: Plan, title: str, way: str, of: Sequence[Answered], by_alora: Sequence[Answered] | None) -> Row:
    right, chance = [a.is_right for a in of], [a.chance for a in of]
    sure, brier = [float(a.shares.max()) for a in of], [float(((a.shares - a.right) ** 2).sum()) for a in of]
    predicates = [a for a in of if a.one.type == "predicate"]
    said, is_so = [float(a.shares[0]) for a in predicates], [bool(a.right[0] > 0.5) for a in predicates]
    merits: dict[str, Any] = {
        "corrected": metrics.chance_corrected(right, chance),
        "corrected_interval": metrics.bootstrap(metrics.chance_corrected, right, chance),
        "brier": mean(brier),
        "ece": metrics.calibration_error(sure, right),
        "ece_interval": metrics.bootstrap(metrics.calibration_error, sure, right),
        "moved": mean(a.moved for a in of),
        "tokens": mean(a.n_computed for a in of),
        "ms": median(a.ms for a in of),
    }
    if len(set(is_so)) > 1:
        merits |= {"auroc": metrics.auroc(said, is_so), "auroc_interval": metrics.bootstrap(metrics.auroc, said, is_so)}
    if by_alora is not None:
        merits["lead"], merits["lead_interval"] = metrics.lead([a.is_right for a in by_alora], right)
    parts: dict[str, dict[str, list[int]]] = {}
    for name in plan.by:
        for a in of:
            value = a.one.type if name == "type" else a.line.fields.get(name)
            if value is None:  # of another test's rows
                continue
            count = parts.setdefault(name, {}).setdefault(str(value), [0, 0])
            count[0] += a.is_right
            count[1] += 1
    return Row(title, way, len(of), mean(right), metrics.wilson(sum(right), len(right)), **merits, parts=parts)
