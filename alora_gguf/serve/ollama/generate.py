"""POST /api/chat and /api/generate."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..body import Chat, Completion
from ..chat import Asked, asked_in_chat, asked_in_completion, thinking_names
from ..door import by_names
from ..events import LINES, stream
from ..problem import Problem
from ..service import Service
from .answer import OllamaAnswer
from .bodies import NAMES, Generates, OllamaChat, OllamaGenerate


async def chat(service: Service, request: Request) -> Response:
    body = OllamaChat.model_validate_json(await request.body())
    answer = _answer_to(service, body, in_chat=True)
    if not body.messages:
        return _nothing(service, body, answer)
    with by_names(NAMES):
        asked = asked_in_chat(service, _chat(service, body, body.asked), request)
        return await _answer(service, body, asked, answer)


async def complete(service: Service, request: Request) -> Response:
    body = OllamaGenerate.model_validate_json(await request.body())
    answer = _answer_to(service, body, in_chat=False)
    if not body.prompt:
        return _nothing(service, body, answer)
    with by_names(NAMES):
        if body.raw:
            asked = asked_in_completion(service, Completion.model_validate(_given(body.asked)), request)
        else:
            asked = asked_in_chat(service, _chat(service, body, body.asked), request)
        return await _answer(service, body, asked, answer)


def _answer_to(service: Service, body: Generates, *, in_chat: bool) -> OllamaAnswer:
    return OllamaAnswer(body.model, service.token_bytes if body.logprobs else None, in_chat=in_chat)


def _nothing(service: Service, body: Generates, answer: OllamaAnswer) -> Response:
    """Nothing is asked: the model is to be loaded, which it is, or to be unloaded, which it is not as long as it is served."""
    with by_names(NAMES):
        service.adapter(Chat.model_construct(model=body.model))
    return JSONResponse(answer.empty("unload" if body.unloads else "load"))


def _chat(service: Service, body: Generates, asked: dict[str, Any]) -> Chat:
    return Chat.model_validate(_given({**asked, **_thought(service, body)}))


def _given(asked: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if value is not None}


def _thought(service: Service, body: Generates) -> dict[str, Any]:
    """What `think` says, as a chat has it; a level is true where the template has none. Raises PromptError, Problem."""
    if body.think is None:
        return {}
    template = service.model.template
    switch, effort = thinking_names(template)
    if isinstance(body.think, str) and effort:
        return {"reasoning_effort": "high" if body.think == "max" else body.think}
    if switch:
        return {"enable_thinking": bool(body.think)}
    can_think = effort or template.features.thinking is not None
    if body.think and not can_think:
        raise Problem(400, f"think: expected false of a model that does not think, got {body.think}; leave it out", param="think")
    return {"thinking_budget": 0} if can_think and not body.think else {}


def _warnings(service: Service, body: Generates) -> list[str]:
    """A context that is too small for what was asked is no error until it is full."""
    wanted = (body.options and body.options.num_ctx) or 0
    if wanted <= service.model.engine.n_ctx:
        return []
    return [f"options.num_ctx: expected at most {service.model.engine.n_ctx}, got {wanted}; start the server with a larger --ctx"]


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
