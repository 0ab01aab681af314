"""Ratios on a noisy machine: both sides in turn, the median of the ratios of the pairs."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Side = Callable[[], float | list[float]]  # milliseconds of one thing, or of several alike


@dataclass(frozen=True)
class Bar:
    """What a figure must be: from `low` on, up to `high`."""

    low: float | None = None
    high: float | None = None

    def passes(self, value: float) -> bool:
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        if self.low is not None and self.high is not None:
            return f"{self.low:g} to {self.high:g}"
        return f"<= {self.high:g}" if self.low is None else f">= {self.low:g}"


@dataclass
class Measured:
    """A ratio with the quartiles of its pairs, and the medians in milliseconds of both sides.

    points: what growth is plotted from; note: what a reader has to know about this figure.
    """

    value: float
    low: float
    high: float
    n: int
    sides: dict[str, float]
    points: list[dict] = field(default_factory=list)
    note: str = ""


@dataclass(frozen=True)
class Pace:
    """How long a figure may take: rounds until there are `most`, or `least` and the seconds are over."""

    least: int = 3
    most: int = 25
    seconds: float = 30

    def rounds(self, sides: dict[str, Side], warm: bool = True) -> dict[str, list[float]]:
        """Milliseconds of every side, in rounds, each round in the other order. `warm` leaves out a first one."""
        if warm:
            for side in sides.values():
                side()
        ms: dict[str, list[float]] = {name: [] for name in sides}
        began = time.perf_counter()
        for n in range(self.most):
            if n >= self.least and time.perf_counter() - began > self.seconds:
                break
            for name, side in list(sides.items())[:: 1 if n % 2 == 0 else -1]:
                ms[name].append(median(side()))
        return ms

    def ratio(self, over: tuple[str, Side], under: tuple[str, Side], warm: bool = True) -> Measured:
        ms = self.rounds(dict([over, under]), warm)
        pairs = [a / b for a, b in zip(ms[over[0]], ms[under[0]])]
        low, high = _quartiles(pairs)
        return Measured(statistics.median(pairs), low, high, len(pairs), {name: statistics.median(v) for name, v in ms.items()})


def across_processes(measured: Sequence[Measured]) -> Measured:
    """The median of what fresh pairs of processes gave, and its quartiles: each pair counts once."""
    ratios = [m.value for m in measured]
    low, high = _quartiles(ratios)
    sides = {name: statistics.median(m.sides[name] for m in measured) for name in measured[0].sides}
    note = f"pairs of processes from {min(ratios):.3f} to {max(ratios):.3f}"
    return Measured(statistics.median(ratios), low, high, len(ratios), sides, note=note)


def _quartiles(values: list[float]) -> tuple[float, float]:
    low, _, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return low, high


def median(ms: float | list[float]) -> float:
    return statistics.median(ms) if isinstance(ms, list) else ms
