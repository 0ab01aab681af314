"""Grammars: which tokens may come next."""

import ctypes
import json
import math
import re
from typing import Any

import numpy as np

from ..errors import PromptError
from .library import llama_cpp, take_error
from .vocab import Vocab

_MOST = 100_000  # characters of a grammar or a schema
_DEEPEST = 2500  # parentheses; the parser calls itself for each
_TIMES = 2000  # llama.cpp's own limit for repetitions
_COUNTS = "minItems", "maxItems", "minLength", "maxLength"
_NOT_SYNTAX = re.compile(r'"(?:\\.|[^"\\])*"?|\[(?:\\.|[^\]\\])*\]?|<[^>]*>?|#[^\n]*', re.DOTALL)  # literals, characters, tokens, comments
_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama_token_data


def schema_to_gbnf(schema: dict[str, Any] | str) -> str:
    """The grammar of the JSON texts that a JSON schema allows. Raises PromptError."""
    from llama_cpp.llama_grammar import json_schema_to_gbnf

    try:
        text = schema if isinstance(schema, str) else json.dumps(schema)
        if len(text) > _MOST:
            raise PromptError(f"json_schema: expected at most {_MOST} characters, got {len(text)}; simplify it")
        _check_counts(json.loads(text))
        gbnf = json_schema_to_gbnf(text)
    except PromptError:
        raise
    except Exception as e:  # it raises whatever it stumbles over
        raise PromptError(f"json_schema: expected one that a grammar can be made of, got: {type(e).__name__}: {e}") from e
    return gbnf.replace(r'[^"\\]', r'[^"\\\x7F\x00-\x1F]')  # it would let line breaks into strings, which JSON does not have


def _check_counts(schema: Any) -> None:
    """Raises PromptError for a schema whose grammar would be written out beyond all memory."""
    left = [schema]
    while left:
        value = left.pop()
        left += value.values() if isinstance(value, dict) else value if isinstance(value, list) else []
        if not isinstance(value, dict):
            continue
        pattern = value.get("pattern")
        times = [max(int(n[:6] or 1) for n in found) for found in re.findall(r"\{(\d*),?(\d*)", pattern)] if isinstance(pattern, str) else []
        counts = {"pattern": math.prod(max(n, 1) for n in times), **{name: value.get(name) for name in _COUNTS}}
        for name, n in counts.items():
            if isinstance(n, (int, float)) and n > _TIMES:
                raise PromptError(f"json_schema: {name}: expected at most {_TIMES} repetitions, got more; ask for fewer")


def _checked(gbnf: str) -> str:
    """The grammar, with escapes for what a terminal obeys: the parser prints what it cannot read.

    Raises PromptError for one that the parser would not survive.
    """
    if len(gbnf) > _MOST:
        raise PromptError(f"grammar: expected at most {_MOST} characters, got {len(gbnf)}; simplify it")
    gbnf = "".join(c if c.isprintable() or c in "\n\t" else f"\\U{ord(c):08X}" for c in gbnf.replace("\r\n", "\n"))
    depth = deepest = 0
    for parenthesis in re.findall(r"[()]", _NOT_SYNTAX.sub("", gbnf)):
        depth += 1 if parenthesis == "(" else -1
        deepest = max(deepest, depth)
    if deepest > _DEEPEST:
        raise PromptError(f"grammar: expected at most {_DEEPEST} nested parentheses, got {deepest}; simplify it")
    return gbnf


class Candidates:
    """A llama_token_data_array of every token, or of those given."""

    def __init__(self, logits: np.ndarray, tokens: np.ndarray | None = None):
        self._data = np.zeros(len(logits), _TOKEN_DATA)
        self._data["id"] = np.arange(len(logits)) if tokens is None else tokens
        self._data["logit"] = logits
        self._array = llama_cpp.llama_token_data_array(
            data=ctypes.cast(self._data.ctypes.data, ctypes.POINTER(llama_cpp.llama_token_data)), size=len(logits), selected=-1, sorted=False
        )
        self.ref = ctypes.byref(self._array)

    @property
    def selected(self) -> int:
        """What a sampler chain chose."""
        return int(self._array.data[self._array.selected].id)

    @property
    def given_up(self) -> bool:
        """Whether a grammar was applied that could not be followed (native/alora-grammar.h)."""
        return bool(np.isnan(self._data["logit"]).all())

    @property
    def allowed(self) -> np.ndarray:
        """bool [n], after a grammar was applied."""
        return np.isfinite(self._data["logit"])


class Grammar:
    """A GBNF grammar and how far a text has followed it. free() it."""

    def __init__(self, gbnf: str, vocab: Vocab):
        gbnf = _checked(gbnf)
        take_error()
        self._sampler = llama_cpp.llama_sampler_init_grammar(vocab.ptr, gbnf.encode("utf-8"), b"root")
        if not self._sampler:
            raise PromptError(f"grammar: expected GBNF with a rule `root`, got: {take_error() or 'none'}")

    def allows(self, token: int) -> bool:
        one = Candidates(np.zeros(1, np.float32), np.array([token], np.int32))
        self.apply(one)
        return bool(one.allowed[0])

    def apply(self, candidates: Candidates) -> None:
        """Gives the tokens that may not come next a logit of minus infinity. Raises PromptError if it has too many ways to go on."""
        llama_cpp.llama_sampler_apply(self._sampler, candidates.ref)
        if candidates.given_up:
            raise PromptError("grammar: expected one that has few ways to go on after any text, got too many; make it less ambiguous")

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
