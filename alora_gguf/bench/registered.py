"""Adapters by the thousand: the memory that they take, and what the first call of one costs."""

import mmap
import sys
import time
from pathlib import Path

from .worker import Settings

BUDGET = 64_000_000  # bytes of adapters in memory


class Registered:
    """Many names for few f16 files, spread evenly; a call is an intrinsic's first token on a short conversation."""

    def __init__(self, settings: Settings):
        from .. import Model

        self.model = Model(
            settings.model,
            n_ctx=settings.n_ctx,
            n_ubatch=settings.n_ubatch,
            n_batch=settings.n_ubatch,
            n_threads=settings.n_threads,
            flash_attn=True,
            adapter_memory=BUDGET,
        )
        self._paths = [path for name, path in settings.adapters.items() if name.startswith("f16")]
        self._n = 0
        self._chat = self.model.conversation(messages=[{"role": "user", "content": "When does the ferry leave?"}])
        self._chat.ask("And back?", max_tokens=4)
        _forget_peak()
        self._base = _peak_bytes()

    def register(self, n: int) -> None:
        """Until there are `n` names."""
        for i in range(self._n, n):
            self.model.register_adapter(self._path(i), f"adapter-{i}")
        self._n = max(self._n, n)

    def call(self, number: int) -> float:
        """Milliseconds."""
        began = time.perf_counter()
        self._chat.invoke(f"adapter-{number}", max_tokens=1)
        return (time.perf_counter() - began) * 1e3

    def read(self, number: int) -> float:
        """Milliseconds of reading its file into new memory, which an adapter has to have too."""
        path = self._path(number)
        began = time.perf_counter()
        with open(path, "rb", buffering=0) as file, mmap.mmap(-1, path.stat().st_size) as memory:
            file.readinto(memory)
        return (time.perf_counter() - began) * 1e3

    def peak_megabytes(self) -> float:
        """The most memory that the process has had above what it had without adapters."""
        return (_peak_bytes() - self._base) / 1e6

    def _path(self, number: int) -> Path:
        return self._paths[number % len(self._paths)]


def _peak_bytes() -> int:
    try:
        (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    except OSError:
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024


def _forget_peak() -> None:
    """Where the system can, the peak is now what is in use."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass
