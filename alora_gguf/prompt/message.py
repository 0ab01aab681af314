"""OpenAI's messages: what they are checked for, and what of them is text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ..errors import PromptError

Message = dict[str, Any]

_TAKEN = "messages", "documents", "add_generation_prompt", "bos_token", "eos_token"
THOUGHTS = "reasoning_content", "reasoning", "thinking"  # names of the same field


def check_messages(messages: Sequence[Any]) -> None:
    """Raises PromptError, naming the message, unless each has a role, and content that is text, text parts or null."""
    for i, message in enumerate(messages):
        is_one = isinstance(message, Mapping) and isinstance(message.get("role"), str) and ("content" in message or message.get("tool_calls"))
        if not is_one:
            raise PromptError(f"messages[{i}]: expected a role and content, got {message!r:.80}")
        content = message.get("content")
        if not isinstance(content, str | list | tuple | None):
            raise PromptError(f"messages[{i}]: content: expected text, text parts or null, got {content!r:.80}")
        for part in content if isinstance(content, list | tuple) else ():
            if not (isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str)):
                kind = part.get("type") if isinstance(part, Mapping) else part
                raise PromptError(f"messages[{i}]: content: expected parts of type text, got {kind!r:.80}; send text only")


def checked_variables(variables: Mapping[str, Any] | None) -> dict[str, Any]:
    """What a chat template is given beside the messages. Raises PromptError for names that it has otherwise, and for what is no value of JSON."""
    if not isinstance(variables, Mapping | None):
        raise PromptError(f"chat_template_kwargs: expected a mapping of names to values, got {variables!r:.80}")
    for name, value in (variables or {}).items():
        if not isinstance(name, str) or name in _TAKEN:
            raise PromptError(f"chat_template_kwargs: expected names of the template's variables other than {', '.join(_TAKEN)}, got {name!r:.80}")
        try:
            json.dumps(value)
        except (TypeError, ValueError, RecursionError) as e:
            raise PromptError(f"chat_template_kwargs: {name}: expected a value of JSON, got: {e}") from e
    return dict(variables or {})


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message that was checked."""
    content = message.get("content")
    return content if isinstance(content, str) else "".join(part["text"] for part in content or ())


def without_thoughts(message: Mapping[str, Any]) -> Message:
    """The message without what the model thought before it."""
    return {name: value for name, value in message.items() if name not in THOUGHTS}
