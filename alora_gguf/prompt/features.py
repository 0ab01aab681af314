"""What a chat template can write, found by rendering small conversations: its name says nothing, and its source too much."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from ..errors import PromptError
from .thinking import Thinking, thinking_of

if TYPE_CHECKING:
    from .chat_template import ChatTemplate

_NOW = datetime(2026, 1, 1)
# words that are in no template, and that no filter changes
_SYSTEM, _FIRST, _ANSWER, _SECOND, _THIRD = "Xsystemx", "Xfirstx", "Xanswerx", "Xsecondx", "Xthirdx"
_DOCUMENT, _TITLE, _TOOL, _KEY, _VALUE, _RESULT = "Xdocumentx", "Xtitlex", "xtoolx", "xkeyx", "Xvaluex", "Xresultx"
_ID = "abcdef012"  # as long as Mistral's are


@dataclass(frozen=True)
class Features:
    """What reaches the rendering, and in which form.

    question            a user's plain question
    system              the text of a system message before it; system_later: one between turns
    user_twice          both texts of two user turns in a row, wherever they stand
    documents           those of the variable `documents`
    tools               those of the variable `tools`
    tool_calls          an assistant's; tool_results: messages of the role "tool"
    typed_content       content has to be [{"type": "text", "text": ...}]
    text_arguments      the arguments of a tool call have to be a JSON string, else an object
    null_content        an assistant that calls tools may have no content
    none_documents_ok   a question is written where `documents` is None; else it has to be []
    thinking            the strings around the model's thought, None if it has none
    """

    question: bool = False
    system: bool = False
    system_later: bool = False
    user_twice: bool = False
    documents: bool = False
    tools: bool = False
    tool_calls: bool = False
    tool_results: bool = False
    typed_content: bool = False
    text_arguments: bool = False
    null_content: bool = False
    none_documents_ok: bool = True
    thinking: Thinking | None = None


def features_of(template: ChatTemplate) -> Features:
    probe = _Probe(template)
    for typed, documents in ((False, None), (True, None), (False, []), (True, [])):
        probe.typed, probe.documents = typed, documents
        if question := probe.writes([_user(_FIRST)], _FIRST):
            break
    else:
        probe.typed, probe.documents = False, None
    calls = {text: probe.writes_call(text) for text in (False, True)}
    text_arguments = calls[True] and not calls[False]
    return Features(
        question=question,
        system=probe.writes([_system(_SYSTEM), _user(_FIRST)], _SYSTEM, _FIRST),
        system_later=probe.writes([_user(_FIRST), _assistant(_ANSWER), _system(_SYSTEM), _user(_SECOND)], _FIRST, _ANSWER, _SYSTEM, _SECOND),
        user_twice=probe.writes([_user(_FIRST), _user(_SECOND)], _FIRST, _SECOND)
        and probe.writes([_user(_FIRST), _assistant(_ANSWER), _user(_SECOND), _user(_THIRD)], _FIRST, _ANSWER, _SECOND, _THIRD),
        documents=all(probe.writes([_user(_FIRST)], _DOCUMENT, documents=[{"doc_id": "1", "text": _DOCUMENT, **title}])
                      for title in ({}, {"title": _TITLE})),
        tools=probe.writes([_user(_FIRST)], _TOOL, tools=[_tool()]),
        tool_calls=calls[text_arguments],
        tool_results=calls[text_arguments] and probe.writes([_user(_FIRST), _call(text_arguments), _result()], _FIRST, _TOOL, _RESULT),
        typed_content=probe.typed and question,
        text_arguments=text_arguments,
        null_content=probe.writes_call(text_arguments, content=None),
        none_documents_ok=probe.documents is None,
        thinking=thinking_of(template.source),
    )


class _Probe:
    """Renders conversations of words, in the form that the template takes."""

    def __init__(self, template: ChatTemplate):
        self.template, self.typed, self.documents = template, False, None

    def text(self, messages: Sequence[dict[str, Any]], **variables: Any) -> str:
        """What is written, nothing where the template refuses them."""
        if self.typed:
            messages = [{**m, "content": [{"type": "text", "text": m["content"]}]} if isinstance(m.get("content"), str) else m for m in messages]
        try:
            return self.template.render(messages, add_generation_prompt=True, now=_NOW, **{"documents": self.documents, **variables})
        except PromptError:
            return ""

    def writes(self, messages: Sequence[dict[str, Any]], *words: str, **variables: Any) -> bool:
        """Whether the words are written, in this order."""
        text = self.text(messages, **variables)
        found = [text.find(word) for word in words]
        return min(found) >= 0 and found == sorted(found)

    def writes_call(self, text_arguments: bool, **message: Any) -> bool:
        """Whether a call is written, and its arguments neither as Python's repr nor as JSON in JSON."""
        text = self.text([_user(_FIRST), {**_call(text_arguments), **message}, _result()])
        return all(word in text for word in (_FIRST, _TOOL, _KEY, _VALUE)) and f"'{_KEY}'" not in text and f'\\"{_KEY}' not in text


def _user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def _system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def _assistant(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def _call(text_arguments: bool) -> dict[str, Any]:
    arguments = f'{{"{_KEY}": "{_VALUE}"}}' if text_arguments else {_KEY: _VALUE}
    return {"role": "assistant", "content": "", "tool_calls": [{"id": _ID, "type": "function", "function": {"name": _TOOL, "arguments": arguments}}]}


def _result() -> dict[str, Any]:
    return {"role": "tool", "name": _TOOL, "tool_call_id": _ID, "content": _RESULT}


def _tool() -> dict[str, Any]:
    parameters = {"type": "object", "properties": {_KEY: {"type": "string", "description": "A place."}}, "required": [_KEY]}
    return {"type": "function", "function": {"name": _TOOL, "description": "Looks it up.", "parameters": parameters}}
