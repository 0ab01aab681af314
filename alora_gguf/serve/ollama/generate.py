"""POST /api/chat and /api/generate."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..body import Chat, Completion
from ..chat import Asked, asked_in_chat, asked_in_completion
from ..events import LINES, stream
from ..problem import Problem, problem_of
from ..service import Service
from .answer import OllamaAnswer
from .bodies import NAMES, Generates, OllamaChat, OllamaGenerate

_SWITCHES = "enable_thinking", "thinking"  # variables by which templates let a model think


async def chat(service: Service, request: Request) -> Response:
    body = OllamaChat.model_validate_json(await request.body())
    answer = _answer_to(service, body, in_chat=True)
    if not body.messages:
        return _nothing(service, body, answer)
    with _in_its_names():
        asked = asked_in_chat(service, _chat(service, body, body.asked), request)
        return await _answer(service, body, asked, answer)


async def complete(service: Service, request: Request) -> Response:
    body = OllamaGenerate.model_validate_json(await request.body())
    answer = _answer_to(service, body, in_chat=False)
    if not body.prompt:
        return _nothing(service, body, answer)
    with _in_its_names():
        if body.raw:
            asked = asked_in_completion(service, Completion.model_validate(_given(body.asked)), request)
        else:
            asked = asked_in_chat(service, _chat(service, body, body.asked), request)
        return await _answer(service, body, asked, answer)


def _answer_to(service: Service, body: Generates, *, in_chat: bool) -> OllamaAnswer:
    return OllamaAnswer(body.model, service.token_bytes if body.logprobs else None, in_chat=in_chat)


def _nothing(service: Service, body: Generates, answer: OllamaAnswer) -> Response:
    """Nothing is asked: the model is to be loaded, which it is, or to be unloaded, which it is not as long as it is served."""
    with _in_its_names():
        service.adapter(Chat.model_construct(model=body.model))
    return JSONResponse(answer.empty("unload" if body.unloads else "load"))


def _chat(service: Service, body: Generates, asked: dict[str, Any]) -> Chat:
    return Chat.model_validate(_given({**asked, **_thought(service, body)}))


def _given(asked: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value is not None}


def _thought(service: Service, body: Generates) -> dict[str, Any]:
    """What `think` says to the template: by the variable that it reads. Raises PromptError, Problem."""
    if body.think is None:
        return {}
    template = service.model.template
    switch = next((name for name in _SWITCHES if name in template.variables), None)
    has_effort, can_think = "reasoning_effort" in template.variables, template.features.thinking is not None
    if isinstance(body.think, str) and has_effort:
        return {"reasoning_effort": "high" if body.think == "max" else body.think}
    if switch:
        return {"chat_template_kwargs": {switch: bool(body.think)}}
    if not body.think and (has_effort or can_think):
        return {"reasoning_effort": "none"}
    if body.think and not (has_effort or can_think):
        raise Problem(400, f"think: expected false of a model that does not think, got {body.think}; leave it out", param="think")
    return {}


@contextmanager
def _in_its_names() -> Iterator[None]:
    """What is refused is named as Ollama's clients name it."""
    try:
        yield
    except Exception as e:
        problem = problem_of(e)
        where, colon, what = str(problem).partition(":")
        if where not in NAMES:
            raise
        raise Problem(problem.status, NAMES[where] + colon + what, param=NAMES[where]) from e


def _warnings(service: Service, body: Generates) -> list[str]:
    """A context that is too small for what was asked is no error until it is full."""
    wanted = (body.options and body.options.num_ctx) or 0
    if wanted <= service.n_most:
        return []
    return [f"options.num_ctx: expected at most {service.n_most}, got {wanted}; start the server with a larger --ctx"]


async def _answer(service: Service, body: Generates, asked: Asked, answer: OllamaAnswer) -> Response:
    if body.streams:
        return await stream(_lines(service, body, asked, answer), LINES)
    async with service.generating(asked.n, asked.make, streams=False, cache_salt=asked.cache_salt) as generation:
        answer.t_begun = time.perf_counter()
        replies = await generation.ended()
        return JSONResponse(answer.whole(replies[0], [*generation.warnings(), *_warnings(service, body)]))


async def _lines(service: Service, body: Generates, asked: Asked, answer: OllamaAnswer) -> AsyncGenerator[dict[str, Any], None]:
    async with service.generating(asked.n, asked.make, streams=True, cache_salt=asked.cache_salt) as generation:
        answer.t_begun = time.perf_counter()
        async for _, piece in generation.pieces():
            for line in answer.pieces(piece):
                yield line
        for line in answer.last(generation.replies()[0], [*generation.warnings(), *_warnings(service, body)]):
            yield line
