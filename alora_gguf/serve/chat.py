"""POST /v1/chat/completions and /v1/completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Hashable, Sequence
from dataclasses import replace
from itertools import product
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..prompt.builder import Setting
from ..prompt.messages import checked_variables
from ..runtime.sampling import SamplingParams
from .answer import ChatAnswer, CompletionAnswer, usage_of
from .body import Chat, Completion
from .events import stream
from .generation import Generation
from .prompt import Prepared, chat_prompt, text_prompt
from .service import Service

_OURS = "adapter_name", "messages", "documents", "add_generation_prompt"  # of chat_template_kwargs: not the template's

Make = Callable[[], Sequence[tuple[Prepared, SamplingParams]]]


async def chat(service: Service, request: Request) -> Response:
    body = Chat.model_validate_json(await request.body())
    adapter = service.adapter(body)
    params = service.sampling(body, adapter)
    cache_salt = request.state.cache_salt

    def make() -> list[tuple[Prepared, SamplingParams]]:
        variables = checked_variables({k: v for k, v in (body.chat_template_kwargs or {}).items() if k not in _OURS})
        setting = Setting([d.model_dump(exclude_none=True) for d in body.documents or ()], variables, cache_salt=cache_salt)
        prepared = chat_prompt(service.model, [message.plain for message in body.messages], adapter, setting, body.arguments or {})
        if not body.result:
            prepared = replace(prepared, prompt=replace(prepared.prompt, result_of=None))
        return [(prepared, p) for p in params]

    answer = ChatAnswer(adapter.name if adapter else service.names[0], bool(body.logprobs))
    return await _answer(service, body, answer, len(params), 1, make, cache_salt)


async def complete(service: Service, request: Request) -> Response:
    body = Completion.model_validate_json(await request.body())
    adapter = service.adapter(body)
    params = service.sampling(body, adapter)
    cache_salt = request.state.cache_salt
    prompts = body.prompts

    def make() -> list[tuple[Prepared, SamplingParams]]:
        return list(product((text_prompt(service.model, p, adapter, cache_salt) for p in prompts), params))

    answer = CompletionAnswer(adapter.name if adapter else service.names[0], body.logprobs is not None)
    return await _answer(service, body, answer, len(prompts) * len(params), len(prompts), make, cache_salt)


async def _answer(
    service: Service, body: Chat | Completion, answer: ChatAnswer, n: int, n_prompts: int, make: Make, cache_salt: Hashable
) -> Response:
    if body.stream:
        return await stream(_chunks(service, body, answer, n, n_prompts, make, cache_salt))
    async with service.generating(n, make, streams=False, cache_salt=cache_salt) as generation:
        replies = await generation.ended()
        whole = answer.whole(replies, n_prompts, await to_thread.run_sync(generation.results))
        return JSONResponse({**whole, **_warnings(generation)})


def _warnings(generation: Generation) -> dict[str, list[str]]:
    """What an answer has beside OpenAI's fields, where there is something to say."""
    return {"warnings": warnings} if (warnings := generation.warnings()) else {}


async def _chunks(
    service: Service, body: Chat | Completion, answer: ChatAnswer, n: int, n_prompts: int, make: Make, cache_salt: Hashable
) -> AsyncGenerator[dict[str, Any], None]:
    async with service.generating(n, make, streams=True, cache_salt=cache_salt) as generation:
        begun = False
        async for index, piece in generation.pieces():
            if not begun:  # until now it could fail with a status of its own
                begun = True
                for chunk in answer.first(n):
                    yield chunk
            chunk = answer.piece(index, piece)
            yield {**chunk, "usage": usage_of(generation.replies(), n_prompts)} if body.wants_usage_always else chunk
        if not begun:
            for chunk in answer.first(n):
                yield chunk
        replies = generation.replies()
        last = [
            answer.last(index, reply.finish_reason, more)
            for index, (reply, more) in enumerate(zip(replies, await to_thread.run_sync(generation.results)))
        ]
        if body.wants_usage:
            last.append(answer.usage(replies, n_prompts))
        for chunk in [*last[:-1], {**last[-1], **_warnings(generation)}]:
            yield chunk
