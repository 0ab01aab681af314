"""OpenAI's messages: what they are checked for, and how a chat template takes them. Nothing of them is lost without a word."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..errors import PromptError
from .features import Features

Message = dict[str, Any]

ROLES = "system", "developer", "user", "assistant", "tool", "function"
REASONING = "reasoning_content", "thinking", "reasoning"  # names of the same, the first that is there counts
_TAKEN = "messages", "documents", "add_generation_prompt", "bos_token", "eos_token"  # variables that templates get otherwise
_FIELDS = "role", "content", "name", "tool_calls", "tool_call_id", *REASONING


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
    return {name: value for name, value in message.items() if name not in REASONING}


def fitted(messages: Sequence[Mapping[str, Any]], features: Features) -> list[Message]:
    """Copies of the messages, changed only where the template does not take them as they are.

    A system message that it does not write stands before the text of the next user turn; a second user turn in a row becomes a
    part of the first where it refuses two: both with a blank line between the texts. Parts of content are one text, or text is
    one part; arguments of tool calls are an object, or JSON. What is null or empty is left out, but for content, which is "".
    Raises PromptError for what the template would not write: tool calls and results, parts that are no text, other fields.
    """
    out = _joined([_message(m, f"messages[{i}]", features) for i, m in enumerate(messages)], features)
    return [_typed(message) for message in out] if features.typed_content else out


def calls_as_text(
    messages: Sequence[Mapping[str, Any]], write: Callable[[Sequence[Mapping[str, Any]]], str], features: Features
) -> list[Mapping[str, Any]]:
    """The messages with the calls of tools in their texts, as `write` has them of the model's. Raises PromptError."""
    out: list[Mapping[str, Any]] = []
    for i, message in enumerate(messages):
        given = message.get("tool_calls") if isinstance(message, Mapping) else None
        if not given:
            out.append(message)
            continue
        where = f"messages[{i}]"
        calls = [_call(call, f"{where}.tool_calls[{n}]", features) for n, call in enumerate(_list({"tool_calls": given}, "tool_calls", where))]
        text = (_text(message.get("content"), f"{where}.content") or "") + write(calls)
        out.append({**{name: value for name, value in message.items() if name != "tool_calls"}, "content": text})
    return out


def _message(message: Mapping[str, Any], where: str, features: Features) -> Message:
    """One message in the template's form, but with its content as text."""
    if not isinstance(message, Mapping):
        raise PromptError(f"{where}: expected an object, got {type(message).__name__}; give role and content")
    given = {name: value for name, value in message.items() if value is not None and value != "" and value != [] and value != {}}
    for name in given:
        if name not in _FIELDS:
            raise PromptError(f"{where}: expected some of {', '.join(_FIELDS)}, got {name!r:.60}; leave it out, no chat template gets it")
    role = given.get("role")
    if role == "developer":  # OpenAI's newer name of it
        role, message = "system", {**message, "role": "system"}
    if not isinstance(role, str):
        raise PromptError(f"{where}.role: expected text, got {role!r:.40}; give system, user, assistant or tool")
    if role == "tool" and not features.tool_results:
        raise PromptError(f"{where}: expected a role that the chat template writes, got tool; put the result into a user's message")
    calls = [_call(call, f"{where}.tool_calls[{i}]", features) for i, call in enumerate(_list(given, "tool_calls", where))]
    if calls and not (features.tool_calls if len(calls) == 1 else features.several_calls):
        raise PromptError(
            f"{where}.tool_calls: expected {'at most one' if features.tool_calls else 'none'}, got {len(calls)}; "
            "the chat template would not write them"
        )
    thought = next((given[name] for name in REASONING if name in given), None)
    if not isinstance(thought, str | None):
        raise PromptError(f"{where}: expected a thought that is text, got {type(thought).__name__}; give text")
    text = _text(message.get("content"), f"{where}.content")
    if calls and text and not features.calls_with_text:
        raise PromptError(f"{where}.content: expected none beside tool_calls, got text; the chat template would not write the calls")
    changed: Message = {"content": None if calls and text is None and features.null_content else text or ""}
    if thought is not None:
        changed[features.reasoning] = thought
    if calls:
        changed["tool_calls"] = calls
    return {**{name: value for name, value in message.items() if name in given and name not in REASONING or name in changed}, **changed}


def _text(content: Any, where: str) -> str | None:
    if content is None or isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        raise PromptError(f"{where}: expected text or a list of parts, got {type(content).__name__}; give text")
    texts = []
    for i, part in enumerate(content):
        kind = part.get("type") if isinstance(part, Mapping) else type(part)
        if kind != "text" or not isinstance(part.get("text"), str):
            raise PromptError(
                f"{where}[{i}]: expected a part of type text, got {'one without text' if kind == 'text' else repr(kind)[:60]}; only text can be read"
            )
        texts.append(part["text"])
    return "".join(texts)


def _list(given: Message, name: str, where: str) -> Sequence[Any]:
    value = given.get(name, [])
    if not isinstance(value, list | tuple):
        raise PromptError(f"{where}.{name}: expected a list, got {type(value).__name__}; give OpenAI's form")
    return value


def _call(call: Any, where: str, features: Features) -> dict[str, Any]:
    """One tool call, its arguments in the template's form."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise PromptError(f"{where}: expected a function with a name, got {call!r:.60}; give OpenAI's form")
    arguments, where = function.get("arguments") or {}, f"{where}.function.arguments"
    if not isinstance(arguments, str | Mapping):
        raise PromptError(f"{where}: expected an object, got {type(arguments).__name__}; give an object")
    if isinstance(arguments, str):
        arguments = arguments if features.text_arguments else _object(arguments, where)
    elif features.text_arguments:
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {"type": "function", **call, "function": {**function, "arguments": arguments}}


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise PromptError(f"{where}: expected JSON, got: {e}; give an object") from e
    if not isinstance(value, dict):
        raise PromptError(f"{where}: expected an object, got {type(value).__name__}; give an object")
    return value


def _joined(messages: Sequence[Message], features: Features) -> list[Message]:
    """The messages with those joined that the template does not write one after the other."""
    out: list[Message] = []
    lent = False  # the last of `out` is a user's turn that has only text of system messages yet: it belongs to the turn behind it
    for i, message in enumerate(messages):
        last = out[-1]["role"] if out else None
        stranger = message["role"] == "system" and not (features.system if i == 0 else features.system_later)
        if stranger and not message["content"]:
            continue
        if stranger and last == "system":
            out[-1] = _one(out[-1], message)
        elif stranger:
            behind = next((m["role"] for m in messages[i:] if m["role"] != "system"), None)
            message = {**message, "role": "user"}
            if last == "user" and (lent or not features.user_twice or behind != "user"):
                out[-1] = _one(out[-1], message)
            else:
                out.append(message)
                lent = True
        elif message["role"] == last == "user" and (lent or not features.user_twice):
            out[-1] = _one(out[-1], message)
            lent = False
        else:
            out.append(message)
            lent = False
    return out


def _one(first: Message, second: Message) -> Message:
    """Two messages of one role, or whose role goes: a name stays where both have it."""
    message = {**first, "content": "\n\n".join(text for text in (first["content"], second["content"]) if text)}
    if first.get("name") != second.get("name"):
        message.pop("name", None)
    return message


def _typed(message: Message) -> Message:
    return {**message, "content": [{"type": "text", "text": message["content"]}]} if isinstance(message["content"], str) else message
