"""One run: the engines' workers, and how much is measured."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from ..errors import BenchError
from .measure import Pace
from .models import Files
from .worker import Settings, Worker

INSTALL = {
    "stock": "`make build/unpatched/bin/.built`, or --unpatched FOLDER with an unpatched libllama",
    "llama-server": "`pip install xllamacpp`",
    "PEFT": "`pip install peft transformers torch`",
}
N_ADAPTERS = {"tiny": 16, "135m": 16, "1b": 8, "3b": 8}
N_CTX = {"tiny": 2048, "135m": 9216, "1b": 1024, "3b": 1024}


class NotInstalled(BenchError):
    """A peer is left out."""


class Run:
    """The engines on one model, each started when it is asked for; `quick` measures little of everything."""

    def __init__(self, model: str, files: Files, *, n_threads: int, unpatched: Path | None, quick: bool):
        self.model = model
        self.quick = quick
        self.pace = Pace(least=1, most=1) if quick else Pace()
        self.once = Pace(least=1, most=1)
        self.short = self.once if quick else Pace(least=3, most=7, seconds=5)  # of each of several pairs of processes
        self.n_processes = 1 if quick else 7 if model == "135m" else 5
        self.n_steps = 2 if quick else 12
        self.n_conversation = 128 if quick else 2048
        self.n_short = 32 if quick else 128  # tokens of each of many conversations
        self.n_answer = 16 if quick else 96  # tokens of an answer that is watched
        self.contexts = (96, 192) if quick else (512, 1024, 2048, 4096, 7680)
        self.batches = (1, 8) if quick else (1, 2, 4, 8, 16) if model == "135m" else (8,)
        self.registered = (1, 40) if quick else (1, 10, 100, 1000)
        self._unpatched = unpatched
        self._files = files
        self._n_threads = n_threads
        self._workers: dict[str, Worker] = {}

    def names(self, n: int) -> list[str]:
        """The first `n` f16 adapters; there is also q8_0-0."""
        return [f"f16-{i}" for i in range(n)]

    def __getitem__(self, engine: str) -> Worker:
        """The engine's worker. Raises NotInstalled."""
        if engine not in self._workers:
            self._workers[engine] = self._start(engine)
        return self._workers[engine]

    def settings(self) -> Settings:
        n = N_ADAPTERS[self.model]
        adapters = {name: self._files.adapter(self.model, i) for i, name in enumerate(self.names(n))}
        return Settings(
            model=self._files.model(self.model),
            adapters={**adapters, "q8_0-0": self._files.adapter(self.model, 0, "q8_0")},
            peft={name: self._files.peft_adapter(self.model, i) for i, name in enumerate(self.names(8))},
            unpatched=self._unpatched,
            n_ctx=N_CTX[self.model],
            n_threads=self._n_threads,
        )

    def _start(self, engine: str, **environment: str) -> Worker:
        if not self._is_there(engine):
            raise NotInstalled(f"{engine}: left out; to have it: {INSTALL[engine]}")
        return Worker(engine, self.settings(), environment)

    def _is_there(self, engine: str) -> bool:
        if engine == "stock":
            return self._unpatched is not None
        needs = {"llama-server": ["xllamacpp"], "PEFT": ["peft", "transformers", "torch"]}.get(engine, [])
        return all(find_spec(package) for package in needs)

    @contextmanager
    def alone(self, engine: str, **environment: str) -> Iterator[Worker]:
        """A fresh worker of its own, with these variables in its environment, which ends here. Raises NotInstalled."""
        worker = self._start(engine, **environment)
        try:
            yield worker
        finally:
            worker.close()

    def close(self) -> None:
        for worker in self._workers.values():
            worker.close()
        self._workers.clear()
