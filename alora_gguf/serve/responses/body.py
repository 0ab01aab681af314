"""Requests of OpenAI's Responses: what is read of them, as a chat."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from .. import fields
from ..body import Body, Chat, ResponseFormat
from ..door import Door, tagged
from ..problem import Problem

_PARTS = "input_text", "output_text", "text", "refusal"
_ITEMS = "message", "function_call", "function_call_output", "reasoning"
_LOGPROBS = "message.output_text.logprobs"
_ON_FULL = {"auto": "drop-oldest", "disabled": "error"}


class TextPart(Body):
    inside: ClassVar[str] = "input.content."
    harmless: ClassVar[frozenset[str]] = frozenset({"annotations", "logprobs", "parsed", "prompt_cache_breakpoint"})
    type: Literal["input_text", "output_text", "text"]
    text: str

    @property
    def said(self) -> str:
        return self.text


class Refusal(Body):
    inside: ClassVar[str] = "input.content."
    type: Literal["refusal"]
    refusal: str

    @property
    def said(self) -> str:
        return self.refusal


def _part(value: Any) -> str:
    return "refusal" if tagged("input.content", *_PARTS)(value) == "refusal" else "text"


Content = str | list[Annotated[Annotated[TextPart, Tag("text")] | Annotated[Refusal, Tag("refusal")], Discriminator(_part)]]


class MessageItem(Body):
    inside: ClassVar[str] = "input."
    harmless: ClassVar[frozenset[str]] = frozenset({"id", "status", "phase"})
    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: Content


class CallItem(Body):
    inside: ClassVar[str] = "input."
    harmless: ClassVar[frozenset[str]] = frozenset({"id", "status", "parsed_arguments", "caller"})
    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str


class ResultItem(Body):
    inside: ClassVar[str] = "input."
    harmless: ClassVar[frozenset[str]] = frozenset({"id", "status", "caller"})
    type: Literal["function_call_output"]
    call_id: str
    output: Content


class Thought(Body):
    inside: ClassVar[str] = "input."
    type: Literal["reasoning_text", "summary_text"]
    text: str


class ReasoningItem(Body):
    inside: ClassVar[str] = "input."
    harmless: ClassVar[frozenset[str]] = frozenset({"id", "status"})
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = {"encrypted_content": ("",)}
    type: Literal["reasoning"]
    content: list[Thought] | None = None
    summary: list[Thought] | None = None


Item = Annotated[
    Annotated[MessageItem, Tag("message")]
    | Annotated[CallItem, Tag("function_call")]
    | Annotated[ResultItem, Tag("function_call_output")]
    | Annotated[ReasoningItem, Tag("reasoning")],
    Discriminator(tagged("input", *_ITEMS, otherwise="message")),
]


class Function(Body):
    inside: ClassVar[str] = "tools."
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = {"allowed_callers": (["direct"],), "defer_loading": (False,), "async": (False,)}
    type: Literal["function"]
    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None

    @property
    def of_chat(self) -> dict[str, Any]:
        return {"type": "function", "function": self.model_dump(exclude={"type"}, exclude_none=True)}


class Named(Body):
    inside: ClassVar[str] = "tool_choice."
    type: Literal["function"]
    name: str


class Allowed(Body):
    inside: ClassVar[str] = "tool_choice."
    type: Literal["allowed_tools"]
    mode: Literal["auto", "required"]
    tools: list[Named]


class TextFormat(ResponseFormat):
    """As in chats, but with the schema and its name beside the type."""

    inside: ClassVar[str] = "text.format."
    harmless: ClassVar[frozenset[str]] = frozenset()
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = {"json_schema": ()}
    name: str | None = None
    description: str | None = None
    strict: bool | None = None

    @property
    def echo(self) -> dict[str, Any]:
        named = {"name": self.name or "", "schema": self.schema_of} if self.schema_of is not None else {}
        return {**self.model_dump(include={"type", "description", "strict"}, exclude_none=True), **named}


class Text(Body):
    inside: ClassVar[str] = "text."
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = {"verbosity": ("medium",)}
    format: TextFormat | None = None


class Reasoning(Body):
    inside: ClassVar[str] = "reasoning."
    harmless: ClassVar[frozenset[str]] = frozenset({"summary", "generate_summary"})  # the thought itself is there
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = {"context": ("auto",), "mode": ("standard",)}
    effort: str | None = None


class Responses(Door):
    named: ClassVar[Mapping[str, str]] = {
        "messages": "input",
        "max_tokens": "max_output_tokens",
        "response_format": "text.format",
        "json_schema": "text.format",
        "reasoning_effort": "reasoning.effort",
    }
    harmless: ClassVar[frozenset[str]] = fields.harmless(fields.RESPONSES_WHY)
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = fields.RESPONSES_ONLY

    input: str | list[Item]
    instructions: str | None = None
    max_output_tokens: Annotated[int, Field(ge=1)] | None = None
    stop: str | list[str] | None = None
    tools: list[Annotated[Annotated[Function, Tag("function")], Discriminator(tagged("tools", "function"))]] | None = None
    tool_choice: Literal["none", "auto", "required"] | Annotated[
        Annotated[Named, Tag("function")] | Annotated[Allowed, Tag("allowed_tools")],
        Discriminator(tagged("tool_choice", "function", "allowed_tools")),
    ] | None = None  # fmt: skip
    parallel_tool_calls: bool | None = None
    text: Text | None = None
    reasoning: Reasoning | None = None
    include: list[str] | None = None
    top_logprobs: int | None = None
    metadata: dict[str, Any] | None = None
    truncation: Literal["auto", "disabled"] | None = None

    def as_chat(self) -> Chat:
        """Raises Problem."""
        for name in self.include or ():
            if name not in fields.INCLUDE:
                raise Problem(400, f"include: expected some of {', '.join(fields.INCLUDE)}, got {name!r:.60}; leave it out", param="include")
        choice: Any = self.tool_choice
        tools = self.tools
        if isinstance(choice, Allowed):
            names = {tool.name for tool in choice.tools}
            tools, choice = [tool for tool in tools or () if tool.name in names], choice.mode
        wants = _LOGPROBS in (self.include or ()) or bool(self.top_logprobs)
        return self.chat(
            messages=list(self._messages()),
            max_tokens=self.max_output_tokens,
            stop=self.stop,
            tools=[tool.of_chat for tool in tools] if tools else None,
            tool_choice={"type": "function", "function": {"name": choice.name}} if isinstance(choice, Named) else choice,
            parallel_tool_calls=self.parallel_tool_calls,
            response_format=self.text.format if self.text else None,
            reasoning_effort=self.reasoning.effort if self.reasoning else None,
            logprobs=wants or None,
            top_logprobs=self.top_logprobs if wants else None,
            on_full=_ON_FULL[self.truncation] if self.truncation else None,
        )

    def _messages(self) -> Iterator[dict[str, Any]]:
        """Thought, text and calls that follow each other are one message of the assistant."""
        if self.instructions:
            yield {"role": "system", "content": self.instructions}
        items = [MessageItem(role="user", content=self.input)] if isinstance(self.input, str) else self.input
        open_: dict[str, Any] = {}
        for item in items:
            more = _of_assistant(item)
            if open_ and not (more and _goes_on(open_, more)):
                yield open_
                open_ = {}
            if more:
                calls = [*open_.get("tool_calls", ()), *more.pop("tool_calls", ())]
                open_ = {"role": "assistant", "content": None, **open_, **more, **({"tool_calls": calls} if calls else {})}
            elif isinstance(item, MessageItem):
                yield {"role": item.role, "content": _said(item.content)}
            elif isinstance(item, ResultItem):
                yield {"role": "tool", "tool_call_id": item.call_id, "content": _said(item.output)}
        if open_:
            yield open_

    @property
    def echo(self) -> dict[str, Any]:
        """What a response says of its request."""
        tools = [{"description": None, "parameters": None, "strict": None, **tool.model_dump()} for tool in self.tools or ()]
        choice = self.tool_choice
        return {
            "instructions": self.instructions,
            "max_output_tokens": self.max_output_tokens,
            "metadata": self.metadata or {},
            "parallel_tool_calls": self.parallel_tool_calls is not False,
            "previous_response_id": None,
            "reasoning": {"effort": self.reasoning.effort if self.reasoning else None, "summary": None},
            "store": False,
            "temperature": self.temperature,
            "text": {"format": self.text.format.echo if self.text and self.text.format else {"type": "text"}},
            "tool_choice": "auto" if choice is None else choice if isinstance(choice, str) else choice.model_dump(),
            "tools": tools,
            "top_logprobs": self.top_logprobs,
            "top_p": self.top_p,
            "truncation": self.truncation or "disabled",
        }


def _said(content: Any) -> str:
    return content if isinstance(content, str) else "".join(part.said for part in content)


def _of_assistant(item: Any) -> dict[str, Any] | None:
    """What the item adds to a message of the assistant; None: it is not of one."""
    if isinstance(item, ReasoningItem):
        return {"reasoning_content": "".join(part.text for part in item.content or item.summary or ())}
    if isinstance(item, CallItem):
        return {"tool_calls": [{"id": item.call_id, "type": "function", "function": {"name": item.name, "arguments": item.arguments}}]}
    if isinstance(item, MessageItem) and item.role == "assistant":
        return {"content": _said(item.content)}
    return None


def _goes_on(message: dict[str, Any], more: dict[str, Any]) -> bool:
    """Whether what comes is of the same message: a call always is, a text if there is none, a thought never."""
    if "reasoning_content" in more:
        return False
    return "tool_calls" in more or (message["content"] is None and "tool_calls" not in message)
