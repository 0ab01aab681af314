"""An adapter: a file with a name, whose tensors are beside the weights of a model while they are needed."""

import ctypes
import hashlib
import itertools
import logging
import os
import threading
from collections.abc import Callable, Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path

from ..convert import AdapterFile, AdapterMetadata, read_adapter_metadata
from ..errors import AdapterFileError, AdapterMismatchError, DecodeError
from ..prompt.builder import Intrinsic, PromptBuilder
from ..prompt.invocation import find_invocation
from ..prompt.io_yaml import IntrinsicIO
from ..prompt.problems import problems
from ..runtime import native
from ..runtime.vocab import Vocab

_log = logging.getLogger("alora_gguf")
_uids: dict[tuple[str, tuple[int, int, int]], int] = {}  # by path and what the system says of the file
_numbers = itertools.count(1)
_numbering = threading.Lock()


class Adapter:
    """Made by Model.load_adapter and Model.register_adapter.

    uid           a number for the file and what is in it; cells in the cache know it
    ptr           its alora_adapter_id, None while it is not in memory
    fingerprint   gives that of the base model; None: whatever base it was made for
    io_yaml       file in place of the io.yaml beside or in the adapter
    prompts       of the base, on whose vocabulary it is looked at once; None: it is not
    """

    def __init__(
        self,
        path: str | PathLike[str],
        name: str | None,
        fingerprint: Callable[[], str] | None,
        io_yaml: str | PathLike[str] | None = None,
        prompts: PromptBuilder | None = None,
    ):
        self.path = Path(path)
        self.name = name or self.path.stem
        self.ptr: int | None = None
        self.n_bytes = 0
        self._fingerprint = fingerprint
        self._prompts = prompts
        self._io_yaml = None if io_yaml is None else Path(io_yaml)
        self._stat = self._stat_now()
        self.uid = _uid((os.path.realpath(path), self._stat))

    def read(self) -> None:
        """Reads now what else is read when it is first asked for. Raises as these."""
        _ = self.metadata, self.io, self.warnings

    @cached_property
    def metadata(self) -> AdapterMetadata:
        """Read when first asked for. Raises AdapterFileError, or AdapterMismatchError for another base's."""
        metadata = read_adapter_metadata(self.path)
        wanted = self._fingerprint() if self._fingerprint else None
        if wanted and metadata.fingerprint not in (None, wanted):
            raise AdapterMismatchError(
                f"{self.path}: expected an adapter for this base, got one for {metadata.base_name or 'another'} "
                f"(fingerprints {wanted[:12]} and {metadata.fingerprint[:12]}); use that base, or load it by force"
            )
        return metadata

    @cached_property
    def io(self) -> IntrinsicIO | None:
        """What its io.yaml says; None if there is none. Read when first asked for. Raises IoYamlError or AdapterFileError."""
        if self._io_yaml is not None or self._beside.is_file():
            return IntrinsicIO.open(self._io_yaml or self._beside)
        text = self.metadata.io_yaml
        return None if text is None else IntrinsicIO.read(text, f"{self.path} (io.yaml)")

    @cached_property
    def warnings(self) -> list[str]:
        """What is odd about its answers, each a line. Read when first asked for; that and its problems are then said on the logger "alora_gguf"."""
        warnings = []
        if AdapterFile(self.path).changes_nothing():
            warnings.append(f"adapter {self.name!r}: expected weights that change something, got lora_b that is all zero; the base answers")
        for warning in [*warnings, *(self.problems(self._prompts.vocab, self._prompts) if self._prompts else ())]:
            _log.warning("%s", warning)
        return warnings

    def warnings_at(self, start: int | None) -> list[str]:
        """Of an answer to a prompt in which it is active from `start` on, None: nowhere. That is said on the logger too."""
        if start is not None:
            return list(self.warnings)
        nowhere = (
            f"adapter {self.name!r}: expected its invocation, tokens {self.invocation_tokens}, in the prompt, got none; "
            "the base answered, as with PEFT; put the invocation where the adapter is to begin"
        )
        _log.warning("%s", nowhere)
        return [*self.warnings, nowhere]

    @property
    def handle(self) -> int:
        """Its alora_adapter_id, while it is in memory."""
        assert self.ptr is not None
        return self.ptr

    @property
    def invocation_tokens(self) -> list[int]:
        """Empty for an ordinary LoRA, which is active from the first token on."""
        return self.metadata.invocation_tokens

    @property
    def is_activated(self) -> bool:
        """Whether it has an invocation, from which on it is active."""
        return bool(self.invocation_tokens)

    @property
    def decides(self) -> bool:
        """Whether it was trained on decisions: it is asked typed questions, and says nothing by itself."""
        return self.metadata.decisions is not None

    @property
    def is_intrinsic(self) -> bool:
        """Whether a conversation can invoke it: it has an invocation, and is not for decisions, or an io.yaml that says how it is asked."""
        return self.is_activated and not self.decides or self._io_yaml is not None or self._beside.is_file() or self.metadata.io_yaml is not None

    @property
    def description(self) -> str | None:
        """What it is for, in a sentence; None if nobody wrote it. Raises AdapterFileError."""
        return self.metadata.description

    @property
    def intrinsic(self) -> Intrinsic:
        """What a prompt that invokes it takes from it."""
        return Intrinsic(self.invocation_tokens, self.io, self.metadata.invoked_after, f"intrinsic {self.name!r}")

    def problems(self, vocab: Vocab, prompts: PromptBuilder | None = None) -> list[str]:
        """What is odd about its io.yaml on the base's vocabulary, and with `prompts` in its chat template, each a line.

        Raises IoYamlError or AdapterFileError.
        """
        return problems(self.io, self.invocation_tokens, vocab, prompts, self.metadata.invoked_after) if self.io else []

    def start_in(self, tokens: Sequence[int]) -> int | None:
        """The index from which on it is active in a prompt, as in PEFT; None if nowhere."""
        return find_invocation(tokens, self.invocation_tokens) if self.is_activated else 0

    @property
    def n_bytes_file(self) -> int:
        return self._stat[2]

    @property
    def modified(self) -> float:
        """When the file was written, in seconds since 1970."""
        return self._stat[1] / 1e9

    @cached_property
    def sha256(self) -> str:
        """Of the file."""
        digest = hashlib.sha256()
        with open(self.path, "rb") as f:
            while chunk := f.read(1 << 20):
                digest.update(chunk)
        return digest.hexdigest()

    def load(self, context: int) -> None:
        """Loads it for the model of a llama_context. Raises AdapterFileError if the file is not what it was when it was named: cells were computed with that."""
        if self._stat_now() != self._stat:
            raise AdapterFileError(f"{self.path}: expected the file that was named {self.name!r}, got one that has changed; load it again")
        self.metadata  # noqa: B018  the base has to be the right one
        handle = ctypes.c_uint64()
        status = native.alora_adapter_load(context, os.fsencode(self.path), ctypes.byref(handle))
        if status != native.OK:
            error = {native.ERROR_FILE: AdapterFileError, native.ERROR_MISMATCH: AdapterMismatchError}.get(status, DecodeError)
            raise error(native.alora_last_error().decode("utf-8", errors="replace"))
        self.ptr = handle.value
        self.n_bytes = native.alora_adapter_size(self.ptr)

    def free(self) -> None:
        if self.ptr:
            native.alora_adapter_free(self.ptr)
            self.ptr, self.n_bytes = None, 0

    @property
    def _beside(self) -> Path:
        return self.path.with_suffix(".io.yaml")

    def _stat_now(self) -> tuple[int, int, int]:
        try:
            stat = self.path.stat()
        except OSError as e:
            raise AdapterFileError(f"{self.path}: expected a GGUF adapter, got: {e.strerror}; check the path") from e
        return stat.st_ino, stat.st_mtime_ns, stat.st_size

    def __repr__(self) -> str:
        return f"<Adapter {self.name!r}: {self.path}, {f'{self.n_bytes / 1e6:.1f} MB' if self.ptr else 'not in memory'}>"


def _uid(file: tuple[str, tuple[int, int, int]]) -> int:
    with _numbering:
        if file not in _uids:
            _uids[file] = next(_numbers)
        return _uids[file]
