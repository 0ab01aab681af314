"""Grammars: which tokens may come next."""

import ctypes
import json

import numpy as np

from ._library import llama_cpp, take_error
from .errors import PromptError
from .vocab import Vocab

_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama_token_data


def schema_to_gbnf(schema: dict | str) -> str:
    """The grammar of the JSON texts that a JSON schema allows. Raises PromptError."""
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    try:
        gbnf = json_schema_to_gbnf(schema if isinstance(schema, str) else json.dumps(schema))
    except Exception as e:  # it raises whatever it stumbles over
        raise PromptError(f"json_schema: expected one that a grammar can be made of, got: {type(e).__name__}: {e}") from e
    return gbnf.replace(r'[^"\\]', r'[^"\\\x7F\x00-\x1F]')  # it would let line breaks into strings, which JSON does not have


class Candidates:
    """A llama_token_data_array of every token, or of those given."""

    def __init__(self, logits: np.ndarray, tokens: np.ndarray | None = None):
        self._data = np.zeros(len(logits), _TOKEN_DATA)
        self._data["id"] = np.arange(len(logits)) if tokens is None else tokens
        self._data["logit"] = logits
        self._array = llama_cpp.llama_token_data_array(
            data=ctypes.cast(self._data.ctypes.data, ctypes.POINTER(llama_cpp.llama_token_data)),
            size=len(logits), selected=-1, sorted=False)
        self.ref = ctypes.byref(self._array)

    @property
    def selected(self) -> int:
        """What a sampler chain chose."""
        return self._array.data[self._array.selected].id

    @property
    def allowed(self) -> np.ndarray:
        """bool [n], after a grammar was applied."""
        return np.isfinite(self._data["logit"])


class Grammar:
    """A GBNF grammar and how far a text has followed it. free() it."""

    def __init__(self, gbnf: str, vocab: Vocab):
        take_error()
        self._sampler = llama_cpp.llama_sampler_init_grammar(vocab.ptr, gbnf.encode("utf-8"), b"root")
        if not self._sampler:
            raise PromptError(f"grammar: expected GBNF with a rule `root`, got: {take_error() or 'none'}")

    def allows(self, token: int) -> bool:
        one = Candidates(np.zeros(1, np.float32), np.array([token], np.int32))
        self.apply(one)
        return bool(one.allowed[0])

    def apply(self, candidates: Candidates) -> None:
        """Gives the tokens that may not come next a logit of minus infinity."""
        llama_cpp.llama_sampler_apply(self._sampler, candidates.ref)

    def accept(self, token: int) -> None:
        """Only a token that it allows: anything else ends the process."""
        llama_cpp.llama_sampler_accept(self._sampler, token)

    def free(self) -> None:
        if self._sampler:
            llama_cpp.llama_sampler_free(self._sampler)
            self._sampler = None

    def __del__(self):
        if getattr(self, "_sampler", None):
            self.free()
