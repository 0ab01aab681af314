"""The keys and values before the activations: computed once, kept in memory or on disk, computed again where neither has room."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from . import passes
from .packing import Row
from .passes import KeysValues

SIDE_BY_SIDE = 1024  # tokens: more make no product faster


class Prefixes:
    """Those of `rows`, kept in `dtype`: float16, as the runtime's cache has them.

    n_memory, n_disk  most bytes to keep in memory and in files in `folder`, which end with the process
    """

    def __init__(self, model, rows: Sequence[Row], n_memory: int, n_disk: int, folder: Path | None = None, dtype=torch.float16):
        self._model, self._rows, self._dtype = model, rows, dtype
        self._n_memory, self._n_disk = n_memory, n_disk
        self._memory: dict[int, torch.Tensor] = {}
        self._files: dict[int, Path] = {}
        self._folder = tempfile.TemporaryDirectory(prefix="alora-train-", dir=folder) if n_disk else None
        self.n_bytes = {"in memory": 0, "on disk": 0}
        self.is_complete = True  # whether all are kept

    def fill(self, on_rows: Callable[[int], None]) -> None:
        """Computes all that there is room for, rows of equal length side by side; `on_rows` gets their number of tokens."""
        for chosen in _side_by_side(self._rows):
            for i, computed in zip(chosen, passes.prefixes(self._model, [self._rows[i] for i in chosen]), strict=True):
                if not self._keep(i, computed):
                    self.is_complete = False
                    return
            on_rows(sum(self._rows[i].n_prefix for i in chosen))

    def of(self, chosen: Sequence[int]) -> list[KeysValues]:
        """Those of some rows."""
        missing = [i for i in chosen if i not in self._memory and i not in self._files]
        computed = dict(zip(missing, passes.prefixes(self._model, [self._rows[i] for i in missing]), strict=True)) if missing else {}
        return [
            computed[i] if i in computed else self._memory[i] if i in self._memory else torch.load(self._files[i], mmap=True, weights_only=True)
            for i in chosen
        ]

    def close(self) -> None:
        self._memory.clear()
        if self._folder:
            self._folder.cleanup()

    def _keep(self, i: int, computed: KeysValues) -> bool:
        kept = computed.to("cpu", self._dtype)
        if self.n_bytes["in memory"] + kept.nbytes <= self._n_memory:
            self._memory[i] = kept
            self.n_bytes["in memory"] += kept.nbytes
        elif self._folder and self.n_bytes["on disk"] + kept.nbytes <= self._n_disk:
            self._files[i] = Path(self._folder.name, f"{i}.pt")
            torch.save(kept, self._files[i])
            self.n_bytes["on disk"] += kept.nbytes
        else:
            return False
        return True


def _side_by_side(rows: Sequence[Row]) -> Iterator[list[int]]:
    """The indices of all rows, by length, as many together as make SIDE_BY_SIDE tokens."""
    chosen: list[int] = []
    for i in sorted(range(len(rows)), key=lambda i: rows[i].n_prefix):
        if chosen and (len(chosen) + 1) * rows[i].n_prefix > SIDE_BY_SIDE:
            yield chosen
            chosen = []
        chosen.append(i)
    if chosen:
        yield chosen
