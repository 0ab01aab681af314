"""The JSON bodies of requests: what is read of them, and what is refused because it would be ignored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..errors import PromptError
from ..prompt.tools.schemas import MODES, ToolChoice, choice_of, tools_of
from ..runtime.sampling import SamplingParams
from ..text import printable
from . import fields
from .problem import Problem

OnFull = Literal["error", "drop-oldest"]  # what prompt/window.py knows
_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "repetition_penalty": "repeat_penalty",
    "repeat_penalty": "repeat_penalty",
}


def _document(schema: dict[str, Any], cls: type[Body]) -> None:
    """What a schema says of the fields that are no attributes."""
    if cls.model_config.get("extra") == "allow":
        return
    for name in cls.harmless:
        schema["properties"].setdefault(name, {})
    for name, values in cls.only.items():
        schema["properties"].setdefault(name, {"enum": [*values, None]})
    schema["additionalProperties"] = {"type": "null"}
    if cls.one_of:
        schema["anyOf"] = [{"required": [name]} for name in cls.one_of]


class Body(BaseModel):
    """Nothing that would change an answer is ignored. A field is one of those that are named here, or null, or refused.

    harmless   fields that are accepted, whatever is in them, because they change no answer
    only       fields that are accepted with these values, at which they change none
    one_of     fields of which one has to be there
    inside     where in a request it stands
    """

    model_config = ConfigDict(extra="ignore", protected_namespaces=(), json_schema_extra=_document)
    harmless: ClassVar[frozenset[str]] = frozenset()
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = {}
    one_of: ClassVar[tuple[str, ...]] = ()
    inside: ClassVar[str] = ""

    @model_validator(mode="before")
    @classmethod
    def _only_known(cls, data):
        return cls._checked(data) if isinstance(data, dict) else data

    @classmethod
    def _checked(cls, data: dict[str, Any]) -> dict[str, Any]:
        extra = data.get("extra_body")  # openai's client sends what is in it beside the others; in the body itself it means the same
        if isinstance(extra, Mapping) and "extra_body" in cls.harmless:
            data = {**data, **extra}
        if cls.model_config.get("extra") == "allow":
            return data
        known = {field.alias or name for name, field in cls.model_fields.items()} | cls.harmless
        for name, value in data.items():
            if value is None or name in known or any(value == allowed for allowed in cls.only.get(name, ())):
                continue
            where, got = cls.inside + printable(name, 60), json.dumps(value)[:40]
            if name in cls.only:
                wanted = " or ".join(json.dumps(allowed) for allowed in cls.only[name] if allowed not in ({}, [])) or "none"
                raise Problem(400, f"{where}: expected {wanted}, got {got}; this server cannot do it", param=where)
            raise Problem(400, f"{where}: expected a field that this server knows, got another; {fields.LIST}", param=where)
        return data


class Part(Body):
    harmless: ClassVar[frozenset[str]] = frozenset({"cache_control", "annotations"})
    type: str
    text: str | None = None

    @classmethod
    def _checked(cls, data: dict[str, Any]) -> dict[str, Any]:
        """Of another type they are refused for that."""
        return super()._checked(data) if data.get("type") == "text" else data


class Message(Body):
    """All of its fields reach the chat template; what no template knows is refused there."""

    model_config = ConfigDict(extra="allow")
    role: str
    content: str | list[Part] | None = None

    @property
    def plain(self) -> dict[str, Any]:
        """As chat templates take it. "developer" is OpenAI's newer name of "system"."""
        fields = {name: value for name, value in self.model_dump().items() if value is not None}
        content = self.content if isinstance(self.content, str | None) else "".join(part.text or "" for part in self.content)
        return {**fields, "role": "system" if self.role == "developer" else self.role, "content": content}

    @field_validator("content")
    @classmethod
    def _only_text(cls, content):
        for part in content if isinstance(content, list) else ():
            if part.type != "text" or part.text is None:
                raise ValueError(f"expected parts of type text, got {part.type}; this server reads text only")
        return content


class Document(Body):
    model_config = ConfigDict(extra="allow")
    text: str


class StreamOptions(Body):
    inside: ClassVar[str] = "stream_options."
    harmless: ClassVar[frozenset[str]] = frozenset({"include_obfuscation"})
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class JsonSchema(Body):
    inside: ClassVar[str] = "response_format.json_schema."
    harmless: ClassVar[frozenset[str]] = frozenset({"name", "description", "strict"})
    schema_: dict[str, Any] | None = Field(None, alias="schema")


class ResponseFormat(Body):
    """OpenAI's, or llama-server's with the schema beside the type."""

    inside: ClassVar[str] = "response_format."
    harmless: ClassVar[frozenset[str]] = frozenset({"name", "description", "strict"})
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")

    def constraint(self) -> dict[str, Any]:
        if self.type == "text":
            return {}
        return {"json_schema": {"type": "object"} if self.schema_of is None else self.schema_of}

    @property
    def schema_of(self) -> dict[str, Any] | None:
        return self.json_schema.schema_ if self.json_schema and self.json_schema.schema_ is not None else self.schema_

    @model_validator(mode="after")
    def _has_one(self):
        if self.json_schema and self.json_schema.schema_ is not None and self.schema_ is not None:
            raise ValueError("expected one schema, got two")
        if (self.type == "json_schema") != (self.schema_of is not None) and not (self.type == "json_object" and self.json_schema is None):
            raise ValueError(f"expected {'a' if self.type == 'json_schema' else 'no'} schema with type {self.type}, got {self.schema_of}"[:200])
        return self


class StructuredOutputs(Body):
    inside: ClassVar[str] = "structured_outputs."
    harmless: ClassVar[frozenset[str]] = frozenset({"disable_fallback", "disable_any_whitespace", "_backend", "_backend_was_auto"})
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = {"disable_additional_properties": (False,)}
    json_: dict[str, Any] | str | None = Field(None, alias="json")
    choice: Annotated[list[str], Field(min_length=1)] | None = None
    grammar: str | None = None
    regex: str | None = None
    json_object: bool | None = None

    def constraint(self) -> dict[str, Any]:
        if self.choice is not None:
            return {"choice": self.choice}
        if self.grammar is not None:
            return {"grammar": self.grammar}
        if self.regex is not None:
            return {"regex": self.regex}
        schema = {"type": "object"} if self.json_object else self.json_
        return {"json_schema": schema} if schema is not None else {}

    @model_validator(mode="after")
    def _one(self):
        if sum(x is not None for x in (self.json_, self.choice, self.regex, self.grammar, self.json_object or None)) > 1:
            raise ValueError("expected one of json, json_object, choice, regex and grammar, got several")
        return self


class LoraScale(Body):
    """llama-server's choice of an adapter: its place among those of /v1/models, from 0, or its name."""

    inside: ClassVar[str] = "lora."
    id: int | str
    scale: Annotated[float, Field(ge=-1000, le=1000)] = 1.0


class Chooses(Body):
    """A request that names the base or an adapter."""

    harmless: ClassVar[frozenset[str]] = fields.HARMLESS
    model: str | None = None
    adapter: str | None = None
    lora: list[LoraScale] | None = None

    @property
    def chosen_adapter(self) -> str | None:
        return self.adapter

    @property
    def active_lora(self) -> LoraScale | None:
        """The one that has a scale. Raises Problem if there are several."""
        active = [entry for entry in self.lora or () if entry.scale]
        if len(active) > 1:
            raise Problem(
                400, f"lora: expected at most one with a scale that is not 0, got {len(active)}; one adapter is active at once", param="lora"
            )
        return active[0] if active else None


class Generate(Chooses):
    """What chats and completions have in common."""

    cache_salt: str | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    return_progress: bool | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    repeat_penalty: float | None = None
    repeat_last_n: Annotated[int, Field(ge=-1)] | None = None
    logit_bias: dict[int, float] | list[tuple[int, float | Literal[False]]] | None = None
    max_tokens: int | None = None
    n_predict: int | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | str | None = None
    guided_choice: Annotated[list[str], Field(min_length=1)] | None = None
    guided_regex: str | None = None
    guided_grammar: str | None = None
    json_schema: dict[str, Any] | str | None = None
    grammar: str | None = None
    return_token_ids: bool | None = None
    stop_token_ids: list[int] | None = None
    min_tokens: Annotated[int, Field(ge=0)] | None = None
    ignore_eos: bool | None = None

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def wants_usage_always(self) -> bool:
        """In each chunk, as vLLM has it: who stops an answer knows what it cost until then."""
        return bool(self.stream_options and self.stream_options.continuous_usage_stats)

    @property
    def wanted_tokens(self) -> int | None:
        """-1: as many as fit."""
        return self.max_tokens if self.max_tokens is not None else self.n_predict

    @property
    def logprobs_wanted(self) -> dict[str, Any]:
        return {}

    @property
    def thinking_wanted(self) -> dict[str, Any]:
        return {}

    @property
    def constraints(self) -> list[dict[str, Any]]:
        """What the client says about the answer's form, each as SamplingParams takes it; {}: it may be of any. Empty texts say nothing."""
        named = {
            "json_schema": (self.guided_json, self.json_schema),
            "choice": (self.guided_choice,),
            "regex": (self.guided_regex,),
            "grammar": (self.guided_grammar, self.grammar),
        }
        sources = [source.constraint() for source in (self.response_format, self.structured_outputs) if source is not None]
        return [*sources, *({name: value} for name, values in named.items() for value in values if value is not None and value != "")]

    def sampling(self, most_tokens: int, most_repeated: int, defaults: Mapping[str, Any]) -> list[SamplingParams]:
        """One for each choice, with seeds that differ; `defaults` hold where the client says nothing. Raises PromptError, Problem.

        most_tokens   of an answer; most_repeated: tokens that penalties look back at
        """
        given: dict[str, Any] = {}
        for name, ours in _SAMPLING.items():
            if (value := getattr(self, name)) is not None and given.setdefault(ours, value) != value:
                raise Problem(400, f"{name}: expected {given[ours]}, as another of its names has it, got {value}; give one", param=name)
        if self.wanted_tokens is not None:  # then finish_reason says that there was more
            given["max_tokens"] = most_tokens if self.wanted_tokens == -1 else min(self.wanted_tokens, most_tokens)
        if self.stop is not None:
            given["stop"] = [text for text in ([self.stop] if isinstance(self.stop, str) else self.stop) if text]
        given.update({name: value for name in ("stop_token_ids", "min_tokens", "ignore_eos") if (value := getattr(self, name)) is not None})
        if self.repeat_last_n is not None:
            given["penalty_last_n"] = most_repeated if self.repeat_last_n == -1 else min(self.repeat_last_n, most_repeated)
        if self.logit_bias is not None:
            pairs = self.logit_bias.items() if isinstance(self.logit_bias, dict) else self.logit_bias
            given["logit_bias"] = {token: -100.0 if bias is False else bias for token, bias in pairs}
        own = defaults.get("json_schema")
        for constraint in self.constraints:
            defaults = {name: value for name, value in defaults.items() if name != "json_schema"}
            for name, value in constraint.items():
                if given.setdefault(name, value) != value:
                    raise Problem(400, f"{name}: expected one form of the answer, got two; give one")
        if own is not None and given.get("json_schema") == {name: value for name, value in own.items() if name != "x-guidance"}:
            given["json_schema"] = own
        given.update(self.logprobs_wanted)
        given.update(self.thinking_wanted)
        seeds = [{} if self.seed in (None, -1) else {"seed": self.seed + i} for i in range(self.n or 1)]  # -1: as in llama-server
        return [SamplingParams(**{"max_tokens": most_tokens, **defaults, **given, **seed}) for seed in seeds]


class Chat(Generate):
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = fields.ONLY_CHAT

    messages: Annotated[list[Message], Field(min_length=1)]
    prompt_token_ids: list[int] | None = None  # as vLLM's clients have it
    input_ids: list[int] | None = None  # as SGLang has it
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    documents: list[Document] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    arguments: dict[str, Any] | None = None
    result: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    on_full: OnFull | None = None
    enable_thinking: bool | None = None
    reasoning_effort: str | None = None
    thinking_budget: Annotated[int, Field(ge=-1)] | None = None
    thinking_budget_tokens: Annotated[int, Field(ge=-1)] | None = None
    reasoning_budget_tokens: Annotated[int, Field(ge=-1)] | None = None
    thinking_token_budget: Annotated[int, Field(ge=-1)] | None = None

    @property
    def wanted_tokens(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else super().wanted_tokens

    @property
    def logprobs_wanted(self) -> dict[str, Any]:
        return {"logprobs": True, "top_logprobs": self.top_logprobs or 0} if self.logprobs else {}

    @property
    def thinking_wanted(self) -> dict[str, Any]:
        names = "thinking_budget", "thinking_budget_tokens", "reasoning_budget_tokens", "thinking_token_budget"
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        if len(set(given.values())) > 1:
            name, value = list(given.items())[-1]
            raise Problem(400, f"{name}: expected {next(iter(given.values()))}, as another of its names has it, got {value}; give one", param=name)
        budget = next(iter(given.values()), -1)
        return {"thinking_budget": budget} if budget >= 0 else {}

    @property
    def chosen_adapter(self) -> str | None:
        """`adapter`, or Mellea's and Granite Switch's place for it."""
        name = (self.chat_template_kwargs or {}).get("adapter_name")
        if name and not (isinstance(name, str) and self.adapter in (None, "", name)):
            raise Problem(400, f"chat_template_kwargs.adapter_name: expected the name of one adapter, got {name!r:.60}", param="chat_template_kwargs")
        return self.adapter or name or None

    @property
    def told_tokens(self) -> tuple[str, list[int]] | None:
        """The field that has the prompt's tokens in place of the messages, and these. Raises Problem."""
        given = [(name, tokens) for name in ("prompt_token_ids", "input_ids") if (tokens := getattr(self, name)) is not None]
        if len(given) > 1 and given[0][1] != given[1][1]:
            raise Problem(400, "input_ids: expected the same as prompt_token_ids, got others; give one", param="input_ids")
        for name in ("arguments", "result") if given else ():
            if getattr(self, name):
                raise Problem(400, f"{name}: expected none beside {given[0][0]}, got some; an io.yaml reads messages, not tokens", param=name)
        if given and self.on_full == "drop-oldest":
            raise Problem(
                400, f"on_full: expected 'error' beside {given[0][0]}, got 'drop-oldest'; messages can be left out, tokens cannot", param="on_full"
            )
        return given[0] if given else None

    @property
    def variables(self) -> dict[str, Any]:
        """Of the chat template: chat_template_kwargs, and what has a field of its own."""
        variables = dict(self.chat_template_kwargs or {})
        for name, value in (("enable_thinking", self.enable_thinking), ("reasoning_effort", self.reasoning_effort)):
            if value is not None and variables.setdefault(name, value) != value:
                raise Problem(400, f"{name}: expected {variables[name]!r:.40}, as in chat_template_kwargs, got {value!r:.40}; give one", param=name)
        return variables

    @property
    def choice(self) -> ToolChoice:
        """What it says of its tools. Raises PromptError."""
        if isinstance(self.tool_choice, str) and self.tool_choice not in MODES:
            raise Problem(400, f"tool_choice: expected one of {', '.join(MODES)}, got {self.tool_choice!r:.60}", param="tool_choice")
        try:
            return choice_of(self.tool_choice, self.tools or (), self.parallel_tool_calls)
        except PromptError as e:
            raise Problem(400, str(e), param="tool_choice") from e

    @field_validator("tools")
    @classmethod
    def _checked_tools(cls, tools):
        try:
            return tools_of(tools)
        except PromptError as e:
            raise Problem(400, str(e), param="tools") from e

    @model_validator(mode="after")
    def _top_of_logprobs(self):
        if self.top_logprobs and not self.logprobs:
            raise Problem(400, f"top_logprobs: expected logprobs to be true beside it, got {self.top_logprobs} alone", param="top_logprobs")
        return self


class Completion(Generate):
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = fields.ONLY_COMPLETION

    prompt: str | list[int] | list[str] | list[list[int]]
    logprobs: int | None = None
    echo: bool | None = None
    add_special_tokens: bool | None = None

    @property
    def wanted_tokens(self) -> int | None:
        return 16 if super().wanted_tokens is None else super().wanted_tokens  # OpenAI's default

    @property
    def logprobs_wanted(self) -> dict[str, Any]:
        return {} if self.logprobs is None else {"logprobs": True, "top_logprobs": int(self.logprobs)}

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        return _several(self.prompt)

    @model_validator(mode="after")
    def _echoes_text(self):
        if self.echo and self.logprobs is not None:
            raise Problem(400, "echo: expected false beside logprobs, got true; prompts have no logprobs here", param="echo")
        return self


class Tokenize(Chat):
    """A text, or a conversation."""

    only: ClassVar[Mapping[str, tuple[Any, ...]]] = {name: values for name, values in fields.ONLY_CHAT.items() if name != "add_special_tokens"}

    one_of: ClassVar[tuple[str, ...]] = ("prompt", "content", "messages")

    messages: list[Message] = Field(default_factory=list)
    prompt: str | None = None  # as vLLM has it
    add_special_tokens: bool | None = None
    return_token_strs: bool | None = None
    content: str | None = None  # as llama-server has it
    add_special: bool | None = None
    parse_special: bool | None = None
    with_pieces: bool | None = None

    @property
    def text(self) -> str:
        return self.prompt if self.prompt is not None else self.content or ""

    @property
    def begins(self) -> bool:
        """Whether BOS comes first, where the model wants one."""
        named = self.add_special_tokens if self.add_special_tokens is not None else self.add_special
        return self.prompt is not None if named is None else named

    @property
    def parses(self) -> bool:
        """Whether names of control tokens are these tokens."""
        return self.parse_special is not False

    @model_validator(mode="after")
    def _one_text(self):
        if sum((self.prompt is not None, self.content is not None, bool(self.messages))) != 1:
            raise ValueError("expected one of prompt, content and messages, got none or several")
        for name in ("add_special_tokens", "add_special", "parse_special"):
            if self.messages and getattr(self, name) is not None and getattr(self, name) != (name == "parse_special"):
                raise Problem(
                    400, f"{name}: expected none beside messages, got {json.dumps(getattr(self, name))}; the chat template says it", param=name
                )
        return self


class Detokenize(Chooses):
    tokens: list[int]


class Embeddings(Body):
    harmless: ClassVar[frozenset[str]] = frozenset({"extra_body", "user", "priority", "request_id"})
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = {
        "dimensions": (),
        "truncate_prompt_tokens": (),
        "add_special_tokens": (True,),
        "normalize": (True,),
    }
    model: str | None = None
    input: str | list[int] | list[str] | list[list[int]]
    encoding_format: Literal["float", "base64"] | None = None

    @property
    def inputs(self) -> Sequence[str | list[int]]:
        return _several(self.input)


def _several(given: Any) -> Sequence[str | list[int]]:
    """Texts or lists of tokens; one may stand for itself."""
    return given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]


class LoadAdapter(Body):
    harmless: ClassVar[frozenset[str]] = frozenset({"lora_int_id"})
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = {"load_inplace": (False,)}
    lora_name: Annotated[str, Field(min_length=1)]
    lora_path: Annotated[str, Field(min_length=1)]


class UnloadAdapter(Body):
    harmless: ClassVar[frozenset[str]] = frozenset({"lora_int_id"})
    lora_name: Annotated[str, Field(min_length=1)]
