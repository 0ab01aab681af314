"""Chat messages to text, by the model's own Jinja template, in Jinja's sandbox."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import jinja2
import jinja2.meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from .errors import PromptError
from .vocab import Vocab

Message = dict[str, str]


class ChatTemplate:
    """A compiled template. `bos_token` and `eos_token` are text, as templates expect them.

    variables   the names that it takes from outside, such as "documents"
    """

    def __init__(self, source: str, bos_token: str, eos_token: str):
        # the environment that transformers renders chat templates in
        env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
        env.globals["raise_exception"] = _raise
        env.globals["strftime_now"] = lambda fmt: datetime.now().strftime(fmt)
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        try:
            self._template = env.from_string(source)
            self.variables = frozenset(jinja2.meta.find_undeclared_variables(env.parse(source)))
        except jinja2.TemplateError as e:
            raise PromptError(f"chat template: expected Jinja, got: {_line(e)}; give another with chat_template=") from e

    def render(self, messages: Sequence[Message], /, *, add_generation_prompt: bool, **arguments: Any) -> str:
        """arguments: what else the template may use, as `documents`. Raises PromptError, also if it would leave documents out."""
        if arguments.get("documents") is not None and "documents" not in self.variables:
            raise PromptError("chat template: expected one that writes documents, got one that does not; put them into a message, or "
                              "let `docs_as_message: string` in io.yaml do it")
        try:
            return self._template.render({
                "tools": None, "documents": None, **arguments,
                "messages": list(messages), "add_generation_prompt": add_generation_prompt, **self._tokens})
        except Exception as e:  # a template is a program, by whoever made the model
            raise PromptError(f"chat template: expected messages that it accepts, got: {_line(e)}") from e


def template_of(vocab: Vocab, source: str | None, where: str) -> ChatTemplate:
    """The template `source`, or the model's own. Raises PromptError, which names the model by `where`."""
    source = source or vocab.chat_template
    if not source:
        raise PromptError(f"{where}: expected a chat template, got none; give one with chat_template=")
    name = lambda token: vocab.detokenize([token]) if token >= 0 else ""  # noqa: E731
    return ChatTemplate(source, name(vocab.bos), name(vocab.eos))


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
