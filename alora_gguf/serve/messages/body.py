"""Requests of Anthropic's Messages: what is read of them, as a chat."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from .. import fields
from ..body import Body, Chat
from ..chat import SWITCHES
from ..door import Door, tagged
from ..problem import Problem

if TYPE_CHECKING:
    from ..service import Service

_CACHE = frozenset({"cache_control"})


class TextBlock(Body):
    inside: ClassVar[str] = "messages.content."
    harmless: ClassVar[frozenset[str]] = _CACHE | {"parsed_output"}
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = {"citations": ([],)}
    type: Literal["text"]
    text: str


class ThinkingBlock(Body):
    inside: ClassVar[str] = "messages.content."
    harmless: ClassVar[frozenset[str]] = _CACHE | {"signature"}
    type: Literal["thinking"]
    thinking: str


class ToolUse(Body):
    inside: ClassVar[str] = "messages.content."
    harmless: ClassVar[frozenset[str]] = _CACHE | {"caller"}
    type: Literal["tool_use"]
    id: str
    name: str
    input: dict[str, Any]


Texts = list[Annotated[Annotated[TextBlock, Tag("text")], Discriminator(tagged("messages.content", "text"))]]


class ToolResult(Body):
    inside: ClassVar[str] = "messages.content."
    harmless: ClassVar[frozenset[str]] = _CACHE
    type: Literal["tool_result"]
    tool_use_id: str
    content: str | Texts | None = None
    is_error: bool | None = None

    @property
    def said(self) -> str:
        return ("Error: " if self.is_error else "") + _said(self.content)


class Message(Body):
    inside: ClassVar[str] = "messages."
    harmless: ClassVar[frozenset[str]] = _CACHE
    role: Literal["user", "assistant", "system"]
    content: (
        str
        | list[
            Annotated[
                Annotated[TextBlock, Tag("text")]
                | Annotated[ThinkingBlock, Tag("thinking")]
                | Annotated[ToolUse, Tag("tool_use")]
                | Annotated[ToolResult, Tag("tool_result")],
                Discriminator(tagged("messages.content", "text", "thinking", "tool_use", "tool_result")),
            ]
        ]
    )

    def of_chat(self) -> Iterator[dict[str, Any]]:
        """Results of tools stand right behind the calls, and so before the text beside them. Raises Problem."""
        blocks = [TextBlock(type="text", text=self.content)] if isinstance(self.content, str) else self.content
        texts = [block for block in blocks if isinstance(block, TextBlock)]
        thoughts = [block for block in blocks if isinstance(block, ThinkingBlock)]
        calls = [block for block in blocks if isinstance(block, ToolUse)]
        results = [block for block in blocks if isinstance(block, ToolResult)]
        of_others = {"user": ("thinking", "tool_use"), "assistant": ("tool_result",), "system": ("thinking", "tool_use", "tool_result")}[self.role]
        for block in blocks:
            if block.type in of_others:
                raise Problem(400, f"messages.content: expected no {block.type} of the {self.role}, got one; it is another's", param="messages")
        for result in results:
            yield {"role": "tool", "tool_call_id": result.tool_use_id, "content": result.said}
        if texts or not results:
            message: dict[str, Any] = {"role": self.role, "content": _said(texts) if texts or not calls else None}
            if thoughts:
                message["reasoning_content"] = "".join(block.thinking for block in thoughts)
            if calls:
                message["tool_calls"] = [_call(block) for block in calls]
            yield message


class Tool(Body):
    inside: ClassVar[str] = "tools."
    harmless: ClassVar[frozenset[str]] = _CACHE | {"eager_input_streaming"}
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = {"defer_loading": (False,), "input_examples": ([],), "allowed_callers": (["direct"],)}
    type: Literal["custom"] = "custom"
    name: str
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None

    @property
    def of_chat(self) -> dict[str, Any]:
        said = {"description": self.description, "parameters": self.input_schema, "strict": self.strict}
        return {"type": "function", "function": {"name": self.name, **{name: value for name, value in said.items() if value is not None}}}


class ToolChoice(Body):
    inside: ClassVar[str] = "tool_choice."
    type: Literal["auto", "any", "tool", "none"]
    name: str | None = None
    disable_parallel_tool_use: bool | None = None

    @property
    def of_chat(self) -> Any:
        """Raises Problem."""
        if (self.type == "tool") != (self.name is not None):
            raise Problem(400, f"tool_choice.name: expected one with type tool and with no other, got {self.type}", param="tool_choice.name")
        named = {"type": "function", "function": {"name": self.name}}
        return {"auto": "auto", "none": "none", "any": "required", "tool": named}[self.type]


class Thinking(Body):
    inside: ClassVar[str] = "thinking."
    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Field(ge=1)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class JsonFormat(Body):
    inside: ClassVar[str] = "output_config.format."
    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")

    @property
    def of_chat(self) -> dict[str, Any]:
        return {"type": "json_schema", "schema": self.schema_}


class OutputConfig(Body):
    inside: ClassVar[str] = "output_config."
    effort: str | None = None
    format: JsonFormat | None = None


class Messages(Door):
    named: ClassVar[Mapping[str, str]] = {
        "stop": "stop_sequences",
        "response_format": "output_config.format",
        "json_schema": "output_config.format",
        "reasoning_effort": "output_config.effort",
    }
    harmless: ClassVar[frozenset[str]] = fields.harmless(fields.MESSAGES_WHY)
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = fields.MESSAGES_ONLY

    messages: Annotated[list[Message], Field(min_length=1)]
    system: str | Texts | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    stop_sequences: list[str] | None = None
    tools: list[Annotated[Annotated[Tool, Tag("custom")], Discriminator(tagged("tools", "custom", otherwise="custom"))]] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: JsonFormat | None = None

    @property
    def shows_thought(self) -> bool:
        return not (self.thinking and self.thinking.display == "omitted")

    def as_chat(self, service: Service) -> Chat:
        """Raises Problem."""
        choice, config = self.tool_choice, self.output_config or OutputConfig()
        if config.format and self.output_format and config.format != self.output_format:
            raise Problem(400, "output_format: expected one form of the answer, got two; give output_config alone", param="output_format")
        form = config.format or self.output_format
        system = [{"role": "system", "content": _said(self.system)}] if self.system else []
        chat = self.chat(
            **{"reasoning_effort": config.effort, **self._thought(service)},
            messages=[*system, *(message for one in self.messages for message in one.of_chat())],
            max_tokens=self.max_tokens,
            stop=self.stop_sequences,
            tools=[tool.of_chat for tool in self.tools] if self.tools else None,
            tool_choice=choice.of_chat if choice else None,
            parallel_tool_calls=not choice.disable_parallel_tool_use if choice and choice.disable_parallel_tool_use is not None else None,
            response_format=form.of_chat if form else None,
        )
        if self.messages[-1].role == "assistant":
            adapter = service.adapter(chat)
            if not (adapter and adapter.is_intrinsic):
                raise Problem(400, "messages: expected the last to be the user's, got the assistant's; this server continues none", param="messages")
        return chat

    def _thought(self, service: Service) -> dict[str, Any]:
        """What `thinking` says to the model: by its template, if that has a switch, and by the budget. Raises Problem."""
        if self.thinking is None or self.thinking.type == "adaptive":
            return {}
        template = service.model.template
        has_switch, thinks = any(name in template.variables for name in SWITCHES), template.features.thinking is not None
        if self.thinking.type == "disabled":
            return {} if not thinks else {"enable_thinking": False} if has_switch else {"thinking_budget": 0}
        if not thinks:
            raise Problem(400, "thinking: expected a model that thinks, got one that does not; leave it out", param="thinking")
        if self.thinking.budget_tokens is None:
            raise Problem(400, "thinking.budget_tokens: expected one beside enabled, got none; give it, or adaptive", param="thinking")
        return {"thinking_budget": self.thinking.budget_tokens, **({"enable_thinking": True} if has_switch else {})}


class Counted(Messages):
    """What is asked for a number of tokens: the same but for what is of the answer alone, and that changes it not."""


def _said(content: str | Sequence[TextBlock] | None) -> str:
    return content if isinstance(content, str) else "".join(block.text for block in content or ())


def _call(block: ToolUse) -> dict[str, Any]:
    return {"id": block.id, "type": "function", "function": {"name": block.name, "arguments": json.dumps(block.input, ensure_ascii=False)}}
