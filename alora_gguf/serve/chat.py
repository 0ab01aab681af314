"""POST /v1/chat/completions and /v1/completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Hashable, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import product
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..engine.adapter import Adapter
from ..prompt.builder import Setting
from ..prompt.messages import Message, checked_variables
from ..prompt.window import dropped_line, without_oldest
from ..runtime.sampling import SamplingParams
from .answer import ChatAnswer, CompletionAnswer, usage_of
from .body import Chat, Completion, Generate
from .events import stream
from .generation import Generation
from .problem import Problem
from .prompt import Prepared, chat_prompt, text_prompt
from .service import Service

_KWARGS = "chat_template_kwargs"
_OURS = "adapter_name", "documents", "add_generation_prompt"  # of chat_template_kwargs: not the template's

Make = Callable[[], Sequence[tuple[Prepared, SamplingParams]]]


async def chat(service: Service, request: Request) -> Response:
    body = Chat.model_validate_json(await request.body())
    adapter = service.adapter(body)
    params = service.sampling(body, adapter)
    cache_salt = salt_of(body, request)

    def make() -> list[tuple[Prepared, SamplingParams]]:
        prepared = prepare(service, body, adapter, cache_salt)
        if not body.result:
            prepared = replace(prepared, prompt=replace(prepared.prompt, result_of=None))
        return [(prepared, p) for p in params]

    answer = ChatAnswer(adapter.name if adapter else service.names[0], service.token_bytes if body.logprobs else None)
    return await _answer(service, body, answer, len(params), 1, make, cache_salt)


async def complete(service: Service, request: Request) -> Response:
    body = Completion.model_validate_json(await request.body())
    adapter = service.adapter(body)
    params = service.sampling(body, adapter)
    cache_salt = salt_of(body, request)
    prompts = body.prompts

    def make() -> list[tuple[Prepared, SamplingParams]]:
        return list(product((scaled(text_prompt(service.model, p, adapter, cache_salt), body) for p in prompts), params))

    answer = CompletionAnswer(adapter.name if adapter else service.names[0], service.token_bytes if body.logprobs is not None else None)
    return await _answer(service, body, answer, len(prompts) * len(params), len(prompts), make, cache_salt)


def prepare(service: Service, body: Chat, adapter: Adapter | None, cache_salt: Hashable) -> Prepared:
    """The prompt of a chat. Raises PromptError, Problem."""
    given = body.variables
    if given.get("add_generation_prompt", True) is not True:
        raise Problem(400, "chat_template_kwargs.add_generation_prompt: expected true, got another; this server writes answers", param=_KWARGS)
    if body.arguments and not (adapter and adapter.is_intrinsic and adapter.io):
        raise Problem(
            400, "arguments: expected an intrinsic with an io.yaml, whose instruction takes them, got none; leave them out", param="arguments"
        )
    documents = given.get("documents") if body.documents is None else [d.model_dump(exclude_none=True) for d in body.documents]
    variables = _read(service, body, checked_variables({name: value for name, value in given.items() if name not in _OURS}))
    setting = Setting(documents or (), variables, cache_salt=cache_salt)
    messages = [message.plain for message in body.messages]
    n_dropped = _n_to_drop(service, body, messages, setting)
    prepared = scaled(chat_prompt(service.model, without_oldest(messages, n_dropped), adapter, setting, body.arguments or {}), body)
    return replace(prepared, warnings=[*prepared.warnings, dropped_line(n_dropped)]) if n_dropped else prepared


def _n_to_drop(service: Service, body: Chat, messages: list[Message], setting: Setting) -> int:
    """How many of the messages to leave out, so that there is room for the answer, or for a quarter of the context of it."""
    if service.on_full == "error":
        return 0
    engine, wanted = service.model.engine, body.wanted_tokens
    n_answer = min(service.limits.n_tokens if wanted in (None, -1) else wanted, engine.n_ctx // 4)
    n_tokens = lambda kept: len(engine.prompts.chat(kept, setting).tokens)
    return service.windows.n_to_drop(messages, setting.cache_salt, n_tokens, engine.n_ctx - n_answer)


def scaled(prepared: Prepared, body: Generate) -> Prepared:
    """With the scale that the request gives its adapter."""
    lora = body.active_lora
    return replace(prepared, activations=[a._replace(scale=lora.scale) for a in prepared.activations]) if lora else prepared


def salt_of(body: Generate, request: Request) -> Hashable:
    """Who shares what is computed: those of one key, and of these those who say the same."""
    key: Hashable = request.state.cache_salt
    return key if body.cache_salt is None else (key, sha256(body.cache_salt.encode("utf-8", "surrogatepass")).digest())


def _read(service: Service, body: Chat, variables: dict[str, Any]) -> dict[str, Any]:
    """The variables, if the template reads those that have fields of their own. Raises Problem."""
    template = service.model.template
    effort = body.reasoning_effort
    if effort == "none" and "reasoning_effort" not in template.variables:
        variables = {name: value for name, value in variables.items() if name != "reasoning_effort"}
        if template.features.thinking is None:
            effort = None
        elif "enable_thinking" in template.variables:
            variables, effort = {"enable_thinking": False, **variables}, None
    for name, value in (("enable_thinking", body.enable_thinking), ("reasoning_effort", effort)):
        if value and name not in template.variables:
            raise Problem(400, f"{name}: expected a chat template that reads it, got one that does not; leave it out", param=name)
    return variables


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
