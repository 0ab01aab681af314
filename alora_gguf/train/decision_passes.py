"""What the logits of a row of decisions say: how likely each option is, and the loss of that."""

import numpy as np
import torch

from .decision_rows import DecisionRow


def scores(logits: torch.Tensor, row: DecisionRow) -> torch.Tensor:
    """F32 [n_questions, most options], nats: the sum of each option's tokens, of the whole vocabulary; -inf where a question has fewer.

    logits   F32 [n_kept, n_vocab]
    """
    at, targets, owners = (torch.from_numpy(a).to(logits.device) for a in (row.at, row.targets, row.owners))
    reads = logits.log_softmax(-1)[at, targets]
    sums = torch.zeros(len(row.of), device=logits.device).index_add(0, owners, reads)
    question, place = _places(row)
    out = torch.full((len(row.examples), int(place.max()) + 1), float("-inf"), device=logits.device)
    return out.index_put((question.to(logits.device), place.to(logits.device)), sums)


def rights(row: DecisionRow) -> torch.Tensor:
    """F32 [n_questions, most options], zeros where a question has fewer."""
    question, place = _places(row)
    return torch.zeros(len(row.examples), int(place.max()) + 1).index_put((question, place), torch.from_numpy(row.right))


def loss(logits: torch.Tensor, row: DecisionRow) -> torch.Tensor:
    """Cross entropy in nats of the options' probabilities, which sum to 1, summed over the questions."""
    log_p = scores(logits, row).log_softmax(-1)
    right = rights(row).to(log_p.device)
    return -(right * log_p.masked_fill(right == 0, 0.0)).sum()


def said(logits: torch.Tensor, row: DecisionRow) -> list[bool]:
    """For each question, whether its likeliest option is the right one."""
    best = scores(logits, row).argmax(-1).cpu()
    right = rights(row)
    return (right[torch.arange(len(best)), best] == right.max(-1).values).tolist()


def _places(row: DecisionRow) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each option its question, and the how-manieth of it it is."""
    first = np.searchsorted(row.of, np.arange(len(row.examples)))
    return torch.from_numpy(row.of), torch.from_numpy(np.arange(len(row.of)) - first[row.of])
