"""DoRA's magnitudes (arXiv 2402.09353): divided by the norms of the base's adapted weight, they are one factor a row."""

import numpy as np

from .base import Base
from .lazy import Lazy
from .update import ROWS, Placed

CHUNK = 1_000_000  # values of the base's weight in memory at a time


def row_factors(placed: Placed, base: Base) -> Lazy:
    """g = m / |W + scaling B A|, [n_out], so that the adapted output is g (W x + scaling B A x).

    W is dequantised from the base, a piece at a time. Raises ConversionError if the base has no weights.
    """
    weight = base.weight(placed.weight)
    magnitude = placed.magnitude


    def read() -> np.ndarray:
        # the norm is over the inputs of each output: over the vocabulary where rows are looked up
        outputs_first = placed.role != ROWS
        left = (placed.b if outputs_first else placed.a).read() * np.float64(placed.scaling)
        right = (placed.a if outputs_first else placed.b.transpose()).read().astype(np.float64)
        n_rows, n_values = weight.shape
        squares = np.zeros(n_rows if outputs_first else n_values)
        step = max(1, CHUNK // n_values)
        for start in range(0, n_rows, step):
            adapted = weight.rows(start, min(start + step, n_rows)) + left[start:start + step] @ right
            if outputs_first:
                squares[start:start + step] = np.einsum("ij,ij->i", adapted, adapted)
            else:
                squares += np.einsum("ij,ij->j", adapted, adapted)
        with np.errstate(divide="ignore", invalid="ignore"):  # whoever encodes refuses what is not finite
            return (magnitude.read() / np.sqrt(squares)).astype(np.float32)

    return magnitude.computed(magnitude.shape, read)
