"""The measuring: every example asked in every way, one call at a time, its conversation in the cache."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import mean, median
from typing import Any

from .. import bundled
from ..errors import EvalError
from ..model import Model
from ..prompt.io_yaml import IntrinsicIO
from ..train.data import Line, read_lines
from . import baselines as ways
from . import decisions, metrics
from .baselines import Said, Way
from .plan import Plan
from .row import ALORA, PEFT, Row


def evaluate(plan: Plan, *, limit: int | None, threads: int | None, on_example: Callable[[str, int, int], None]) -> list[Row]:
    """The rows of every test; `on_example` gets the test's title, examples done and in all. Raises AloraError."""
    rows = []
    with Model(plan.base or bundled.default_model(), n_ctx=4096, n_threads=threads) as model:
        if plan.decisions:
            for path, name in ((plan.alora, plan.name), (plan.lora, f"{plan.name}-lora")):
                if path is not None:
                    model.load_adapter(path, name)
            return decisions.rows_of(plan, model, limit, on_example)
        assert plan.prompted is not None  # of outputs
        prompted = IntrinsicIO.open(plan.prompted)
        chosen: dict[str, Way] = {"base, prompted": ways.prompted(model, prompted)}
        io = prompted
        if plan.alora is not None:
            adapter = model.load_adapter(plan.alora, plan.name)
            io = adapter.io or prompted
            if plan.lora is not None:
                model.load_adapter(plan.lora, f"{plan.name}-lora")
                chosen["LoRA"] = ways.lora(model, f"{plan.name}-lora", plan.name)
            chosen[ALORA] = ways.alora(model, plan.name)
        for title, path in plan.tests.items():
            lines = read_lines(path)[:limit]
            said: dict[str, list[Said]] = {way: [] for way in chosen}
            for i, line in enumerate(lines):
                ways.say(model, line, io)
                for way, ask in chosen.items():
                    said[way].append(ask(line))
                on_example(title, i + 1, len(lines))
            probabilities = {way: [_probability(s, plan.probability) for s in of] for way, of in said.items()} if plan.probability else {}
            right = {way: _right(plan, lines, of, probabilities.get(way)) for way, of in said.items()}
            if plan.peft is not None and plan.alora is not None:
                right[PEFT] = _peft_right(plan, lines, io, adapter.invocation_tokens, threads)
            rows += [_row(plan, title, way, lines, hits, right.get(ALORA), said.get(way), probabilities.get(way)) for way, hits in right.items()]
    return rows


def as_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [{key: value for key, value in asdict(row).items() if value not in (None, {})} for row in rows]


def _right(plan: Plan, lines: Sequence[Line], said: Sequence[Said], probabilities: Sequence[float] | None) -> list[bool]:
    if probabilities is None:
        return [_is_right(s, line) for s, line in zip(said, lines, strict=True)]
    return [(p >= 0.5) == plan.is_positive(line.output) for p, line in zip(probabilities, lines, strict=True)]


def _row(
    plan: Plan,
    title: str,
    way: str,
    lines: Sequence[Line],
    right: Sequence[bool],
    by_alora: Sequence[bool] | None,
    said: Sequence[Said] | None,
    probabilities: Sequence[float] | None,
) -> Row:
    merits: dict[str, Any] = {}
    if probabilities is not None:
        labels = [plan.is_positive(line.output) for line in lines]
        merits = {
            "auroc": metrics.auroc(probabilities, labels),
            "auroc_interval": metrics.bootstrap(metrics.auroc, probabilities, labels),
            "ece": metrics.calibration_error(probabilities, labels),
            "ece_interval": metrics.bootstrap(metrics.calibration_error, probabilities, labels),
        }
    if said is not None:
        merits |= {"tokens": mean(s.n_computed for s in said), "ms": median(s.ms for s in said)}
    if by_alora is not None and way != ALORA:
        merits["lead"], merits["lead_interval"] = metrics.lead(by_alora, right)
    parts: dict[str, dict[str, list[int]]] = {}
    for name in plan.by:
        for line, hit in zip(lines, right, strict=True):
            count = parts.setdefault(name, {}).setdefault(str(line.fields.get(name)), [0, 0])
            count[0] += hit
            count[1] += 1
    return Row(title, way, len(lines), mean(right), metrics.wilson(sum(right), len(right)), **merits, parts=parts)


def _is_right(said: Said, line: Line) -> bool:
    """Whether the output is the one wanted: as JSON where it is JSON, else word for word but for space around it."""
    try:
        return json.loads(said.text) == line.output
    except ValueError:
        return said.text.strip() == line.output


def _probability(said: Said, name: str) -> float:
    """One half where nothing came of the call."""
    value = said.result.get(name) if isinstance(said.result, dict) else None
    return value if isinstance(value, float | int) else 0.5


def _peft_right(plan: Plan, lines: Sequence[Line], io: IntrinsicIO, invocation: Sequence[int], threads: int | None) -> list[bool]:
    """PEFT on the dequantised weights in float32: whether greedy decoding says the output."""
    try:
        from .peft_model import outputs_said
    except ModuleNotFoundError as e:
        raise EvalError(f"peft: expected the extra [train] to run PEFT, got no {e.name}; pip install 'alora_gguf[train]'") from e
    return outputs_said(plan, lines, io, invocation, threads)
