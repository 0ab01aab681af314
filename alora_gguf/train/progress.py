"""What a run shows while it goes: a bar with the loss and the time left, a line for every evaluation."""

import sys
from typing import Any

from tqdm import tqdm


class Progress:
    """On standard error. Where that is no terminal, a line now and then in place of the bar."""

    def __init__(self):
        self._bar: Any = None  # tqdm's, between begin() and end()
        self._mean = 0.0

    def note(self, line: str) -> None:
        tqdm.write(line, file=sys.stderr)

    def begin(self, what: str, total: int, done: int = 0, unit: str = "token") -> None:
        self.end()
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=what,
            unit=unit,
            unit_scale=unit == "token",
            file=sys.stderr,
            dynamic_ncols=True,
            mininterval=0.2 if sys.stderr.isatty() else 15,
        )

    def advance(self, n: int = 1, loss: float | None = None) -> None:
        if loss is not None:
            self._mean = 0.95 * self._mean + 0.05 * loss if self._mean else loss
            self._bar.set_postfix(loss=f"{self._mean:.4f}", refresh=False)
        self._bar.update(n)

    def end(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None
