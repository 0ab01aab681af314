"""A temperature for each type of question: what the scores of its options are divided by so that its probabilities are right as often as they say."""

from collections.abc import Sequence

import torch

from .decision_passes import rights, said, scores
from .decision_prompts import Questions
from .decision_rows import DecisionRow
from .trainer import Rows, batches

LEAST, MOST = 0.05, 20.0
STEPS = 60  # of the search; each keeps 0.618 of the interval
FEWEST = 20  # questions of a type; with fewer, all types' together are taken


def fitted(scores: Sequence[torch.Tensor], right: Sequence[torch.Tensor]) -> float:
    """The temperature at which the mean cross entropy of some questions is least (Guo et al., 2017), by golden-section search of its logarithm.

    scores   F32 [n_options] each, nats; right F32 [n_options] each, sums to 1
    """
    n = max(len(s) for s in scores)
    padded = torch.stack([torch.nn.functional.pad(s.double(), (0, n - len(s)), value=float("-inf")) for s in scores])
    wanted = torch.stack([torch.nn.functional.pad(r.double(), (0, n - len(r))) for r in right])

    def loss(log_t: float) -> float:
        log_p = (padded / torch.tensor(log_t, dtype=torch.float64).exp()).log_softmax(-1)
        return -(wanted * log_p.masked_fill(wanted == 0, 0.0)).sum().item()

    low, high = (torch.tensor(t, dtype=torch.float64).log().item() for t in (LEAST, MOST))
    golden = (5**0.5 - 1) / 2
    a, b = high - golden * (high - low), low + golden * (high - low)
    at_a, at_b = loss(a), loss(b)
    for _ in range(STEPS):
        if at_a < at_b:
            high, b, at_b = b, a, at_a
            a = high - golden * (high - low)
            at_a = loss(a)
        else:
            low, a, at_a = a, b, at_b
            b = low + golden * (high - low)
            at_b = loss(b)
    return float(torch.tensor((low + high) / 2).exp())


@torch.no_grad()
def evaluate(model, held: Rows, batch_size: int, questions: Questions) -> dict[str, float]:
    """Of the questions held out: `accuracy`, `loss` in nats a question at the temperatures that make it least, and these by type.

    So of two checkpoints the better is the one whose decisions will be, whether or not its scores are too sure as they come.
    """
    by_type: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {"predicate": [], "choice": [], "score": []}
    n_right = 0
    for chosen in batches(held.rows, batch_size):
        for row, logits in held.logits(model, chosen):
            assert isinstance(row, DecisionRow)  # of questions
            n_right += sum(said(logits, row))
            for question, s, r in zip(row.examples, scores(logits, row).cpu(), rights(row), strict=True):
                there = torch.isfinite(s)
                by_type[questions[question].type].append((s[there], r[there]))
    every = [pair for pairs in by_type.values() for pair in pairs]
    fits = {name: fitted(*zip(*(pairs if len(pairs) >= FEWEST else every), strict=True)) for name, pairs in by_type.items()}
    loss = sum(_cross_entropy(s / fits[name], r) for name, pairs in by_type.items() for s, r in pairs) / len(every)
    return {"loss": loss, "accuracy": n_right / len(every), **fits}


def _cross_entropy(scores: torch.Tensor, right: torch.Tensor) -> float:
    return -(right * scores.log_softmax(-1).masked_fill(right == 0, 0.0)).sum().item()
