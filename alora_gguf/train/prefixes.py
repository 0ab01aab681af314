"""The keys and values before the activations: computed once, kept in memory or on disk, computed again where neither has room."""

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from . import passes
from .forest import Row
from .passes import KeysValues


class Prefixes:
    """Those of `rows`, kept in `dtype`.

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

    def fill(self, on_row: Callable[[int], None]) -> None:
        """Computes all that there is room for; `on_row` gets the number of tokens of each row."""
        for i, row in enumerate(self._rows):
            if not self._keep(i, passes.prefix(self._model, row)):
                self.is_complete = False
                return
            on_row(row.n_prefix)

    def of(self, i: int) -> KeysValues:
        """Those of a row: a layer each, [1, n_kv_heads, n_prefix, head_size]."""
        if i in self._memory:
            kept = self._memory[i]
        elif i in self._files:
            kept = torch.load(self._files[i], mmap=True, weights_only=True)
        else:
            return passes.prefix(self._model, self._rows[i])
        return [(layer[0], layer[1]) for layer in kept]

    def close(self) -> None:
        self._memory.clear()
        if self._folder:
            self._folder.cleanup()

    def _keep(self, i: int, computed: KeysValues) -> bool:
        if not computed:
            return True
        kept = torch.stack([torch.stack(layer) for layer in computed]).to("cpu", self._dtype)
        if self.n_bytes["in memory"] + kept.nbytes <= self._n_memory:
            self._memory[i] = kept
            self.n_bytes["in memory"] += kept.nbytes
        elif self.n_bytes["on disk"] + kept.nbytes <= self._n_disk:
            self._files[i] = Path(self._folder.name, f"{i}.pt")
            torch.save(kept, self._files[i])
            self.n_bytes["on disk"] += kept.nbytes
        else:
            return False
        return True


def free_memory() -> int:
    """Bytes that are free, 4 GB where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as f:
            return next(int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (ValueError, OSError, AttributeError):
        return 4_000_000_000
