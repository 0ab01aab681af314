"""An answer of the base: what asks for it, who watches it, and how it becomes part of what has been said."""

from __future__ import annotations

import contextlib
import dataclasses
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from ..engine.adapter import Adapter
from ..engine.call import Call
from ..engine.request import Request
from ..errors import ClosedError, PromptError
from ..prompt.builder import Prompt
from ..prompt.messages import Message
from ..prompt.tools.schemas import Schema, ToolChoice
from ..prompt.tools.use import tool_use
from ..prompt.window import dropped_line, without_oldest
from ..reply import Chunk, Reply, ToolCall, Verdict
from ..runtime.sampling import SamplingParams
from .held import Held
from .panel import Posed
from .turn import Turn
from .watch import Decided, Invoked, Judgement, Watcher, ends


class Asked(NamedTuple):
    """What Conversation.ask() was given, checked.

    deciding    questions that watch the answer, by name; invoking: intrinsics that do
    t_start     when the call came, in seconds of time.perf_counter()
    """

    content: str | Sequence[Mapping[str, str]] | None
    params: SamplingParams
    tools: list[Schema]
    choice: ToolChoice
    deciding: Mapping[str, Posed]
    invoking: Mapping[str, Adapter]
    watch_every: int | None
    chat_template_kwargs: Mapping[str, Any] | None
    t_start: float


class _Question(NamedTuple):
    """As the model gets it: the messages that it adds, what is left out, what stays, the prompt of that, and the template's variables."""

    added: list[Message]
    n_dropped: int
    kept: list[Message]
    prompt: Prompt
    variables: Mapping[str, Any]


def answer(held: Held, asked: Asked, turn: Turn, call: Call[Chunk | Verdict]) -> None:
    """Begins the answer that a call waits for. Raises PromptError, ContextFullError, ClosedError."""
    question = _question(held, asked)
    request = _request(held, asked, question)
    turn.answered_by(request, partial(_keep_in, weakref.ref(held), request, question, asked.tools))
    if asked.deciding or asked.invoking:
        return _answer_watched(held, asked, question, request, turn, call)

    def reply() -> Reply:
        turn.settle()
        return request.reply()

    def end() -> None:
        turn.end()
        call.channel.end()

    request.on_chunk, request.on_end = call.channel.put, end
    call.follow(reply, request)
    held.submit(request)


def _question(held: Held, asked: Asked) -> _Question:
    added: list[Message] = [] if asked.content is None else [{"role": "user", "content": asked.content}]
    messages = [*held.messages, *added]
    if not messages or messages[-1].get("role") not in ("user", "tool", "function"):
        raise PromptError("content: expected a question, or a last message of a user or tool to go on from, got neither; give one")
    variables = held.variables(asked.chat_template_kwargs, asked.tools)
    setting = held.setting(variables)
    n_dropped = held.n_to_drop(messages, setting, asked.params.max_tokens)
    kept = without_oldest(messages, n_dropped)
    return _Question(added, n_dropped, kept, held.engine.prompts.chat(kept, setting), variables)


def _request(held: Held, asked: Asked, question: _Question) -> Request:
    engine, prompt, n_dropped = held.engine, question.prompt, question.n_dropped
    return Request(
        prompt.tokens,
        asked.params,
        engine.vocab,
        activations=held.activations(),
        cache_salt=held.cache_salt,
        t_start=asked.t_start,
        thinking=engine.template.features.thinking,
        in_thought=prompt.thinks,
        warnings=[*held.unread(asked.chat_template_kwargs), *([dropped_line(n_dropped)] if n_dropped > held.n_dropped else [])],
        tools=tool_use(engine.template, asked.tools, asked.choice, prompt.text, prompt.thinks),
    )


def _answer_watched(held: Held, asked: Asked, question: _Question, request: Request, turn: Turn, call: Call[Chunk | Verdict]) -> None:
    channel, prompt, variables = call.channel, question.prompt, question.variables

    def judge(name: str, said: str, n_calls: int, tokens: list[int], on_end: Callable[[], None]) -> Judgement:
        known = prompt.text + held.engine.prompts.control.spelled(tokens[request.n_prompt :]), tokens
        now = [*question.kept, _message(said, request.tool_calls[:n_calls])]
        if name in asked.deciding:
            panel = held.panel(
                {name: asked.deciding[name]}, now, lambda *_: None, on_end, known=known, background=True, chat_template_kwargs=variables
            )
            panel.start()
            return Decided(panel)
        fork = held.fork(asked.invoking[name], now, known=known, background=True, chat_template_kwargs=variables)
        fork.on_end = on_end
        held.submit(fork)
        return Invoked(fork)

    def stops(verdict: Verdict) -> bool:
        return verdict.name in asked.deciding and ends(verdict, asked.deciding[verdict.name].question)

    watcher = Watcher(request, [*asked.deciding, *asked.invoking], asked.watch_every, judge, stops, channel.put, channel.end)

    def reply() -> Reply:
        turn.settle()
        return dataclasses.replace(request.reply(), verdicts=list(watcher.verdicts))

    def hear(chunk: Chunk) -> None:
        channel.put(chunk)
        watcher.heard()

    def end() -> None:
        turn.end()
        watcher.answer_ended()

    request.on_chunk, request.on_end = hear, end
    call.follow(reply, request, watcher)
    held.submit(request)
    watcher.start()


def _keep_in(there: weakref.ref[Held], request: Request, question: _Question, tools: list[Schema]) -> None:
    """Makes an answer, whole or not, part of what has been said. A conversation that nobody has any more is not kept by it, and gets nothing."""
    held = there()
    if held is None or not (request.is_sampling or request.finish_reason == "stop"):
        return
    with contextlib.suppress(ClosedError):  # the answer stays, and there are no cells to find
        held.engine.prompts.remember(question.prompt, request.generated, held.cache_salt)
    thought = {"reasoning_content": request.reasoning} if request.reasoning else {}
    held.messages += [*question.added, {**_message(request.text, request.tool_calls), **thought}]
    held.tools, held.n_dropped = tools, question.n_dropped


def _message(text: str, calls: Sequence[ToolCall]) -> Message:
    """Of the model. With calls its text may be null, as in OpenAI's form."""
    return (
        {"role": "assistant", "content": text or None, "tool_calls": [call.message for call in calls]}
        if calls
        else {"role": "assistant", "content": text}
    )
