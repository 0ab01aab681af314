"""The JSON bodies of requests: what is read of them, and what is refused because it would be ignored."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from ..runtime.sampling import SamplingParams

_SAMPLING = {
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "seed": "seed",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "repetition_penalty": "repeat_penalty",
}


class Body(BaseModel):
    """Fields that are not named are ignored, as clients send many that only tell a server something."""

    model_config = ConfigDict(extra="ignore", protected_namespaces=())


class Part(Body):
    type: str
    text: str | None = None


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
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class JsonSchema(Body):
    schema_: dict[str, Any] | None = Field(None, alias="schema")


class ResponseFormat(Body):
    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None

    def constraint(self) -> dict[str, Any]:
        if self.type == "json_object":
            return {"json_schema": {"type": "object"}}
        return {"json_schema": self.json_schema.schema_} if self.json_schema and self.json_schema.schema_ is not None else {}


class StructuredOutputs(Body):
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


class Generate(Body):
    """What chats and completions have in common. `refused` are fields that would change the answer, if they were known."""

    refused: ClassVar[tuple[str, ...]] = ()
    model: str | None = None
    adapter: str | None = None
    n: Annotated[int, Field(ge=1)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    max_tokens: int | None = None
    response_format: ResponseFormat | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: dict[str, Any] | str | None = None  # the names that vLLM had for these before
    guided_choice: Annotated[list[str], Field(min_length=1)] | None = None
    guided_regex: str | None = None
    guided_grammar: str | None = None
    json_schema: dict[str, Any] | str | None = None  # llama-server's names
    grammar: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _outer(cls, data):
        """openai's client sends the fields of extra_body beside the others; one in the body itself means the same."""
        if isinstance(data, dict):
            extra = data.get("extra_body")
            data = {**data, **extra} if isinstance(extra, Mapping) else data
            for name in cls.refused:
                if data.get(name):
                    raise ValueError(f"{name}: expected none, got {json.dumps(data[name])[:40]}; this server cannot do it")
        return data

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def wants_usage_always(self) -> bool:
        """In each chunk, as vLLM has it: who stops an answer knows what it cost until then."""
        return bool(self.stream_options and self.stream_options.continuous_usage_stats)

    @property
    def chosen_adapter(self) -> str | None:
        return self.adapter

    @property
    def wanted_tokens(self) -> int | None:
        return self.max_tokens

    @property
    def logprobs_wanted(self) -> dict[str, Any]:
        return {}

    @property
    def constraints(self) -> list[dict[str, Any]]:
        """What the client says about the answer's form, each as SamplingParams takes it; {}: it may be of any."""
        named = {
            "json_schema": (self.guided_json, self.json_schema),
            "choice": (self.guided_choice,),
            "regex": (self.guided_regex,),
            "grammar": (self.guided_grammar, self.grammar),
        }
        sources = [source.constraint() for source in (self.response_format, self.structured_outputs) if source is not None]
        return [*sources, *({name: value} for name, values in named.items() for value in values if value is not None)]

    def sampling(self, most_tokens: int, defaults: Mapping[str, Any]) -> list[SamplingParams]:
        """One for each choice, with seeds that differ; `defaults` hold where the client says nothing. Raises PromptError."""
        given = {ours: value for name, ours in _SAMPLING.items() if (value := getattr(self, name)) is not None}
        if self.wanted_tokens is not None:
            given["max_tokens"] = min(self.wanted_tokens, most_tokens)  # then finish_reason says that there was more
        if self.stop is not None:
            given["stop"] = self.stop
        own = defaults.get("json_schema")
        for constraint in self.constraints:
            defaults = {name: value for name, value in defaults.items() if name != "json_schema"}
            given.update(constraint)
        if own is not None and given.get("json_schema") == {name: value for name, value in own.items() if name != "x-guidance"}:
            given["json_schema"] = own
        given.update(self.logprobs_wanted)
        seeds = [{} if self.seed is None else {"seed": self.seed + i} for i in range(self.n or 1)]
        return [SamplingParams(**{"max_tokens": most_tokens, **defaults, **given, **seed}) for seed in seeds]


class Chat(Generate):
    refused: ClassVar[tuple[str, ...]] = ("tools", "functions", "logit_bias", "audio", "continue_final_message")

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: int | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    documents: list[Document] | None = None
    arguments: dict[str, Any] | None = None
    result: bool | None = None  # an intrinsic's choices have a `result` too: what its io.yaml makes of the text
    chat_template_kwargs: dict[str, Any] | None = None

    @property
    def wanted_tokens(self) -> int | None:
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def logprobs_wanted(self) -> dict[str, Any]:
        return {"logprobs": True, "top_logprobs": self.top_logprobs or 0} if self.logprobs else {}

    @property
    def chosen_adapter(self) -> str | None:
        """`adapter`, or Mellea's and Granite Switch's place for it."""
        name = (self.chat_template_kwargs or {}).get("adapter_name")
        return self.adapter or (name if isinstance(name, str) else None)


class Completion(Generate):
    refused: ClassVar[tuple[str, ...]] = ("echo", "suffix", "logit_bias")

    prompt: str | list[int] | list[str] | list[list[int]]
    logprobs: int | None = None

    @property
    def wanted_tokens(self) -> int | None:
        return 16 if self.max_tokens is None else self.max_tokens  # OpenAI's default

    @property
    def logprobs_wanted(self) -> dict[str, Any]:
        return {} if self.logprobs is None else {"logprobs": True, "top_logprobs": int(self.logprobs)}

    @property
    def prompts(self) -> Sequence[str | list[int]]:
        return _several(self.prompt)


class Embeddings(Body):
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
    lora_name: Annotated[str, Field(min_length=1)]
    lora_path: Annotated[str, Field(min_length=1)]


class UnloadAdapter(Body):
    lora_name: Annotated[str, Field(min_length=1)]
