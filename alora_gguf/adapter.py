"""An adapter that is loaded beside the weights of a model."""

import ctypes
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

from . import _native
from .activation import find_invocation
from .context import Context
from .convert import read_adapter_metadata
from .errors import AdapterFileError, AdapterMismatchError, DecodeError


class Adapter:
    """Made by Model.load_adapter.

    `invocation_tokens` is empty for an ordinary LoRA, which is active from the first token on.
    """

    def __init__(self, context: Context, path: str | PathLike[str], name: str | None, fingerprint: str | None):
        metadata = read_adapter_metadata(path)
        if fingerprint and metadata.fingerprint not in (None, fingerprint):
            raise AdapterMismatchError(
                f"{path}: expected an adapter for the base with fingerprint {fingerprint[:12]}, got one for {metadata.fingerprint[:12]}"
                f"{f' ({metadata.base_name})' if metadata.base_name else ''}; use that base, or force=True")
        self.path = Path(path)
        self.name = name or self.path.stem
        self.metadata = metadata
        self.invocation_tokens: list[int] = metadata.invocation_tokens
        self.ptr = _load(context, self.path)
        self.n_bytes: int = _native.alora_adapter_size(self.ptr)

    @property
    def is_activated(self) -> bool:
        """Whether it has an invocation: only then can a conversation invoke it."""
        return bool(self.invocation_tokens)

    def start_in(self, tokens: Sequence[int]) -> int | None:
        """The index from which on it is active in a prompt, as in PEFT; None if nowhere."""
        return find_invocation(tokens, self.invocation_tokens) if self.is_activated else 0

    def free(self) -> None:
        if self.ptr:
            _native.alora_adapter_free(self.ptr)
            self.ptr = None

    def __repr__(self) -> str:
        return f"<Adapter {self.name!r}: {self.n_bytes / 1e6:.1f} MB, invocation {self.invocation_tokens}>"


def _load(context: Context, path: Path) -> int:
    ptr = ctypes.c_void_p()
    status = _native.alora_adapter_load(context.ptr, str(path).encode(), ctypes.byref(ptr))
    if status == _native.OK:
        return ptr.value
    error = {_native.ERROR_FILE: AdapterFileError, _native.ERROR_MISMATCH: AdapterMismatchError}.get(status, DecodeError)
    raise error(_native.alora_last_error().decode("utf-8", errors="replace"))
