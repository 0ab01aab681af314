"""What a call gives back: text as it comes, and what it cost."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


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
    error: Exception | None = None
    warnings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class Verdict:
    """What an intrinsic said of an answer's first `n_chars` characters; `error` if it could not."""

    name: str
    n_chars: int
    reply: Reply | None
    error: Exception | None = None
