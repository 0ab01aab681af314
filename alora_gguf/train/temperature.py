"""A temperature for each type of question: what the scores of its options are divided by so that its probabilities are right as often as they say."""

from collections.abc import Sequence

import torch

from .decision_passes import rights, scores
from .decision_prompts import Questions
from .decision_rows import DecisionRow
from .trainer import Rows

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
def temperatures(model, held: Rows, questions: Questions) -> dict[str, float]:
    """Of the questions held out, by type; 1 where there is none to fit it on."""
    by_type: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {"predicate": [], "choice": [], "score": []}
    for i in range(len(held.rows)):
        for row, logits in held.logits(model, [i]):
            assert isinstance(row, DecisionRow)  # of questions
            for question, s, r in zip(row.examples, scores(logits, row).cpu(), rights(row), strict=True):
                there = torch.isfinite(s)
                by_type[questions[question].type].append((s[there], r[there]))
    every = [pair for pairs in by_type.values() for pair in pairs]
    return {name: fitted(*zip(*(pairs if len(pairs) >= FEWEST else every), strict=True)) for name, pairs in by_type.items()}
