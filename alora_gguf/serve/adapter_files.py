"""Adapter files for the server's clients: only from folders that are allowed."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from ..engine.adapter import Adapter
from ..model import Model
from .problem import Problem


class AdapterFiles:
    """`allowed` are the folders that clients may load from; without any they load nothing."""

    def __init__(self, model: Model, allowed: Sequence[Path] = ()):
        self._model = model
        self._allowed = [Path(folder).resolve() for folder in allowed]

    @property
    def may_load(self) -> bool:
        return bool(self._allowed)

    def load_allowed(self, path: Path, name: str) -> Adapter:
        """A client's adapter: the path, the io.yaml beside it, and all that a folder has, really lie in an allowed folder. Raises Problem, AdapterFileError, AdapterMismatchError, ConversionError."""
        try:
            real = path.resolve()
            with suppress(FileNotFoundError, NotADirectoryError):  # of these the loader says more
                real.stat()  # from Python 3.13 on, resolve() says nothing of a link to itself
            files = [real, real.with_suffix(".io.yaml"), *(real.rglob("*") if self._is_allowed(real) and real.is_dir() else ())]
            may_load = all(self._is_allowed(file.resolve()) for file in files)
        except (OSError, ValueError, RuntimeError) as e:  # a name too long, with a zero byte, a link to itself
            raise Problem(400, f"lora_path: expected a path, got {str(path)!r:.80}; correct it", param="lora_path") from e
        if not may_load:
            raise Problem(
                403,
                f"lora_path: expected a path in a folder that the server may load adapters from, got {path}; "
                "name the folder with --adapters-from when it starts",
                param="lora_path",
            )
        return self._model.load_adapter(real, name)

    def _is_allowed(self, real: Path) -> bool:
        return any(real.is_relative_to(folder) for folder in self._allowed)
