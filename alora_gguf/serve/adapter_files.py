"""Adapter files for the server: GGUF as they are, PEFT folders converted, and only from folders that are allowed."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..adapter import Adapter
from ..convert import convert
from ..model import Model
from .problem import Problem


class AdapterFiles:
    """`allowed` are the folders that clients may load from; without any they load nothing. close() it."""

    def __init__(self, model: Model, allowed: Sequence[Path] = ()):
        self._model = model
        self._allowed = [Path(folder).resolve() for folder in allowed]
        self._converted = tempfile.TemporaryDirectory(prefix="alora-serve-")
        self._n = 0

    @property
    def may_load(self) -> bool:
        return bool(self._allowed)

    def load(self, path: Path, name: str | None = None) -> Adapter:
        """A GGUF file or PEFT's folder. Raises AdapterFileError, AdapterMismatchError, ConversionError."""
        if not path.is_dir():
            return self._model.load_adapter(path, name)
        self._n += 1
        out = Path(self._converted.name) / f"{self._n}.gguf"
        convert(path, out, base=self._model.path)
        return self._model.load_adapter(out, name or path.resolve().name)

    def load_allowed(self, path: Path, name: str) -> Adapter:
        """The same for a client's path: it, the io.yaml beside it, and all that a folder has, really lie in an allowed folder. Raises Problem too."""
        try:
            real = path.resolve()
            files = [real, real.with_suffix(".io.yaml"), *(real.rglob("*") if self._is_allowed(real) and real.is_dir() else ())]
            may_load = all(self._is_allowed(file.resolve()) for file in files)
        except (OSError, ValueError, RuntimeError) as e:  # a name too long, with a zero byte, a link to itself
            raise Problem(400, f"lora_path: expected a path, got {str(path)!r:.80}; correct it", param="lora_path") from e
        if not may_load:
            raise Problem(403, f"lora_path: expected a path in a folder that the server may load adapters from, got {path}; "
                               "name the folder with --adapters-from when it starts", param="lora_path")
        return self.load(real, name)

    def close(self) -> None:
        self._converted.cleanup()

    def _is_allowed(self, real: Path) -> bool:
        return any(real.is_relative_to(folder) for folder in self._allowed)
