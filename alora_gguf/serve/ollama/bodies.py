"""Ollama's requests, each as a request of OpenAI's endpoints: what is read of them, and what is refused because it would be ignored."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from .. import fields
from ..body import Body
from ..problem import Problem

# what becomes of a field that has another name at OpenAI's endpoints
_OPTIONS = {
    "temperature": "temperature",
    "num_predict": "max_tokens",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "seed": "seed",
    "stop": "stop",
    "repeat_penalty": "repeat_penalty",
    "repeat_last_n": "repeat_last_n",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
NAMES = {
    **{ours: f"options.{theirs}" for theirs, ours in _OPTIONS.items()},
    "json_schema": "format",
    "reasoning_effort": "think",
    "enable_thinking": "think",
    "thinking_budget": "think",
}


class OllamaOptions(Body):
    inside: ClassVar[str] = "options."
    harmless: ClassVar[frozenset[str]] = fields.OLLAMA_OPTIONS_HARMLESS
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = fields.OLLAMA_OPTIONS_ONLY

    num_ctx: Annotated[int, Field(ge=0)] | None = None
    num_predict: int | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    repeat_penalty: float | None = None
    repeat_last_n: Annotated[int, Field(ge=-1)] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None


class OllamaFunction(Body):
    inside: ClassVar[str] = "messages.tool_calls.function."
    harmless: ClassVar[frozenset[str]] = frozenset({"index", "description"})
    name: str
    arguments: dict[str, Any] | None = None


class OllamaCall(Body):
    inside: ClassVar[str] = "messages.tool_calls."
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = {"type": ("function",)}
    id: str | None = None
    function: OllamaFunction


class OllamaMessage(Body):
    inside: ClassVar[str] = "messages."
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = {"images": ([],)}
    role: str
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[OllamaCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class Generates(Body):
    """What chats and completions have in common. `keep_alive` is read only where nothing is asked: then it says what the client did."""

    model: Annotated[str, Field(min_length=1)]
    stream: bool | None = None
    options: OllamaOptions | None = None
    format: Literal["", "json"] | dict[str, Any] | None = None
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    keep_alive: Any = None

    @property
    def streams(self) -> bool:
        return self.stream is not False

    @property
    def unloads(self) -> bool:
        """Whether it wants the model out of memory when it has been answered."""
        return re.fullmatch(r"0+(\.0*)?[a-z]*", str(self.keep_alive)) is not None

    @property
    def common(self) -> dict[str, Any]:
        """As chats and completions of OpenAI have it."""
        options = self.options or OllamaOptions()
        given: dict[str, Any] = {ours: getattr(options, theirs) for theirs, ours in _OPTIONS.items()}
        if given["max_tokens"] in (None, -2):  # until the context is full
            given["max_tokens"] = -1
        if self.format:
            given["json_schema"] = {"type": "object"} if self.format == "json" else self.format
        return {**given, "model": self.model}


class OllamaChat(Generates):
    harmless: ClassVar[frozenset[str]] = fields.OLLAMA_HARMLESS
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = fields.OLLAMA_ONLY

    messages: list[OllamaMessage] = Field(default_factory=list)
    tools: list[dict[str, Any]] | None = None

    @property
    def asked(self) -> dict[str, Any]:
        """As a chat of OpenAI's."""
        said = [m for m in self.messages if not _document_of(m)]
        documents = [document for m in self.messages if (document := _document_of(m))]
        return {
            **self.common,
            "messages": list(_said(said)),
            "documents": documents or None,
            "tools": self.tools or None,
            "logprobs": self.logprobs,
            "top_logprobs": self.top_logprobs if self.logprobs else None,
        }


class OllamaGenerate(Generates):
    harmless: ClassVar[frozenset[str]] = fields.OLLAMA_HARMLESS
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = fields.OLLAMA_ONLY_GENERATE

    prompt: str = ""
    system: str | None = None
    raw: bool | None = None

    @property
    def asked(self) -> dict[str, Any]:
        """As a chat of OpenAI's, or raw as a completion. Raises Problem."""
        if self.raw:
            for name in ("system", "think"):
                if getattr(self, name):
                    raise Problem(400, f"{name}: expected none beside raw, got one; write it into the prompt", param=name)
            return {**self.common, "prompt": self.prompt, "logprobs": (self.top_logprobs or 0) if self.logprobs else None}
        system = [{"role": "system", "content": self.system}] if self.system else []
        return {
            **self.common,
            "messages": [*system, {"role": "user", "content": self.prompt}],
            "logprobs": self.logprobs,
            "top_logprobs": self.top_logprobs if self.logprobs else None,
        }


class OllamaName(Body):
    """A request about a model; `name` is the older name of `model`."""

    harmless: ClassVar[frozenset[str]] = frozenset({"verbose", "system", "template", "options", "insecure", "username", "password"})
    one_of: ClassVar[tuple[str, ...]] = ("model", "name")
    model: str | None = None
    name: str | None = None
    stream: bool | None = None


class OllamaEmbed(Body):
    harmless: ClassVar[frozenset[str]] = frozenset({"keep_alive", "options", "truncate"})
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = {"dimensions": (0,)}
    model: Annotated[str, Field(min_length=1)]
    input: str | list[str]


class OllamaEmbeddings(Body):
    harmless: ClassVar[frozenset[str]] = frozenset({"keep_alive", "options"})
    model: Annotated[str, Field(min_length=1)]
    prompt: str


def _document_of(message: OllamaMessage) -> dict[str, Any] | None:
    """What a message of Granite's role "document", or "document ID", is a document of."""
    role, _, doc_id = message.role.partition(" ")
    if role.lower() != "document":
        return None
    return {"text": message.content or "", **({"doc_id": doc_id} if doc_id else {})}


def _said(messages: Sequence[OllamaMessage]) -> Iterator[dict[str, Any]]:
    """OpenAI's messages. A result without the id of its call is of the first call without a result, or of the first that has its name."""
    waiting: list[tuple[str, str]] = []
    n = 0
    for message in messages:
        said: dict[str, Any] = {"role": message.role.lower(), "content": message.content}
        if message.thinking:
            said["reasoning_content"] = message.thinking
        if message.tool_calls:
            said["tool_calls"] = []
        for call in message.tool_calls or ():
            n += 1
            waiting.append((call.id or f"call{n:05}", call.function.name))
            function = {"name": call.function.name, "arguments": call.function.arguments or {}}
            said["tool_calls"].append({"id": waiting[-1][0], "type": "function", "function": function})
        if message.tool_name is not None:
            said["name"] = message.tool_name
        if said["role"] == "tool" or message.tool_call_id:
            own = [call for call in waiting if message.tool_call_id in (None, call[0]) and message.tool_name in (None, call[1])]
            if own:
                waiting.remove(own[0])
            if message.tool_call_id or own:
                said["tool_call_id"] = message.tool_call_id or own[0][0]
        yield said
