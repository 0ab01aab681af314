"""The steps of a run, and the evaluations on the way."""

import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import torch

from . import passes
from .checkpoint import Checkpoint
from .packing import Row
from .prefixes import Prefixes
from .settings import Settings

CHECKPOINT_SECONDS = 60
BUCKET = 256  # rows that are sorted by length, so that those of a step are of about one


@dataclass(frozen=True)
class Rows:
    """Rows, and the keys and values before the activations of each, from number `first` on; None for a LoRA.

    drawn   makes a row anew, where what stands behind its prefix differs from time to time
    """

    rows: Sequence[Row]
    prefixes: Prefixes | None
    first: int = 0
    drawn: Callable[[int, random.Random], Row] | None = None

    def logits(self, model, chosen: Sequence[int], rng: random.Random | None = None) -> list[tuple[Row, torch.Tensor]]:
        """Some of the rows, with their logits; with `rng` they are drawn anew."""
        rows = [self.drawn(i, rng) if self.drawn is not None and rng is not None else self.rows[i] for i in chosen]
        before = None if self.prefixes is None else self.prefixes.of([self.first + i for i in chosen])
        return list(zip(rows, passes.logits(model, rows, before), strict=True))


@torch.no_grad()
def evaluate(model, held: Rows, batch_size: int) -> dict[str, float]:
    """`loss`, nats an example's token, and `accuracy`, the share of outputs that greedy decoding would say exactly."""
    loss, said = 0.0, []
    for chosen in batches(held.rows, batch_size):
        for row, logits in held.logits(model, chosen):
            loss += passes.loss(logits, row).item()
            said += passes.said(logits, row)
    return {"loss": loss / len(said), "accuracy": sum(said) / len(said)}


@dataclass(frozen=True)
class Objective:
    """What a run makes less, and how it is judged.

    loss       of the logits of a row, summed over its examples
    evaluate   the `loss` and `accuracy` of a model on rows that are held out, so many at once
    """

    loss: Callable[[torch.Tensor, Any], torch.Tensor] = passes.loss
    evaluate: Callable[[Any, Rows, int], dict[str, float]] = evaluate


def is_better(new: dict[str, float], best: dict[str, float] | None, select: str) -> bool:
    if best is None:
        return True
    key = (lambda m: (m["accuracy"], -m["loss"])) if select == "accuracy" else (lambda m: (-m["loss"], m["accuracy"]))
    return key(new) > key(best)


class Trainer:
    """Goes on from `done`, a checkpoint, or begins."""

    def __init__(
        self,
        model,
        train: Rows,
        held: Rows,
        settings: Settings,
        folder: Path,
        identity: str,
        done: Checkpoint | None,
        objective: Objective = Objective(),
    ):
        self.model, self.train, self.held, self.settings, self.folder, self.identity = model, train, held, settings, folder, identity
        self.objective = objective
        self.parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(self.parameters.values(), lr=settings.learning_rate, weight_decay=0.0)
        self.steps = _steps(train.rows, settings)
        self.step = 0
        self.best: dict[str, float] | None = None
        if done is not None:
            with torch.no_grad():
                for name, weight in done.weights.items():
                    self.parameters[name].copy_(weight)
            self.optimizer.load_state_dict(done.optimizer)
            self.step, self.best = done.step, done.best

    def run(
        self,
        save_best: Callable[[], None],
        on_step: Callable[[float], None],
        on_eval: Callable[[dict[str, float]], None],
        stopped: Callable[[], bool],
    ) -> None:
        """Calls `save_best` after every evaluation that is the best, and when it ends without one.

        `on_step` gets the step's loss, `on_eval` the evaluation. Ends early, with a checkpoint, when `stopped` says so.
        """
        evals = {round(len(self.steps) * (i + 1) / self.settings.n_evals) for i in range(self.settings.n_evals)}
        saved = time.monotonic()
        while self.step < len(self.steps) and not stopped():
            on_step(self._step(self.steps[self.step]))
            self.step += 1
            if self.step in evals:
                reached = {"step": self.step, **self.objective.evaluate(self.model, self.held, self.settings.batch_size)}
                if is_better(reached, self.best, self.settings.select):
                    self.best = reached
                    save_best()
                on_eval(reached)
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                self._checkpoint()
                saved = time.monotonic()
        if self.step < len(self.steps):
            self._checkpoint()
            if self.best is None:
                save_best()

    def _step(self, rows: Sequence[int]) -> float:
        """AdamW on the mean loss of the rows' examples, the gradient's norm at most 1; the loss."""
        rate = self.settings.learning_rate * _schedule(self.step, len(self.steps), self.settings.warm_up)
        n_examples = sum(len(self.train.rows[i].examples) for i in rows)
        rng = random.Random(f"{self.settings.seed} {self.step}")  # of the step, so that a run that goes on draws the same
        loss = reduce(torch.add, (self.objective.loss(logits, row) for row, logits in self.train.logits(self.model, rows, rng))) / n_examples
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def _checkpoint(self) -> None:
        weights = {name: p.detach().cpu() for name, p in self.parameters.items()}
        Checkpoint(self.identity, self.step, weights, self.optimizer.state_dict(), self.best).write(self.folder)


def _schedule(step: int, n_steps: int, warm_up: float) -> float:
    """A rise and then half a cosine, 0 to 1."""
    rising = max(1, round(warm_up * n_steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, n_steps - rising)))


def _steps(rows: Sequence[Row], settings: Settings) -> list[list[int]]:
    """The rows of every step of the run: of about one length, another order every epoch."""
    n_examples = sum(len(row.examples) for row in rows)
    n_steps = max(1, round(settings.epochs * n_examples / settings.batch_size))
    rng = random.Random(settings.seed)
    steps: list[list[int]] = []
    while len(steps) < n_steps:
        order = list(range(len(rows)))
        rng.shuffle(order)
        for start in range(0, len(order), BUCKET):
            some = sorted(order[start : start + BUCKET], key=lambda i: len(rows[i].tokens))
            batches = list(_batches(rows, some, settings.batch_size))
            rng.shuffle(batches)
            steps += batches
    return steps[:n_steps]


def batches(rows: Sequence[Row], batch_size: int) -> Iterator[list[int]]:
    """All of them, those of about a length together."""
    return _batches(rows, sorted(range(len(rows)), key=lambda i: len(rows[i].tokens)), batch_size)


def _batches(rows: Sequence[Row], order: Sequence[int], batch_size: int) -> Iterator[list[int]]:
    """The rows in order, `batch_size` examples together or a few more."""
    chosen: list[int] = []
    for i in order:
        chosen.append(i)
        if sum(len(rows[j].examples) for j in chosen) >= batch_size:
            yield chosen
            chosen = []
    if chosen:
        yield chosen
