"""How the next token is chosen: llama.cpp's samplers, made from the usual arguments, within a constraint."""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache, partial
from math import inf
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..errors import PromptError
from .constraint import KINDS, Constraint
from .library import llama_cpp
from .vocab import Vocab
from .workers import Workers


@dataclass(frozen=True)
class SamplingParams:
    """The usual arguments, with llama.cpp's meaning. Raises PromptError.

    temperature    0 is greedy
    top_k          0 is all
    seed           None is another each time
    thinking_budget   tokens that a model which thinks may think before it answers, in all; 0: it answers at once, None: as many as it likes
    stop           the answer ends before the first of these strings
    stop_token_ids the answer ends before the first of these tokens
    min_tokens     it does not end before it has so many, neither of itself nor by one of those
    ignore_eos     it does not end of itself
    logit_bias     what is added to the logits of these tokens, by their ids, before all else: -100 to 100
    json_schema    what the answer has to follow: JSON of this schema, written as json.dumps writes; or one of grammar, which is GBNF
                   with a rule `root` or Lark with a rule `start`, regex, all of it, or choice, one of several texts
    logprobs       the reply has the log probability of each token, and of `top_logprobs` likely ones in its place
    """

    max_tokens: int = 512
    temperature: float = 0.2
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    penalty_last_n: int = 64
    seed: int | None = None
    thinking_budget: int | None = None
    stop: str | Sequence[str] | None = ()
    stop_token_ids: Sequence[int] = ()
    min_tokens: int = 0
    ignore_eos: bool = False
    grammar: str | None = None
    json_schema: dict[str, Any] | str | None = None
    regex: str | None = None
    choice: Sequence[str] | None = None
    logprobs: bool = False
    top_logprobs: int = 0
    logit_bias: Mapping[int, float] | None = None

    def __post_init__(self) -> None:
        for name, kind, least, most, wanted in _RANGES:
            value = getattr(self, name)
            if not (isinstance(value, kind) and least <= value <= most):
                raise PromptError(f"{name}: expected {wanted}, got {value!r}")
        if not (self.seed is None or isinstance(self.seed, Integral)):
            raise PromptError(f"seed: expected a whole number or None, got {self.seed!r}")
        if not (self.thinking_budget is None or (isinstance(self.thinking_budget, Integral) and self.thinking_budget >= 0)):
            raise PromptError(f"thinking_budget: expected a whole number from 0 on or None, got {self.thinking_budget!r}")
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or ()
        if not (isinstance(stop, Sequence) and all(isinstance(s, str) and s for s in stop)):
            raise PromptError(f"stop: expected strings that are not empty, got {self.stop!r}")
        object.__setattr__(self, "stop", tuple(stop))
        if not (isinstance(self.stop_token_ids, Sequence) and all(isinstance(token, Integral) for token in self.stop_token_ids)):
            raise PromptError(f"stop_token_ids: expected ids of tokens, got {self.stop_token_ids!r:.80}")
        if self.min_tokens > self.max_tokens:
            raise PromptError(f"min_tokens: expected at most max_tokens, {self.max_tokens}, got {self.min_tokens}")
        bias = {} if self.logit_bias is None else self.logit_bias
        if not (isinstance(bias, Mapping) and all(_is_bias(token, value) for token, value in bias.items())):
            raise PromptError(f"logit_bias: expected ids of tokens, each with a number from -100 to 100, got {bias!r:.80}")
        given = [name for name in KINDS if getattr(self, name) is not None]
        if len(given) > 1:
            raise PromptError(f"{', '.join(KINDS)}: expected one of them, got {' and '.join(given)}")

    def constraint(self, vocab: Vocab) -> Constraint | None:
        """What the reply has to follow, from its beginning. Raises PromptError."""
        for name in KINDS:
            if (value := getattr(self, name)) is not None:
                return vocab.constraints.constraint(name, value)
        return None

    @classmethod
    def of(cls, given: Mapping[str, Any], **defaults: Any) -> "SamplingParams":
        """From keyword arguments; an unknown one is refused by name."""
        known = cls.names()
        for name in given:
            if name not in known:
                raise PromptError(f"{name}: expected one of {', '.join(sorted(known))}, got an unknown argument")
        return cls(**{**defaults, **given})

    @classmethod
    def names(cls) -> set[str]:
        return {f.name for f in fields(cls)}


_INT, _FLOAT = 2**31 - 1, 3.4e38  # the most that C's types hold
_RANGES: tuple[tuple[str, Any, float, float, str], ...] = (  # name, type, least, most, in words
    ("max_tokens", Integral, 1, inf, "a whole number from 1 on"),
    ("min_tokens", Integral, 0, inf, "a whole number from 0 on"),
    ("temperature", Real, 0, _FLOAT, "a number from 0 on"),
    ("top_k", Integral, -_INT, _INT, "a whole number"),
    ("top_p", Real, 0, 1, "a number from 0 to 1"),
    ("min_p", Real, 0, 1, "a number from 0 to 1"),
    ("repeat_penalty", Real, 1e-30, _FLOAT, "a number above 0"),
    ("frequency_penalty", Real, -_FLOAT, _FLOAT, "a number"),
    ("presence_penalty", Real, -_FLOAT, _FLOAT, "a number"),
    ("top_logprobs", Integral, 0, 100, "a whole number from 0 to 100"),
    ("penalty_last_n", Integral, 0, _INT, "a whole number from 0 on"),
)


def _is_bias(token: object, value: object) -> bool:
    return isinstance(token, Integral) and isinstance(value, Real) and -100 <= float(value) <= 100


_FEW = 3
_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])  # llama_token_data


class Candidates:
    """A llama_token_data_array of every token, or of those given, by their logits."""

    def __init__(self, logits: np.ndarray, tokens: np.ndarray | None = None):
        self._data = np.empty(len(logits), _TOKEN_DATA)
        self.refill(logits, tokens)

    def refill(self, logits: np.ndarray, tokens: np.ndarray | None = None) -> None:
        """With as many others; a sampler chain has moved what there was."""
        self._data["id"] = _ids(len(logits)) if tokens is None else tokens
        self._data["logit"] = logits
        self._array = llama_cpp.llama_token_data_array(
            data=ctypes.cast(self._data.ctypes.data, ctypes.POINTER(llama_cpp.llama_token_data)), size=len(logits), selected=-1, sorted=False
        )
        self.ref = ctypes.byref(self._array)

    @property
    def selected(self) -> int:
        """What a sampler chain chose."""
        return int(self._array.data[self._array.selected].id)


class Sampler:
    """A llama_sampler chain with its own state, and a constraint if one is asked for. free() it.

    It follows `constraint`, if one is given, else that of the params.
    Raises PromptError for a constraint that is none, and for a biased token that there is not.
    """

    _chain: Any = None
    _candidates: Candidates | None = None
    _workers: Workers | None = None

    def __init__(self, params: SamplingParams, vocab: Vocab, prompt: Sequence[int], constraint: Constraint | None = None):
        self.constraint = params.constraint(vocab) if constraint is None else constraint
        if self.constraint is not None:
            self.constraint.forced(0)  # looked for here, and not where it is asked for first
        self._end = vocab.ends[0] if vocab.ends else vocab.eos
        bias = params.logit_bias or {}
        for token in bias:
            if not 0 <= token < vocab.n_tokens:
                raise PromptError(f"logit_bias: expected tokens from 0 to {vocab.n_tokens - 1}, got {token}")
        self._biased = np.fromiter(bias.keys(), np.int64, len(bias))
        self._bias = np.fromiter(bias.values(), np.float32, len(bias))
        chain = llama_cpp.llama_sampler_chain_init(llama_cpp.llama_sampler_chain_default_params())
        add = partial(llama_cpp.llama_sampler_chain_add, chain)
        penalised = params.repeat_penalty != 1.0 or params.frequency_penalty or params.presence_penalty
        if penalised and params.penalty_last_n:
            add(
                llama_cpp.llama_sampler_init_penalties(
                    vocab.n_tokens, params.penalty_last_n, params.repeat_penalty, params.frequency_penalty, params.presence_penalty
                )
            )
            for token in prompt[-params.penalty_last_n :]:
                llama_cpp.llama_sampler_accept(chain, token)
        if params.temperature == 0:
            add(llama_cpp.llama_sampler_init_greedy())
        else:
            add(llama_cpp.llama_sampler_init_top_k(params.top_k))
            add(llama_cpp.llama_sampler_init_top_p(params.top_p, 1))
            add(llama_cpp.llama_sampler_init_min_p(params.min_p, 1))
            add(llama_cpp.llama_sampler_init_temp(params.temperature))
            by_chance = llama_cpp.LLAMA_DEFAULT_SEED  # the largest u32, which no seed may become
            seed = by_chance if params.seed is None else params.seed % by_chance
            add(llama_cpp.llama_sampler_init_dist(seed))
        self._is_argmax = params.temperature == 0 and not penalised
        self._chain = chain

    def look_ahead(self, workers: Workers, *, constrained: bool = True) -> None:
        """Has a worker look for what the constraint allows next, and from now on wherever that has to be known."""
        self._workers = workers
        if constrained and self.constraint is not None and not (self._is_argmax or self.constraint.is_over):  # greedy, a token or two is asked for
            self.constraint.look(workers)

    def sample(self, logits: np.ndarray, *, constrained: bool = True) -> int | None:
        """The next token, by float32 [n_vocab]; the sampler has accepted it. A thought is not `constrained`.

        What is forced is not drawn: the seed's numbers are for what is free. -1 or an end: nothing can come next.
        None: a worker has not found yet what is allowed; then nothing has changed.
        """
        constraint = self.constraint if constrained else None
        if len(self._biased):
            logits = logits.copy()
            logits[self._biased] += self._bias
        if constraint is None:
            token = int(logits.argmax()) if self._is_argmax else self._pick(self._all(logits))  # what the chain says, several times as fast
        elif constraint.is_looking:
            return None
        elif forced := self.take_forced(1):
            return forced[0]
        else:
            picked = self._pick_allowed(logits, constraint)
            if picked is None:
                return None
            token = picked
            if token < 0:
                return self._end
            constraint.accept(token)
        llama_cpp.llama_sampler_accept(self._chain, token)
        return token

    def take_forced(self, n_most: int) -> list[int]:
        """The tokens that the constraint forces to come next, at most so many; the sampler has accepted them."""
        if self.constraint is None:
            return []
        forced = self.constraint.forced(n_most)
        for token in forced:
            self.constraint.accept(token)
            llama_cpp.llama_sampler_accept(self._chain, token)
        return forced

    def write(self, tokens: Sequence[int]) -> None:
        """Tokens that come next whatever the constraint says, as a thought's end: the penalties know them."""
        for token in tokens:
            llama_cpp.llama_sampler_accept(self._chain, token)

    def constrain(self, constraint: Constraint, tokens: Sequence[int]) -> None:
        """From now on it follows a constraint that began with these tokens, if they follow it too."""
        for token in tokens:
            if not constraint.allows(token):
                return
            constraint.accept(token)
        self.constraint = constraint

    @property
    def is_over(self) -> bool:
        """Whether the constraint lets nothing follow but the end."""
        return self.constraint is not None and self.constraint.is_over

    def _pick_allowed(self, logits: np.ndarray, constraint: Constraint) -> int | None:
        """-1: none is. None: it is not known yet which are."""
        if self._is_argmax and (token := _likeliest(logits, constraint)) >= 0:
            return token
        if self._workers is not None and not constraint.look(self._workers).done:
            return None
        tokens, are_few = constraint.allowed()
        if not are_few:
            return self._pick(self._all(logits + tokens))
        if len(tokens) < 2:
            return int(tokens[0]) if len(tokens) else -1
        return self._pick(Candidates(logits[tokens], tokens))

    def _all(self, logits: np.ndarray) -> Candidates:
        """In memory that is touched already, which is the greater part of the time."""
        if self._candidates is None:
            self._candidates = Candidates(logits)
        else:
            self._candidates.refill(logits)
        return self._candidates

    def _pick(self, candidates: Candidates) -> int:
        llama_cpp.llama_sampler_apply(self._chain, candidates.ref)
        return candidates.selected

    def free(self) -> None:
        if self._chain:
            llama_cpp.llama_sampler_free(self._chain)
            self._chain = None

    def __del__(self) -> None:
        self.free()


@cache
def _ids(n: int) -> np.ndarray:
    return np.arange(n, dtype=np.int32)


def _likeliest(logits: np.ndarray, constraint: Constraint) -> int:
    """The likeliest token that is allowed, if it is among the likeliest _FEW; else -1. It is found without a look at every other."""
    left_out: list[tuple[int, float]] = []
    token = int(logits.argmax())
    while not constraint.allows(token):
        left_out.append((token, logits[token]))
        logits[token] = -inf
        token = -1 if len(left_out) == _FEW else int(logits.argmax())
        if token < 0:
            break
    for other, logit in left_out:
        logits[other] = logit
    return token
