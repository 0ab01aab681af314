"""A tensor that is read when its turn comes, so that one is in memory at a time."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import ConversionError
from ..text import complaint


@dataclass(frozen=True)
class Lazy:
    """file and name: where it comes from, for complaints. dtype: as saved (F32, F16, BF16), F32 where computed.

    read: float32 of `shape` (numpy's order); raises ConversionError on values that are not finite.
    """

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]

    @staticmethod
    def saved(file: Path, name: str, shape: tuple[int, ...], dtype: str, load: Callable[[], np.ndarray]) -> "Lazy":
        """A tensor of a file. load: float32 of `shape`, not yet checked to be finite."""
        lazy = Lazy(file, name, shape, dtype, lambda: lazy._finite(load()))
        return lazy

    def _finite(self, values: np.ndarray) -> np.ndarray:
        finite = np.isfinite(values)
        if not finite.all():
            at = int(np.argmin(finite))
            raise self.complaint("finite values", f"{values.flat[at]} at index {at}", "the training diverged or the file is damaged")
        return values

    def complaint(self, expected: str, got: object, action: str) -> ConversionError:
        return ConversionError(complaint(self.file, f"tensor {self.name}", expected, got, action))

    def _with(self, shape: Sequence[int], read: Callable[[], np.ndarray], dtype: str | None = None) -> "Lazy":
        return Lazy(self.file, self.name, tuple(shape), dtype or self.dtype, read)

    # -- the same values elsewhere: the dtype stays ---------------------------------------------

    def take(self, index: np.ndarray, axis: int = 0) -> "Lazy":
        """The slices `index` of `axis`, in that order."""
        shape = list(self.shape)
        shape[axis] = len(index)
        return self._with(shape, lambda: np.take(self.read(), index, axis))

    def slice(self, start: int, stop: int, axis: int = 0) -> "Lazy":
        shape = list(self.shape)
        shape[axis] = stop - start
        where = (slice(None),) * (axis % len(shape)) + (slice(start, stop),)
        return self._with(shape, lambda: self.read()[where])

    def reshape(self, *shape: int) -> "Lazy":
        return self._with(shape, lambda: self.read().reshape(shape))

    def transpose(self, *axes: int) -> "Lazy":
        """As numpy's: `axes` in their new order, reversed if none are given."""
        axes = axes or tuple(range(len(self.shape)))[::-1]
        return self._with([self.shape[axis] for axis in axes], lambda: self.read().transpose(axes))

    # -- computed: F32 --------------------------------------------------------------------------

    def computed(self, shape: tuple[int, ...], read: Callable[[], np.ndarray]) -> "Lazy":
        """What `read` makes of this tensor; its complaints name this one."""
        return self._with(shape, read, "F32")

    def times(self, factor: float) -> "Lazy":
        """Multiplied in double precision and rounded once. 1 is no change at all."""
        if factor == 1.0:
            return self

        def read() -> np.ndarray:
            with np.errstate(over="ignore", invalid="ignore"):  # whoever encodes refuses what became infinite
                return (self.read() * np.float64(factor)).astype(np.float32)

        return self.computed(self.shape, read)

    def matmul(self, other: "Lazy") -> "Lazy":
        """[..., n, k] by [..., k, m], summed in double precision and rounded once."""

        def read() -> np.ndarray:
            with np.errstate(over="ignore", invalid="ignore"):
                return (self.read().astype(np.float64) @ other.read()).astype(np.float32)

        return self.computed((*self.shape[:-1], other.shape[-1]), read)


def concatenated(parts: Sequence[Lazy], axis: int) -> Lazy:
    """The parts one after the other along `axis`; their other dimensions are equal."""
    if len(parts) == 1:
        return parts[0]
    shape = list(parts[0].shape)
    shape[axis] = sum(part.shape[axis] for part in parts)

    def read() -> np.ndarray:
        values = np.empty(shape, np.float32)
        whole = np.moveaxis(values, axis, 0)
        start = 0
        for part in parts:
            whole[start : start + part.shape[axis]] = np.moveaxis(part.read(), axis, 0)
            start += part.shape[axis]
        return values

    return parts[0]._with(shape, read, _common_dtype(parts))


def stacked(parts: Sequence[Lazy]) -> Lazy:
    """Parts of one shape along a new first axis."""
    return concatenated([part.reshape(1, *part.shape) for part in parts], 0) if len(parts) > 1 else parts[0].reshape(1, *parts[0].shape)


def added(parts: Sequence[Lazy]) -> Lazy:
    """The sum of parts of one shape, in double precision and rounded once."""
    if len(parts) == 1:
        return parts[0]

    def read() -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            return sum((part.read().astype(np.float64) for part in parts), start=np.zeros(parts[0].shape)).astype(np.float32)

    return parts[0].computed(parts[0].shape, read)


def zeros(like: Lazy, *shape: int) -> Lazy:
    """Zeros of `shape`, named and typed as `like`."""
    return like._with(shape, lambda: np.zeros(shape, np.float32))


def _common_dtype(parts: Sequence[Lazy]) -> str:
    dtypes = {part.dtype for part in parts}
    return dtypes.pop() if len(dtypes) == 1 else "F32"
