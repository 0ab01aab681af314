"""An engine in a process of its own, which measures when it is asked to."""

import importlib
import multiprocessing
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import AloraError, BenchError

# where each engine's class is: a module of this package, imported in the worker only
ENGINES = {
    "ours": ("ours", "Ours"),
    "steps": ("steps", "OurSteps"),
    "registered": ("registered", "Registered"),
    "stock": ("stock", "Stock"),
    "llama-server": ("server", "LlamaServer"),
    "PEFT": ("peft_model", "PeftModel"),
}


@dataclass(frozen=True)
class Settings:
    """What every engine is given alike. `adapters`: GGUF files by name; `peft`: the same ones as PEFT's folders."""

    model: Path
    adapters: dict[str, Path] = field(default_factory=dict)
    peft: dict[str, Path] = field(default_factory=dict)
    unpatched: Path | None = None
    n_ctx: int = 4096
    n_ubatch: int = 512
    n_threads: int = 1


class Worker:
    """Calls on it are the engine's own, made in its process. Raises BenchError for whatever goes wrong there."""

    def __init__(self, engine: str, settings: Settings, environment: Mapping[str, str] | None = None):
        self.engine = engine
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, engine, settings), daemon=True)
        before = dict(os.environ)
        os.environ.update(environment or {})  # which the process inherits
        try:
            self._process.start()
        finally:
            os.environ.clear()
            os.environ.update(before)
        theirs.close()
        self._receive("start")

    def __getattr__(self, task: str) -> Callable:
        def call(*args, **kwargs):
            self._pipe.send((task, args, kwargs))
            return self._receive(task)

        return call

    def _receive(self, task: str):
        try:
            done, value = self._pipe.recv()
        except EOFError:
            self._process.join()
            raise BenchError(
                f"{self.engine}: {task}: expected an answer, got the end of its process (status {self._process.exitcode}); "
                "run this figure alone with --only to see its output"
            ) from None
        if not done:
            raise BenchError(f"{self.engine}: {task}: {value}")
        return value

    def close(self) -> None:
        self._pipe.close()  # the engine ends with it
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()


def _serve(pipe, engine: str, settings: Settings) -> None:
    module, name = ENGINES[engine]
    try:
        made = getattr(importlib.import_module(f"{__package__}.{module}"), name)(settings)
        pipe.send((True, None))
        while True:
            task, args, kwargs = pipe.recv()
            try:
                pipe.send((True, getattr(made, task)(*args, **kwargs)))
            except AloraError as e:
                pipe.send((False, str(e)))
    except (EOFError, KeyboardInterrupt):
        pass
    except Exception as e:  # the other side says it in one line
        pipe.send((False, f"{type(e).__name__}: {' '.join(str(e).split())}"))
