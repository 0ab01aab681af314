"""Several low-rank updates of one matrix as one: ranks one after the other, each with its own rows."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import overload

import numpy as np

from ..lazy import Lazy, concatenated, zeros
from ..update import Placed, Update


@dataclass(frozen=True)
class Rows:
    """An update of some rows of a matrix, from `start` on: a [..., r, n_in], b [..., n_rows, r], bias and magnitude [n_rows]."""

    start: int
    a: Lazy
    b: Lazy
    scaling: float
    bias: Lazy | None
    magnitude: Lazy | None

    @property
    def stop(self) -> int:
        return self.start + self.b.shape[-2]


def rows_of(update: Update | Placed, rows: np.ndarray, start: int) -> Rows:
    """The rows of an Update or a Placed, in that order, as rows `start` and following of another matrix."""
    return Rows(start, update.a, taken(update.b, rows, -2), update.scaling, taken(update.bias, rows, 0), taken(update.magnitude, rows, 0))


def stack(parts: list[Rows], n_rows: int) -> Rows:
    """All rows of a matrix, zeros where no part is. Parts with the same a share its ranks.

    Raises ValueError if there is a magnitude for some rows only: the others' would be the norms of the base's rows.
    """
    if len(parts) == 1 and parts[0].stop - parts[0].start == n_rows:
        return parts[0]
    scaling = common_scaling(part.scaling for part in parts)
    by_a: list[tuple[Lazy, list[tuple[Lazy, int]]]] = []
    for part in parts:
        if not by_a or by_a[-1][0] is not part.a:
            by_a.append((part.a, []))
        by_a[-1][1].append((part.b.times(ratio(part.scaling, scaling)), part.start))
    biases = [(part.bias.times(ratio(part.scaling, scaling)), part.start) for part in parts if part.bias is not None]
    magnitudes = [(part.magnitude, part.start) for part in parts if part.magnitude is not None]
    if magnitudes and sum(magnitude.shape[0] for magnitude, _ in magnitudes) < n_rows:
        raise ValueError("a magnitude for some rows only")
    return Rows(
        0,
        concatenated([a for a, _ in by_a], -2),
        concatenated([at_rows(bs, n_rows, -2) for _, bs in by_a], -1),
        scaling,
        at_rows(biases, n_rows, 0) if biases else None,
        at_rows(magnitudes, n_rows, 0) if magnitudes else None,
    )


def at_rows(parts: list[tuple[Lazy, int]], n_rows: int, axis: int) -> Lazy:
    """Each part from its row of `axis` on, zeros between them. The parts are in order."""
    filled, end = [], 0
    for part, start in parts:
        filled += [_zero_rows(part, start - end, axis), part]
        end = start + part.shape[axis]
    filled.append(_zero_rows(parts[0][0], n_rows - end, axis))
    return concatenated([part for part in filled if part.shape[axis]], axis)


@overload
def taken(lazy: Lazy, rows: np.ndarray, axis: int) -> Lazy: ...
@overload
def taken(lazy: None, rows: np.ndarray, axis: int) -> None: ...
def taken(lazy: Lazy | None, rows: np.ndarray, axis: int) -> Lazy | None:
    """The rows of `axis`, in that order; the very tensor if they are all of its own."""
    if lazy is None or np.array_equal(rows, np.arange(lazy.shape[axis])):
        return lazy
    return lazy.take(rows, axis)


def common_scaling(scalings: Iterable[float]) -> float:
    """One of the scalings, for all of them; 0 only if all are."""
    return max(scalings, key=abs)


def ratio(scaling: float, common: float) -> float:
    """What b has to be multiplied by to be scaled by `common`."""
    return scaling / common if common else 1.0


def _zero_rows(like: Lazy, n: int, axis: int) -> Lazy:
    shape = list(like.shape)
    shape[axis] = n
    return zeros(like, *shape)
