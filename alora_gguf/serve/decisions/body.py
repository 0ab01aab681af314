"""The JSON bodies of /v1/systemone and /v1/decisions, and the questions and messages that they are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, StrictBool, StrictStr, Tag, field_validator, model_validator

from ...errors import PromptError
from ...prompt.decisions.question import MOST_ORDERS, Choice, Predicate, Question, Score, question_of
from ...prompt.features import Features
from .. import fields
from ..body import Body, Chooses, Document, OnFull
from ..problem import Problem

MOST_QUESTIONS = 400
_ROLES = "system", "developer", "user", "assistant"
_IMAGES = "this server reads text only"


class Decides(Chooses):
    """What both have beside their own."""

    harmless: ClassVar[frozenset[str]] = fields.harmless(fields.DECIDES_WHY)
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = fields.DECISIONS_ONLY

    cache_salt: str | None = None
    n_orders: Annotated[int, Field(ge=1, le=MOST_ORDERS)] = 1
    seed: int = 0


class SystemOne(Decides):
    only: ClassVar[Mapping[str, tuple[Any, ...]]] = fields.SYSTEMONE_ONLY

    state: str | dict[str, Any] | list[Any]
    questions: Annotated[dict[str, dict[str, Any]], Field(min_length=1, max_length=MOST_QUESTIONS)]

    @field_validator("state", mode="before")
    @classmethod
    def _something(cls, state):
        if not (isinstance(state, str | dict | list) and state and (not isinstance(state, str) or state.strip())):
            raise ValueError(f"expected text, or an object or a list, got {json.dumps(state, ensure_ascii=False)[:40]}")
        return state

    @field_validator("questions")
    @classmethod
    def _no_box(cls, questions):
        for name, question in questions.items():
            if question.get("type") == "box":
                raise ValueError(f"{name}: expected noul, choice or score, got box; {_IMAGES}")
        return questions

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The state: a conversation, if it is a list of messages with texts, so that it is found in the cache; else as one message."""
        if isinstance(self.state, list) and all(_is_message(one) for one in self.state):
            return self.state
        return [{"role": "user", "content": self.state if isinstance(self.state, str) else json.dumps(self.state, ensure_ascii=False)}]

    @property
    def asked(self) -> dict[str, Question]:
        """Raises PromptError, which begins with a question's `where`."""
        made = {name: question_of(question, where(name)) for name, question in self.questions.items()}
        for name, question in made.items():
            values = [value for value, _ in question.pairs] if isinstance(question, Choice) else []
            if len({value if isinstance(value, str) else json.dumps(value) for value in values}) < len(values):
                raise PromptError(f"{where(name)}.criteria: expected options with names of their own, got a boolean and its name; leave one out")
        return made


def where(name: str) -> str:
    return f"questions.{name}"


class Part(Body):
    """Of a message's or a question's content."""

    inside: ClassVar[str] = "content."
    harmless: ClassVar[frozenset[str]] = frozenset({"prompt_cache_breakpoint", "annotations", "logprobs"})
    type: str
    text: str | None = None
    refusal: str | None = None
    data: dict[str, Any] | list[Any] | None = None

    @classmethod
    def _checked(cls, data: dict[str, Any]) -> dict[str, Any]:
        if data.get("type") in ("input_image", "image", "image_url", "input_file", "input_audio"):
            raise Problem(400, f"content: expected parts of type input_text or input_json, got {data['type']}; {_IMAGES}", param="input")
        return super()._checked(data)

    @model_validator(mode="after")
    def _known(self):
        wanted = {"input_text": self.text, "output_text": self.text, "text": self.text, "refusal": self.refusal, "input_json": self.data}
        if wanted.get(self.type) is None:
            raise ValueError(f"expected a part of type input_text with text or input_json with data, got {self.type}")
        return self

    @property
    def said(self) -> str:
        return json.dumps(self.data, ensure_ascii=False) if self.data is not None else self.text or self.refusal or ""


def _form(given: Any) -> str:
    return "str" if isinstance(given, str) else "list[]"


Content = Annotated[Annotated[StrictStr, Tag("str")] | Annotated[list[Part], Tag("list[]")], Discriminator(_form)]


def said(content: str | list[Part] | None) -> str:
    """Texts are one text, as in chats; where there is JSON, each part is a line."""
    if isinstance(content, str | None):
        return content or ""
    return ("" if all(part.data is None for part in content) else "\n").join(part.said for part in content)


class Item(Body):
    """Of a conversation: a message, a call of a tool, or what came of one."""

    inside: ClassVar[str] = "input."
    harmless: ClassVar[frozenset[str]] = frozenset({"id", "status", "phase", "namespace"})
    type: Literal["message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"] = "message"
    role: Literal["user", "developer", "system", "assistant"] | None = None
    content: Content | None = None
    call_id: StrictStr | None = None
    name: StrictStr | None = None
    arguments: StrictStr | None = None
    input: StrictStr | None = None
    output: Content | None = None

    @model_validator(mode="after")
    def _whole(self):
        needs = {
            "message": ("role", "content"),
            "function_call": ("call_id", "name", "arguments"),
            "custom_tool_call": ("call_id", "name", "input"),
            "function_call_output": ("call_id", "output"),
            "custom_tool_call_output": ("call_id", "output"),
        }[self.type]
        for name in needs:
            if getattr(self, name) is None:
                raise ValueError(f"expected {' and '.join(needs)} in a {self.type}, got no {name}")
        for name in ("content", "arguments", "input", "output"):
            if name not in needs and getattr(self, name) is not None:
                raise ValueError(f"expected {' and '.join(needs)} in a {self.type}, got {name} too")
        return self


class Option(Body):
    inside: ClassVar[str] = "choices."
    value: StrictStr | StrictBool
    description: str | None = None

    @field_validator("value", mode="before")
    @classmethod
    def _text_or_boolean(cls, value):
        if not isinstance(value, str | bool):
            raise ValueError(f"expected a text or a boolean, got {json.dumps(value)[:40]}")
        return value


class Level(Body):
    inside: ClassVar[str] = "levels."
    label: Annotated[str, Field(min_length=1)]
    description: str | None = None


class Ask(Body):
    inside: ClassVar[str] = "questions."
    type: Literal["predicate", "choice", "score"]
    instructions: Content
    name: str | None = None
    choices: Annotated[list[Option], Field(min_length=2, max_length=255)] | None = None
    levels: Annotated[list[Level], Field(min_length=1, max_length=255)] | None = None
    adapter: str | None = None

    @model_validator(mode="after")
    def _its_own(self):
        for kind, given, name in (("choice", self.choices, "choices"), ("score", self.levels, "levels")):
            if (self.type == kind) != (given is not None):
                raise ValueError(
                    f"expected {name if self.type == kind else f'no {name}'} in a {self.type}, got {'none' if given is None else 'some'}"
                )
        if len({option.value for option in self.choices or ()}) != len(self.choices or ()):
            raise ValueError("expected choices of which each is there once, got one twice")
        return self

    @property
    def asked(self) -> Question:
        """Raises PromptError."""
        instructions = said(self.instructions)
        if self.choices is not None:
            return Choice(instructions, {option.value: option.description for option in self.choices}, self.adapter)
        if self.levels is not None:
            levels = [level.label if level.description is None else f"{level.label} ({level.description})" for level in self.levels]
            return Score(instructions, levels, self.adapter)
        return Predicate(instructions, adapter=self.adapter)


class Decide(Decides):
    input: Annotated[Annotated[StrictStr, Tag("str")] | Annotated[list[Item], Field(min_length=1), Tag("list[]")], Discriminator(_form)]
    questions: Annotated[list[Ask], Field(min_length=1, max_length=MOST_QUESTIONS)]
    documents: list[Document] | None = None
    on_full: OnFull | None = None

    @field_validator("input")
    @classmethod
    def _something(cls, given):
        if isinstance(given, str) and not given.strip():
            raise ValueError(f"expected text or messages, got {json.dumps(given)[:40]}")
        return given

    @property
    def asked(self) -> dict[str, Question]:
        """By their places. Raises PromptError."""
        made = {}
        for i, ask in enumerate(self.questions):
            try:
                made[str(i)] = ask.asked
            except PromptError as e:
                own, _, rest = str(e).partition(":")
                raise PromptError(f"questions[{i}].{'choices' if own == 'options' else own}:{rest}") from e
        return made

    def messages(self, features: Features) -> list[dict[str, Any]]:
        """The input as chat templates take it; calls of tools as text, where the template does not write them.

        Text and calls that follow each other are one message of the assistant, as they were when it said them. Raises Problem.
        """
        writes_calls = features.several_calls and features.tool_results
        if isinstance(self.input, str):
            return [{"role": "user", "content": self.input}]
        made: list[dict[str, Any]] = []
        names: dict[str, str] = {}
        for i, item in enumerate(self.input):
            if item.type == "message":
                made.append({"role": "system" if item.role == "developer" else item.role, "content": said(item.content)})
                continue
            call_id = item.call_id or ""
            if item.output is not None:
                if call_id not in names:
                    raise Problem(400, f"input[{i}].call_id: expected that of a call before it, got {call_id!r:.60}", param="input")
                result = said(item.output)
                told = {"role": "tool", "tool_call_id": call_id, "name": names[call_id], "content": result}
                made.append(told if writes_calls else {"role": "user", "content": f"Result of {names[call_id]}: {result}"})
                continue
            names[call_id] = item.name or ""
            arguments = item.arguments if item.input is None else json.dumps({"input": item.input}, ensure_ascii=False)
            call = {"id": call_id, "type": "function", "function": {"name": item.name, "arguments": arguments}}
            if not writes_calls:
                made.append({"role": "assistant", "content": f"Call of {item.name}: {arguments}"})
            elif made and made[-1]["role"] == "assistant" and (features.calls_with_text or "tool_calls" in made[-1]):
                made[-1].setdefault("tool_calls", []).append(call)
            else:
                made.append({"role": "assistant", "content": None, "tool_calls": [call]})
        return made


def _is_message(one: Any) -> bool:
    return isinstance(one, dict) and set(one) == {"role", "content"} and one["role"] in _ROLES and isinstance(one["content"], str)
