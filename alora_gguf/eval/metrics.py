"""Figures of merit and their 95% intervals."""

from collections.abc import Callable, Sequence
from math import sqrt

import numpy as np

Z = 1.959964  # of a normal distribution's central 95%
N_BINS = 10
N_RESAMPLES = 1000


def wilson(n_right: int, n: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson, 1927)."""
    share, square = n_right / n, Z * Z / n
    middle = (share + square / 2) / (1 + square)
    half = Z * sqrt(share * (1 - share) / n + square / (4 * n)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def auroc(probabilities: Sequence[float], labels: Sequence[bool]) -> float:
    """How often a right example has the higher probability of one right and one wrong one, ties half; NaN without both.

    By the sum of ranks (Mann and Whitney, 1947).
    """
    values, right = np.asarray(probabilities, float), np.asarray(labels, bool)
    n_right, n_wrong = right.sum(), (~right).sum()
    if not (n_right and n_wrong):
        return float("nan")
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]  # from 1; the mean of those of equals
    return float((ranks[right].sum() - n_right * (n_right + 1) / 2) / (n_right * n_wrong))


def calibration_error(probabilities: Sequence[float], labels: Sequence[bool]) -> float:
    """ECE: the mean distance of probability and frequency over ten bins of equal width (Naeini et al., 2015)."""
    values, right = np.asarray(probabilities, float), np.asarray(labels, float)
    bins = np.minimum((values * N_BINS).astype(int), N_BINS - 1)
    return float(sum(abs(values[bins == b].sum() - right[bins == b].sum()) for b in range(N_BINS)) / len(values))


def chance_corrected(right: Sequence[float], chance: Sequence[float]) -> float:
    """The share right less what guessing gets, over what that leaves: 0 by chance, 1 if all are right (Cohen's kappa for a guesser)."""
    guessed = float(np.sum(chance))
    return (float(np.sum(right)) - guessed) / (len(chance) - guessed) if guessed < len(chance) else float("nan")


def bootstrap(figure: Callable[..., float], *columns: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """The 95% interval of a figure of some columns, from resampled examples (Efron, 1979)."""
    rng = np.random.default_rng(seed)
    arrays = [np.asarray(column) for column in columns]
    n = len(arrays[0])
    figures = []
    for _ in range(N_RESAMPLES):
        chosen = rng.integers(0, n, n)
        figures.append(figure(*(a[chosen] for a in arrays)))
    low, high = np.nanpercentile(figures, [2.5, 97.5])
    return float(low), float(high)


def lead(first: Sequence[bool], second: Sequence[bool]) -> tuple[float, tuple[float, float]]:
    """By how much the first is right more often than the second on the same examples, and the 95% interval.

    Of paired shares only the examples that the two part on count (McNemar, 1947); the interval is Wald's.
    """
    n = len(first)
    only_first = sum(a and not b for a, b in zip(first, second, strict=True))
    only_second = sum(b and not a for a, b in zip(first, second, strict=True))
    share = (only_first - only_second) / n
    half = Z * sqrt(only_first + only_second - (only_first - only_second) ** 2 / n) / n
    return share, (share - half, share + half)
