"""DoRA's magnitudes (arXiv 2402.09353): over the norms of the base's adapted weight, they are one factor a row."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ..base.gguf_base import Base
from ..lazy import Lazy
from ..update import ROWS, Placed

CHUNK = 1_000_000  # values of the base's weight in memory at a time


def row_factors(placed: Placed, magnitude: Lazy, base: Base) -> Lazy:
    """g = m / |W + scaling B A|, [n_out], so that the adapted output is g (W x + scaling B A x).

    Raises ConversionError if the base does not have the weight's values.
    """
    norms = _norms(placed, base)

    def read() -> np.ndarray:
        with np.errstate(divide="ignore", invalid="ignore"):  # whoever encodes refuses what is not finite
            return (magnitude.read() / norms()).astype(np.float32)

    return magnitude.computed(magnitude.shape, read)


def with_magnitude(placed: Placed, factors: Lazy, base: Base) -> Placed:
    """`placed` with the magnitudes m that row_factors made `factors` of."""
    norms = _norms(placed, base)
    magnitude = factors.computed(factors.shape, lambda: (factors.read() * norms()).astype(np.float32))
    return replace(placed, magnitude=magnitude)


def _norms(placed: Placed, base: Base) -> Callable[[], np.ndarray]:
    """A function for |W + scaling B A| of every output, float64 [n_out]; W is dequantised a chunk at a time."""
    weight = base.weight(placed.weight)
    n_rows, n_values = weight.shape

    def norms() -> np.ndarray:
        # of a weight whose rows are looked up, the outputs are the columns
        by_row = placed.role != ROWS
        left = (placed.b if by_row else placed.a).read() * np.float64(placed.scaling)
        right = (placed.a if by_row else placed.b.transpose()).read().astype(np.float64)
        squares = np.zeros(n_rows if by_row else n_values)
        step = max(1, CHUNK // n_values)
        for start in range(0, n_rows, step):
            adapted = weight.rows(start, min(start + step, n_rows)) + left[start : start + step] @ right
            adapted *= adapted
            if by_row:
                squares[start : start + step] = adapted.sum(axis=1)
            else:
                squares += adapted.sum(axis=0)
        return np.sqrt(squares)

    return norms
