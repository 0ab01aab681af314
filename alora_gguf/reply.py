"""What a call gives back: text as it comes, and what it cost."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .errors import copied


@dataclass(frozen=True)
class TokenLogprob:
    """One token of a reply, with the natural logarithm of its probability before any sampler.

    `text` is what the token adds to the reply: "" for the first bytes of a character that the next
    token ends. `top` has the most likely tokens in its place, the likeliest first.
    """

    text: str
    token: int
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class ToolCall:
    """A call that the model asks for: of the tool `name`, with `arguments` by their names. Its result names the `id`."""

    id: str
    name: str
    arguments: dict[str, Any]

    @property
    def message(self) -> dict[str, Any]:
        """One of `tool_calls` of an assistant's message, in OpenAI's form."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": json.dumps(self.arguments, ensure_ascii=False)}}


@dataclass(frozen=True)
class CallHead:
    """Which of an answer's tool calls a chunk is of: the `index`-th, from 0."""

    index: int
    id: str
    name: str


class Chunk(str):
    """Text as it comes. With logprobs=True it knows the TokenLogprobs that it is made of.

    kind   "text" of the answer, "reasoning": what the model thinks before it answers, or "tool_call": the next piece of the JSON
           of a call's arguments, of which the first is empty
    call   of a tool call: which one it is
    """

    logprobs: tuple[TokenLogprob, ...] = ()
    kind: str = "text"
    call: CallHead | None = None


@dataclass(frozen=True)
class Usage:
    """What a call cost.

    `cached_tokens` of the `prompt_tokens` were in the KV cache already and were not computed.
    `ttft_ms` is the time from the call to the first token, in milliseconds.
    `reasoning_tokens` of the `completion_tokens` are the model's thought, up to the one that ends it.
    """

    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    ttft_ms: float
    tokens_per_second: float
    reasoning_tokens: int = 0


@dataclass(frozen=True)
class Reply:
    """The text of one call.

    reasoning       what the model thought before it answered, which is no part of `text`
    finish_reason   "stop", "tool_calls", "length" or "cancelled"; "error" for one of several that failed
    stop_string     which of the stop strings ended it; None: none did
    tokens          all that were generated, also those of a stop string
    logprobs        with logprobs=True: of the tokens that `text` is made of; their texts concatenate to it
    verdicts        with watch=...: what the watchers said, in the order of the text that they judged
    tool_calls      what the model wants called, which is no part of `text`
    result          of an intrinsic with an io.yaml: what that makes of the text, None if the call was cancelled
    error           of one of several calls, as in invoke_all: what it failed with. After a ResultError the text is there, else none is
    warnings        lines about what is odd, as an adapter that is active nowhere in the prompt
    """

    text: str
    usage: Usage
    finish_reason: str
    tokens: list[int] = field(repr=False, default_factory=list)
    logprobs: list[TokenLogprob] = field(repr=False, default_factory=list)
    verdicts: list[Verdict] = field(repr=False, default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)
    result: Any = None
    reasoning: str = field(repr=False, default="")
    stop_string: str | None = None
    error: Exception | None = None
    warnings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Decision:
    """What a typed question was answered: nothing is generated, it is read from what could come next.

    kind            of the question: "predicate", "choice" or "score"
    probabilities   of True and False, of each option, or of each level from 0 on; they sum to 1
    likelihood      of an intrinsic whose io.yaml has one: what that makes of the probabilities
    error           what it failed with, as in Reply: there are no probabilities then, and whoever reads what came of it gets the error
    """

    kind: str
    probabilities: dict[Any, float]
    usage: Usage
    likelihood: float | None = None
    error: Exception | None = None
    warnings: list[str] = field(default_factory=list)

    @property
    def probability(self) -> float:
        """Of a predicate: that it is so. Of an intrinsic with a likelihood: that."""
        self._check()
        if self.kind != "predicate" and self.likelihood is None:
            raise AttributeError(f"probability: expected a predicate's decision, got a {self.kind}'s; read its probabilities")
        return self.probabilities[True] if self.likelihood is None else self.likelihood

    @property
    def choice(self) -> Any:
        """The likeliest value."""
        self._check()
        return max(self.probabilities, key=self.probabilities.__getitem__)

    @property
    def score(self) -> float:
        """The expected level."""
        self._check()
        if self.kind != "score":
            raise AttributeError(f"score: expected a score's decision, got a {self.kind}'s; read its probabilities")
        return float(sum(level * p for level, p in self.probabilities.items()))

    @property
    def confidence(self) -> float:
        """1 where one value has all of the probability, 0 where all have the same: without the share that the entropy has of the greatest."""
        self._check()
        n = len(self.probabilities)
        return 1.0 if n < 2 else max(0.0, 1.0 + sum(p * math.log(p) for p in self.probabilities.values() if p > 0) / math.log(n))

    def _check(self) -> None:
        if self.error is not None:
            raise copied(self.error)


class Decisions(dict[str, Decision]):
    """Those of one call, by the names of the questions, in their order.

    usage   of all together: what they share is counted once
    """

    def __init__(self, decisions: Mapping[str, Decision], usage: Usage):
        super().__init__(decisions)
        self.usage = usage


@dataclass(frozen=True)
class Verdict:
    """What an intrinsic said of an answer's first `n_chars` characters and `n_calls` calls of tools, or a question's decision; `error` if there is none."""

    name: str
    n_chars: int
    reply: Reply | None
    error: Exception | None = None
    n_calls: int = 0
    decision: Decision | None = None
