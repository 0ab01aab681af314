"""Constraints: which tokens may come next. llguidance finds them."""

from __future__ import annotations

import itertools
import json
import re
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from ..errors import PromptError
from ..text import printable
from .gbnf import gbnf_to_lark, is_lark, lark_literal
from .schema import enforceable
from .workers import Job, Workers

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

    from .vocab import Vocab

Made = TypeVar("Made")

KINDS = "json_schema", "grammar", "regex", "choice"
_MOST = 100_000  # characters of a constraint
_TIMES = 10_000  # repetitions that expressions ask for: what they force is written out
_MOST_COMPILED = 32
_MOST_STATES = 50_000  # of a lexer, some 2 KB each
_STACK = 64 << 20  # bytes: llguidance calls itself for each rule of a chain
_AS_DUMPED: JsonCompileOptions = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}  # as json.dumps writes
FLEXIBLE = {"whitespace_pattern": r" |\n[ \t]{0,20}"}  # a schema's x-guidance where a text may have space between words
_EXPECTED = {
    "json_schema": "one that can be enforced",
    "grammar": "GBNF with a rule `root`, or Lark with a rule `start`",
    "regex": "a regular expression without look-around and references back",
    "choice": "texts",
    "tools": "schemas of arguments that can be enforced",
}
_STARTING = threading.Lock()
SECONDS = 1.0  # that it may take to find what comes next
_STRICT: JsonCompileOptions = {"lenient": False, "coerce_one_of": False}


class Constraint:
    """How far a text has followed a constraint. No two threads may call it at once; where a worker looks, what changes it waits for that."""

    def __init__(self, name: str, matcher: LLMatcher, vocab: Vocab):
        self._name = name
        self._matcher = matcher
        self._n_tokens = n_tokens = vocab.n_tokens
        self._ends = vocab.ends
        self._forced: deque[int] | None = None  # the next tokens, as far as they are known; None: not looked for
        self._mask = np.zeros((n_tokens + 32) // 32, np.uint32)  # one bit a token, and one for the end where there is no token for it
        self._job: Job[tuple[np.ndarray, bool] | None] | None = None  # what looks for the next ones, or has

    @property
    def is_over(self) -> bool:
        """Whether nothing can follow but the end."""
        return not self.is_looking and self._matcher.is_stopped() and not self._matcher.is_error()

    def look(self, workers: Workers) -> Job:
        """Has a worker find what may come next, if none does yet. What it raises is raised where that is asked for."""
        if self._job is None:
            self._job = workers.submit(lambda: None if self._next_forced(1) else self._find_allowed())
        return self._job

    @property
    def is_looking(self) -> bool:
        return self._job is not None and not self._job.done

    def settle(self) -> None:
        """Waits for the worker."""
        if self._job is not None:
            self._job.wait()

    def too_slow(self) -> PromptError:
        return PromptError(f"{self._name}: expected one whose next tokens are found within {SECONDS:g} s, got one that takes longer; simplify it")

    def forced(self, n_most: int) -> list[int]:
        """The tokens that have to come next, as the tokenizer divides their text: up to one that could be longer, and at most so many."""
        self.settle()
        return self._next_forced(n_most)

    def allows(self, token: int) -> bool:
        self.settle()
        return self._matcher.validate_tokens([token]) == 1

    def allowed(self) -> tuple[np.ndarray, bool]:
        """(tokens, True): those that may come next, none at the end or where a text leads nowhere. Where many may: (float32 [n_tokens], False),
        what to add to the logits: 0, or minus infinity for one that may not."""
        self.settle()
        found = self._job.result() if self._job is not None else None
        return self._find_allowed() if found is None else found

    def accept(self, token: int) -> None:
        """A token that it allows."""
        self.settle()
        self._job = None  # what it found is of the text before
        if self._forced and self._forced[0] == token and len(self._forced) > 1:
            self._forced.popleft()
        else:
            self._forced = None
        self._matcher.consume_token(token)
        self._check()

    def _next_forced(self, n_most: int) -> list[int]:
        if self._forced is None:
            self._forced = deque(() if self._matcher.is_stopped() else self._matcher.compute_ff_tokens())
            self._check()
        return list(itertools.takewhile(lambda token: token not in self._ends, itertools.islice(self._forced, n_most)))

    def _find_allowed(self) -> tuple[np.ndarray, bool]:
        self._check()
        if self._matcher.is_stopped():
            return np.zeros(0, np.int64), True
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        self._check()
        mask = self._mask.view(np.uint8)[: -(-self._n_tokens // 8)]
        is_few = 4 * np.count_nonzero(mask) < len(mask)
        if not is_few:
            return _added().take(mask, axis=0).reshape(-1)[: self._n_tokens], False
        tokens = _ones(mask)
        return tokens[: np.searchsorted(tokens, self._n_tokens)], True

    def _check(self) -> None:
        if self._matcher.is_error():
            raise _refused(self._name, "one that has few ways to go on after any text", self._matcher.get_error())


class Constraints:
    """The constraints of one vocabulary: its tables, made by the first, and what was compiled last. Any thread may call it."""

    def __init__(self, vocab: Vocab):
        self._vocab = weakref.ref(vocab)  # which owns this
        self._lock = threading.Lock()
        self._tables: LLTokenizer | None = None
        self._compiled: OrderedDict[tuple[str, str], LLMatcher] = OrderedDict()

    def constraint(self, name: str, value: Any) -> Constraint:
        """One of KINDS, or the Lark of "tools", at the beginning of a text. Raises PromptError."""
        grammar = grammar_of(name, value)
        with self._lock:
            matcher = self._compiled.get((name, grammar))
            if matcher is not None:
                self._compiled.move_to_end((name, grammar))
        if matcher is None:
            matcher = _with_stack(lambda: self._compile(name, grammar))
            with self._lock:
                self._compiled[name, grammar] = matcher
                while len(self._compiled) > _MOST_COMPILED:
                    self._compiled.popitem(last=False)
        return Constraint(name, matcher.deep_copy(), self._known)

    def _compile(self, name: str, grammar: str) -> LLMatcher:
        from llguidance import LLMatcher, LLParserLimits

        matcher = LLMatcher(self.tables, grammar, log_level=0, limits=LLParserLimits(max_lexer_states=_MOST_STATES, verbose_errors=False))
        if matcher.is_error():
            raise _refused(name, _EXPECTED[name], matcher.get_error())
        if not any(matcher.compute_bitmask()) or matcher.is_error():
            raise _refused(name, "one that some text follows", matcher.get_error() if matcher.is_error() else "one that none does")
        return matcher

    @property
    def tables(self) -> LLTokenizer:
        with self._lock:
            if self._tables is None:
                self._tables = _tables(self._known)
            return self._tables

    @property
    def _known(self) -> Vocab:
        vocab = self._vocab()
        assert vocab is not None  # whoever calls this has it
        return vocab


def grammar_of(name: str, value: Any) -> str:
    """What llguidance compiles. JSON is written as json.dumps does, if a schema's x-guidance says nothing else. Raises PromptError."""
    from llguidance import LLMatcher

    if name == "json_schema":
        schema = enforceable(schema_of(value))
        try:
            options: JsonCompileOptions = {} if schema.get("x-guidance") else _AS_DUMPED
            made: str = LLMatcher.grammar_from_json_schema(json.dumps(schema), defaults=options, overrides=_STRICT)
        except ValueError as e:  # x-guidance
            raise _refused(name, _EXPECTED[name], str(e)) from e
        return made
    if name == "choice":
        return LLMatcher.grammar_from_lark(_lark_of(_choices(value)))
    text = _text(name, value)
    _check_times(name, text)
    if name == "regex":
        return LLMatcher.grammar_from_regex(text)
    return LLMatcher.grammar_from_lark(text if is_lark(text) else gbnf_to_lark(text))


def _tables(vocab: Vocab) -> LLTokenizer:
    from llguidance import LLTokenizer, TokenizerWrapper

    return LLTokenizer(TokenizerWrapper(_Tokenizer(vocab)), eos_token=vocab.ends or [vocab.n_tokens])


class _Tokenizer:
    """A vocabulary as llguidance wants it, with one token more, which is the end where there is none."""

    def __init__(self, vocab: Vocab):
        self._vocab = weakref.ref(vocab)  # which owns what owns this
        self.eos_token_id = vocab.ends[0] if vocab.ends else vocab.n_tokens
        self.bos_token_id = vocab.bos if vocab.bos >= 0 else None
        self.tokens = [*vocab.pieces(), b""]
        self.special_token_ids = [*vocab.control_tokens, vocab.n_tokens]

    def __call__(self, text: str) -> list[int]:
        vocab = self._vocab()
        return vocab.tokenize_more(text, special=False) if vocab else []


def _with_stack(function: Callable[[], Made]) -> Made:
    """Calls it on a thread that has enough of it."""
    done: list[Made] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            done.append(function())
        except BaseException as e:
            errors.append(e)

    thread = threading.Thread(target=run, name="alora_gguf constraint")
    with _STARTING:
        before = threading.stack_size(_STACK)
        try:
            thread.start()
        finally:
            threading.stack_size(before)
    thread.join()
    if errors:
        raise errors[0]
    return done[0]


def schema_of(value: Any) -> Any:
    """A schema that is given as such or as its JSON. Raises PromptError."""
    try:
        text = value if isinstance(value, str) else json.dumps(value)
        if len(text) > _MOST:
            raise PromptError(f"json_schema: expected at most {_MOST} characters, got {len(text)}; simplify it")
        return json.loads(text)
    except (TypeError, ValueError, RecursionError) as e:
        raise _refused("json_schema", "a JSON schema", f"{type(e).__name__}: {e}") from e


def _text(name: str, value: Any) -> str:
    wanted = "a regular expression" if name == "regex" else "GBNF text" if name == "grammar" else "texts" if name == "choice" else "Lark"
    if not isinstance(value, str):
        raise PromptError(f"{name}: expected {wanted}, got {value!r:.80}")
    if len(value) > _MOST:
        raise PromptError(f"{name}: expected at most {_MOST} characters, got {len(value)}; simplify it")
    if any("\ud800" <= c <= "\udfff" for c in value):
        raise PromptError(f"{name}: expected Unicode text, got half a character")
    return value


def _choices(value: Any) -> list[str]:
    if not isinstance(value, Sequence) or isinstance(value, str) or not value:
        raise PromptError(f"choice: expected a list of texts, got {value!r:.80}")
    texts = [_text("choice", text) for text in value]
    if not all(texts) or sum(map(len, texts)) > _MOST:
        raise PromptError(f"choice: expected texts that are not empty, of at most {_MOST} characters in all, got others")
    return texts


def _check_times(name: str, text: str) -> None:
    """Raises PromptError where an expression would be repeated beyond all memory."""
    sizes, last = [0.0], 0.0  # of each open group, and of what was read last
    for token in re.findall(r"\\.|\[(?:\\.|[^\]\\])*\]|\{\d*,?\d*\}|.", text, re.DOTALL):
        times = [int(n[:9]) for n in re.findall(r"\d+", token)] if token[0] == "{" else []
        if token == "(":
            sizes.append(0.0)
            last = 0.0
        elif token == ")" and len(sizes) > 1:
            last = sizes.pop()
            sizes[-1] += last
        elif times:
            sizes[-1] += last * (max(times) - 1)
            last *= max(times)
        else:
            last = 1.0
            sizes[-1] += last
        if sizes[-1] > _TIMES + len(text):
            raise PromptError(f"{name}: expected at most {_TIMES} repetitions, got more; ask for fewer")


def _lark_of(choices: Sequence[str]) -> str:
    return f"start: CHOICE\nCHOICE: {' | '.join(map(lark_literal, choices))}"


@cache
def _added() -> np.ndarray:
    """float32 [256, 8]: of each byte of a mask, what to add to the logits of its tokens."""
    bits = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1, bitorder="little")
    return np.where(bits, np.float32(0), np.float32(-np.inf))


def _ones(bits: np.ndarray) -> np.ndarray:
    """The numbers of the bits that are set, of uint8 with the lowest first. Bytes of zeros cost next to nothing."""
    at = np.flatnonzero(bits)
    found = np.flatnonzero(np.unpackbits(bits[at], bitorder="little"))
    return at[found >> 3] * 8 + (found & 7)


def _refused(name: str, expected: str, got: str) -> PromptError:
    """llguidance's own words, where they are no keyword's."""
    if keys := re.match(r"Unimplemented keys: \[(.*?)\]", got):
        return PromptError(f"{name}: expected keywords that can be enforced, got {printable(keys[1].replace(chr(34), chr(39)))}; leave them out")
    if got.startswith("oneOf constraints"):
        return PromptError(f"{name}: expected keywords that can be enforced, got 'oneOf' of schemas that overlap; write anyOf")
    lines = [line.strip() for line in got.splitlines() if line.strip()] or ["no reason given"]
    said = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0])  # that of regular expressions is below
    return PromptError(f"{name}: expected {expected}, got: {printable(said)}")
