"""What a chat template can write, found by rendering small conversations: its name says nothing, and its source too much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import product
from typing import Any

from ..errors import PromptError
from .thinking import Thinking, thinking_said, thinking_written

_NOW = datetime(2026, 1, 1)
# words that are in no template, and that no filter changes
_SYSTEM, _FIRST, _ANSWER, _SECOND, _THIRD, _THOUGHT = "Xsystemx", "Xfirstx", "Xanswerx", "Xsecondx", "Xthirdx", "Xthoughtx"
_DOCUMENT, _TITLE, _TOOL, _OTHER, _KEY, _VALUE, _RESULT = "Xdocumentx", "Xtitlex", "xtoolx", "xotherx", "xkeyx", "Xvaluex", "Xresultx"
_THINKS: tuple[dict[str, Any], ...] = {}, {"enable_thinking": True}, {"thinking": True}


@dataclass(frozen=True)
class Features:
    """What reaches the rendering, and in which form.

    question            a user's plain question; if it does not, the template needs variables of its own
    system              the text of a system message before it; system_later: one between turns, where it stands
    user_twice          both texts of two user turns in a row, wherever they stand
    documents           those of the variable `documents`, with and without titles
    tools               those of the variable `tools`
    tool_calls          an assistant's call; several_calls: each of several; calls_with_text: the call of a message that has text too
    tool_results        messages of the role "tool"
    typed_content       content has to be [{"type": "text", "text": ...}]
    text_arguments      the arguments of a tool call have to be a JSON string, else an object
    null_content        an assistant that calls tools may have no content
    none_documents_ok   where there are none, `documents` may be None; else it has to be []; none_tools_ok: the same of `tools`
    reasoning           the name of the message field that has the thought
    thinking            the strings around the model's thought, None if it has none
    """

    question: bool
    system: bool
    system_later: bool
    user_twice: bool
    documents: bool
    tools: bool
    tool_calls: bool
    several_calls: bool
    calls_with_text: bool
    tool_results: bool
    typed_content: bool
    text_arguments: bool
    null_content: bool
    none_documents_ok: bool
    none_tools_ok: bool
    reasoning: str
    thinking: Thinking | None

    @property
    def absent(self) -> dict[str, list[Any]]:
        """Variables to render with where there are no documents or tools: transformers' None is an error in the template."""
        return {name: [] for name, ok in (("documents", self.none_documents_ok), ("tools", self.none_tools_ok)) if not ok}

    def thinks_in(self, prompt: str) -> bool:
        """Whether a rendered prompt leaves a thought open, so that the model's first word is thought."""
        return self.thinking is not None and self.thinking.thinks_in(prompt)


def features_of(render: Callable[..., str], source: str) -> Features:
    probe = _Probe(render, source)
    question = probe.find_form()
    calls = {text: probe.writes_call(text) for text in (False, True)}
    text_arguments = calls[True] and not calls[False]
    call = _call(text_arguments) if calls[text_arguments] else _ASSISTANT  # whose text may be a call
    return Features(
        question=question,
        system=probe.writes([_said("system", _SYSTEM), _USER], _SYSTEM, _FIRST),
        system_later=probe.writes([_USER, _ASSISTANT, _said("system", _SYSTEM), _said("user", _SECOND)], _FIRST, _ANSWER, _SYSTEM, _SECOND),
        user_twice=probe.writes([_USER, _said("user", _SECOND)], _FIRST, _SECOND)
        and probe.writes([_USER, _ASSISTANT, _said("user", _SECOND), _said("user", _THIRD)], _FIRST, _ANSWER, _SECOND, _THIRD),
        documents=probe.writes_documents(),
        tools=probe.writes_tools(),
        tool_calls=calls[text_arguments],
        several_calls=calls[text_arguments]
        and probe.writes([_USER, _call(text_arguments, _TOOL, _OTHER), _result(), _result(1)], _FIRST, _TOOL, _OTHER),
        calls_with_text=probe.writes_call(text_arguments, content=_ANSWER),
        tool_results=probe.writes([_USER, call, _result()], _FIRST, _RESULT),
        typed_content=probe.typed,
        text_arguments=text_arguments,
        null_content=probe.writes_call(text_arguments, content=None),
        none_documents_ok="documents" not in probe.absent,
        none_tools_ok="tools" not in probe.absent,
        reasoning="reasoning" if probe.thought(reasoning=_THOUGHT) and not probe.thought(reasoning_content=_THOUGHT) else "reasoning_content",
        thinking=probe.thinking(),
    )


class _Probe:
    """Renders conversations of words, in the form that the template takes."""

    def __init__(self, render: Callable[..., str], source: str):
        self.render, self.source = render, source
        self.typed = False
        self.absent: dict[str, list[Any]] = {}

    def find_form(self) -> bool:
        """Finds the form in which a plain question is written; that of most templates if there is none.

        Of the values that say that there are no documents and no tools, those with which the other is written too.
        """
        found: list[tuple[int, bool, dict[str, list[Any]], str]] = []
        for self.typed, self.absent in product((False, True), ({}, {"documents": []}, {"tools": []}, {"documents": [], "tools": []})):
            text = self.text([_USER])
            if _FIRST in text:
                found.append((self.writes_documents() + self.writes_tools(), self.typed, self.absent, text))
        same = [form for form in found if (form[1], form[3]) == (found[0][1], found[0][3])]
        _, self.typed, self.absent, text = max(same, key=lambda form: form[0], default=(0, False, {}, ""))
        return bool(text)

    def writes_documents(self) -> bool:
        """With titles and without."""
        return all(self.writes([_USER], _DOCUMENT, documents=[{"doc_id": "1", "text": _DOCUMENT, **title}]) for title in ({}, {"title": _TITLE}))

    def writes_tools(self) -> bool:
        return self.writes([_USER], _TOOL, tools=[_tool()])

    def text(self, messages: Sequence[dict[str, Any]], **variables: Any) -> str:
        """What is written, nothing where the template refuses them."""
        if self.typed:
            messages = [{**m, "content": [{"type": "text", "text": m["content"]}]} if isinstance(m.get("content"), str) else m for m in messages]
        try:
            return self.render(messages, now=_NOW, **{"add_generation_prompt": True, **self.absent, **variables})
        except PromptError:
            return ""

    def writes(self, messages: Sequence[dict[str, Any]], *words: str, **variables: Any) -> bool:
        """Whether the words are written, in this order."""
        return _ordered(self.text(messages, **variables), *words)

    def writes_call(self, text_arguments: bool, **fields: Any) -> bool:
        """Whether a call is written, and its arguments neither as Python's repr nor as JSON in JSON."""
        text = self.text([_USER, {**_call(text_arguments), **fields}, _result()])
        return _ordered(text, _FIRST, _TOOL, _KEY, _VALUE) and f"'{_KEY}'" not in text and f'\\"{_KEY}' not in text

    def thought(self, **fields: str) -> str:
        """What is written of an answer with a thought, nothing where the thought is not."""
        for variables in _THINKS:
            text = self.text([_USER, {**_ASSISTANT, **fields}], add_generation_prompt=False, **variables)
            if _ordered(text, _THOUGHT, _ANSWER):
                return text
        return ""

    def thinking(self) -> Thinking | None:
        before, _, rest = self.thought(reasoning=_THOUGHT).partition(_THOUGHT)
        between, _, behind = rest.partition(_ANSWER)
        return (thinking_written(before, between, behind) if rest else None) or thinking_said(self.source)


def _ordered(text: str, *words: str) -> bool:
    found = [text.find(word) for word in words]
    return min(found) >= 0 and found == sorted(found)


def _said(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


_USER, _ASSISTANT = _said("user", _FIRST), _said("assistant", _ANSWER)


def _call(text_arguments: bool, *names: str) -> dict[str, Any]:
    arguments = f'{{"{_KEY}": "{_VALUE}"}}' if text_arguments else {_KEY: _VALUE}
    calls = [{"id": _id(i), "type": "function", "function": {"name": name, "arguments": arguments}} for i, name in enumerate(names or (_TOOL,))]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def _result(i: int = 0) -> dict[str, Any]:
    return {"role": "tool", "name": (_TOOL, _OTHER)[i], "tool_call_id": _id(i), "content": _RESULT}


def _id(i: int) -> str:
    return f"abcdef01{i}"  # as long as Mistral's have to be


def _tool() -> dict[str, Any]:
    parameters = {"type": "object", "properties": {_KEY: {"type": "string", "description": "A place."}}, "required": [_KEY]}
    return {"type": "function", "function": {"name": _TOOL, "description": "Looks it up.", "parameters": parameters}}
