"""Chat messages to text, by the model's own Jinja template, in Jinja's sandbox: equal to transformers' apply_chat_template."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import jinja2.meta

from ..errors import PromptError
from .environment import MarkedText, rendering, sandbox
from .features import Features, features_of
from .messages import REASONING, ROLES, Message, calls_as_text, fitted
from .tools.calls import is_read
from .tools.format import NOW, ToolFormat, format_of

if TYPE_CHECKING:
    from ..runtime.vocab import Vocab


_OURS = "messages", "add_generation_prompt", "now", "mark"  # of render(), which are no variables


class ChatTemplate:
    """A compiled template.

    tokens      the text of the model's special tokens, by the names that templates have for them, as bos_token. One that a model
                does not have is left out: then it is undefined in the template, as in transformers. No variable replaces one
    variables   the names that it takes from outside, such as "documents"
    """

    def __init__(self, source: str, tokens: Mapping[str, str]):
        self.source = source
        self.tokens = dict(tokens)
        self._features: Features | None = None
        env = sandbox()
        try:
            self._template = env.from_string(source)
            self.variables: frozenset[str] = frozenset(jinja2.meta.find_undeclared_variables(env.parse(source)))
        except Exception as e:  # also nesting that is too deep for Python
            raise PromptError(f"chat template: expected Jinja, got: {_line(e)}; give another with chat_template=") from e

    def render(
        self, messages: Sequence[Mapping[str, Any]], /, *, add_generation_prompt: bool, now: datetime | None = None, mark: str = "", **variables: Any
    ) -> str:
        """The text of the messages. Where there are none, which apply_chat_template refuses, it is what the template makes of that.

        now         the time that the template takes for the present; else it is the present
        mark        a character of texts that is written as it is, also where a template wants ASCII or writes Python's repr
        variables   what else the template may use, as `documents`, `tools`, enable_thinking

        Raises PromptError.
        """
        try:
            given = {"tools": None, "documents": None, **{name: _plain(value, mark) for name, value in variables.items()}}
            for name in ("tools", "documents"):
                if given[name] is not None and not all(isinstance(item, dict) for item in given[name]):
                    raise TypeError(f"{name} that are no list of objects")
            if given["tools"] is not None:
                given["tools"] = list(given["tools"])
            said = [_named(message) for message in _plain(list(messages), mark)]
            with rendering(now, mark):
                return self._template.render({**given, "messages": said, "add_generation_prompt": add_generation_prompt, **self.tokens})
        except Exception as e:  # a template is a program, by whoever made the model
            raise PromptError(f"chat template: expected messages that it accepts, got: {_line(e)}") from e

    @property
    def features(self) -> Features:
        """What it can write. Found out once, when it is first asked for, in some dozens of small renderings."""
        if self._features is None:
            self._features = features_of(self.render, self.source)
        return self._features

    @cached_property
    def tool_format(self) -> ToolFormat | None:
        """How its model writes calls of tools; None: in no way that is known. Found out once, in some renderings, and tried."""
        features = self.features
        thought_end = features.thinking.end if features.thinking else ""
        found = format_of(self._written, self.source, several=features.several_calls, thought_end=thought_end)
        return found if found is None or not features.tool_calls or is_read(found, self._written, several=features.several_calls) else None

    def _written(self, messages: Sequence[Message]) -> str:
        """What it writes of messages, without a generation prompt; "" if it refuses them."""
        absent: dict[str, Any] = self.features.absent
        try:
            return self.render(fitted(messages, self.features), add_generation_prompt=False, now=NOW, **absent)
        except PromptError:
            return ""

    def fit(self, messages: Sequence[Mapping[str, Any]]) -> list[Message]:
        """OpenAI's messages as this template takes them; fitted() says what becomes of what it does not take. Raises PromptError.

        Calls that it does not write, but whose format it names, are text, as the model has said them.
        """
        if not self.features.tool_calls and self.tool_format is not None:
            messages = calls_as_text(messages, self.tool_format.write, self.features)
        return fitted(messages, self.features)

    def check_role(self, role: str) -> None:
        """Raises PromptError for a role that is neither one of OpenAI's nor named in the template, as a slip of the pen is."""
        if role not in ROLES and not any(f"{quote}{role}{quote}" in self.source for quote in "'\""):
            raise PromptError(f"role: expected one of {', '.join(ROLES)}, or one that the chat template names, got {role!r:.80}")

    def unread(self, variables: Iterable[str]) -> list[str]:
        """A warning for each of these names that is nothing to the template."""
        return [
            f"chat_template_kwargs: expected variables that the chat template reads, got {name!r:.60}, which it does not; it changes nothing"
            for name in variables
            if name not in self.variables and name not in ("documents", "tools")  # which check() is for
        ]

    def check(self, variables: Mapping[str, Any]) -> None:
        """Raises PromptError where there are `documents` or `tools` that the template would leave out, or names that render() has."""
        for name in _OURS:
            if name in variables:
                raise PromptError(f"chat template: expected variables of other names, got {name}; leave it out")
        if variables.get("documents") and not self.features.documents:
            raise PromptError(
                "chat template: expected one that writes documents, got one that does not; put them into a message, or "
                "let `docs_as_message: string` in io.yaml do it"
            )
        if variables.get("tools") and not self.features.tools:
            raise PromptError("chat template: expected one that writes tools, got one that does not; describe them in a message")

    def check_calls(self) -> ToolFormat:
        """How its model writes calls. Raises PromptError where that is not known."""
        if (found := self.tool_format) is None:
            raise PromptError(
                "chat template: expected one whose calls of tools are in a form that is known, got another; give one with chat_template="
            )
        return found


def template_of(vocab: Vocab, source: str | None, where: str) -> ChatTemplate:
    """The template `source`, or the model's own. Raises PromptError, which names the model by `where`."""
    source = source or vocab.chat_template
    if not source:
        raise PromptError(f"{where}: expected a chat template, got none; give one with chat_template=")
    return ChatTemplate(source, vocab.special_tokens)


def _plain(value: Any, mark: str) -> Any:
    """The value in JSON's own types: what the sandbox knows to be safe. Other objects become their type's name."""
    if mark and isinstance(value, str) and mark in value:
        return MarkedText(value)
    if value is None or type(value) in (str, int, float, bool):
        return value
    for kind in (str, int, float):
        if isinstance(value, kind):  # of a subclass, as enums are
            return getattr(kind, f"__{kind.__name__}__")(value)
    if isinstance(value, Mapping):
        return {_plain(key, mark): _plain(item, mark) for key, item in value.items()}
    for sequence in (list, tuple):
        if isinstance(value, sequence):
            return sequence(_plain(item, mark) for item in value)
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):  # NumPy's scalars
        return _plain(value.item(), mark)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name), mark) for field in dataclasses.fields(value)}
    if callable(dump := getattr(value, "model_dump", None)):  # pydantic's, as openai's messages are
        return _plain(dump(), mark)
    return f"<{type(value).__name__}>"


def _named(message: Any) -> Message:
    """The message without what is null, and its thought by each name that templates know."""
    if not isinstance(message, dict):
        raise TypeError(f"a message of type {type(message).__name__}")
    message = {name: value for name, value in message.items() if value is not None}
    thought = next((message[name] for name in REASONING if name in message), None)
    return message if thought is None else {"thinking": thought, **message, "reasoning_content": thought}


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
