"""POST /v1/chat/completions and /v1/completions."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import product
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..engine.adapter import Adapter
from ..errors import PromptError
from ..prompt.builder import Setting
from ..prompt.chat_template import ChatTemplate
from ..prompt.messages import Message, checked_variables
from ..prompt.window import dropped_line, too_long, without_oldest
from ..reply import Chunk
from ..runtime.sampling import SamplingParams
from .answer import ChatAnswer, CompletionAnswer, usage_of
from .body import Chat, Completion, Generate
from .events import stream
from .generation import Generation
from .problem import Problem
from .prompt import Prepared, chat_prompt, text_prompt, tokens_prompt
from .service import Service

_KWARGS = "chat_template_kwargs"
SWITCHES = "enable_thinking", "thinking"  # what templates call the same
_EFFORTS = "reasoning_effort", "thinking_effort", "reasoning_strength"
_OURS = "adapter_name", "documents", "add_generation_prompt"  # of chat_template_kwargs: not the template's

Make = Callable[[], Sequence[tuple[Prepared, SamplingParams]]]


@dataclass(frozen=True)
class Asked:
    """What a request wants generated: `n` choices, which `make` gives, of `n_prompts` prompts."""

    body: Chat | Completion
    adapter: Adapter | None
    n: int
    n_prompts: int
    make: Make
    cache_salt: Hashable

    def named(self, service: Service) -> str:
        """The adapter, or the base."""
        return self.adapter.name if self.adapter else service.names[0]


async def chat(service: Service, request: Request) -> Response:
    asked = asked_in_chat(service, Chat.model_validate_json(await request.body()), request)
    return await _answer(service, asked, ChatAnswer(asked.named(service), service.token_bytes if asked.body.logprobs else None))


async def complete(service: Service, request: Request) -> Response:
    asked = asked_in_completion(service, Completion.model_validate_json(await request.body()), request)
    token_bytes = service.token_bytes if asked.body.logprobs is not None else None
    return await _answer(service, asked, CompletionAnswer(asked.named(service), token_bytes))


def asked_in_chat(service: Service, body: Chat, request: Request) -> Asked:
    """Raises PromptError, Problem."""
    adapter = service.adapter(body)
    body.choice  # noqa: B018  what is wrong with it is said before anything is made
    params = service.sampling(body, adapter)
    cache_salt = salt_of(body, request)

    def make() -> list[tuple[Prepared, SamplingParams]]:
        prepared = prepare(service, body, adapter, cache_salt)
        if not body.result:
            prepared = replace(prepared, prompt=replace(prepared.prompt, result_of=None))
        return [(prepared, p) for p in params]

    return Asked(body, adapter, len(params), 1, make, cache_salt)


def asked_in_completion(service: Service, body: Completion, request: Request) -> Asked:
    """Raises PromptError, Problem."""
    adapter = service.adapter(body)
    params = service.sampling(body, adapter)
    cache_salt = salt_of(body, request)
    prompts = body.prompts
    bare = body.add_special_tokens is False  # without BOS

    def make() -> list[tuple[Prepared, SamplingParams]]:
        texts = (service.model.vocab.tokenize(p) if bare and isinstance(p, str) else p for p in prompts)
        return list(product((scaled(text_prompt(service.model, p, adapter, cache_salt), body) for p in texts), params))

    return Asked(body, adapter, len(prompts) * len(params), len(prompts), make, cache_salt)


def prepare(service: Service, body: Chat, adapter: Adapter | None, cache_salt: Hashable) -> Prepared:
    """The prompt of a chat. Raises PromptError, Problem."""
    given = body.variables
    if given.get("add_generation_prompt", True) is not True:
        raise Problem(400, "chat_template_kwargs.add_generation_prompt: expected true, got another; this server writes answers", param=_KWARGS)
    if body.arguments and not (adapter and adapter.is_intrinsic and adapter.io):
        raise Problem(
            400, "arguments: expected an intrinsic with an io.yaml, whose instruction takes them, got none; leave them out", param="arguments"
        )
    if told := body.told_tokens:
        name, tokens = told
        try:
            return scaled(tokens_prompt(service.model, tokens, adapter, body.tools or (), body.choice if body.tools else None), body)
        except PromptError as e:
            if not str(e).startswith("tokens"):
                raise
            raise Problem(400, str(e).replace("tokens", name, 1), param=name) from e
    documents = given.get("documents") if body.documents is None else [d.model_dump(exclude_none=True) for d in body.documents]
    variables = _read(service, body, checked_variables({name: value for name, value in given.items() if name not in _OURS}))
    if body.tools:
        try:
            service.model.template.check({"tools": body.tools})
        except PromptError as e:
            raise Problem(400, str(e), param="tools") from e
        if variables.get("tools"):
            raise Problem(400, "tools: expected them in one place, got some in chat_template_kwargs too; give them once", param="tools")
        variables = {**variables, "tools": body.tools}
    setting = Setting(documents or (), variables, cache_salt=cache_salt)
    messages = [message.plain for message in body.messages]
    drops = (body.on_full or service.on_full) == "drop-oldest"
    n_dropped = n_to_drop(service, messages, setting, body.wanted_tokens) if drops else 0
    choice = body.choice if body.tools else None
    prepared = scaled(chat_prompt(service.model, without_oldest(messages, n_dropped), adapter, setting, body.arguments or {}, choice), body)
    if drops and len(prepared.prompt.tokens) > service.model.engine.context.n_ctx:
        raise too_long(len(prepared.prompt.tokens), service.model.engine.context.n_ctx)
    warnings = [*prepared.warnings, *service.model.template.unread(variables), *([dropped_line(n_dropped)] if n_dropped else [])]
    return replace(prepared, warnings=warnings)


def n_to_drop(service: Service, messages: list[Message], setting: Setting, wanted: int | None) -> int:
    """How many of the messages to leave out, so that there is room for the tokens that are wanted behind them, or for a quarter of the context of those.

    None, -1: as many as there may be. Raises PromptError.
    """
    engine = service.model.engine
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


def thinking_names(template: ChatTemplate) -> tuple[str | None, str | None]:
    """The variables by which a template lets the model think, and says how much."""
    thinks = template.features.thinking is not None
    switch = next((name for name in SWITCHES if name in template.variables and (thinks or name == SWITCHES[0])), None)
    return switch, next((name for name in _EFFORTS if name in template.variables), None)


def _read(service: Service, body: Chat, variables: dict[str, Any]) -> dict[str, Any]:
    """The variables, those that have fields of their own by the template's names for them. Raises Problem."""
    template = service.model.template
    thinks = template.features.thinking is not None
    switch, effort = thinking_names(template)
    asked: dict[str, tuple[str | None, Any]] = {}  # by the field: the template's name, and what it gets
    if body.enable_thinking is not None:
        asked["enable_thinking"] = switch, body.enable_thinking
    if body.reasoning_effort is not None:
        is_off = body.reasoning_effort == "none" and (switch is not None or effort is None)
        asked["reasoning_effort"] = (switch, False) if is_off else (effort, body.reasoning_effort)
    variables = {name: value for name, value in variables.items() if name not in asked}
    for field, (name, value) in asked.items():
        if name is not None:
            if variables.setdefault(name, value) != value:
                raise Problem(400, f"{field}: expected {name} = {json.dumps(variables[name])}, as is said too, got another; give one", param=field)
        elif thinks or value:
            off = "; leave it out" if value else ", with which this model does not think; thinking_budget: 0 ends its thought"
            raise Problem(400, f"{field}: expected a chat template that reads it, got one that does not{off}", param=field)
    return variables


async def _answer(service: Service, asked: Asked, answer: ChatAnswer) -> Response:
    if asked.body.stream:
        return await stream(_chunks(service, asked, answer))
    async with service.generating(asked.n, asked.make, streams=False, cache_salt=asked.cache_salt) as generation:
        replies = await generation.ended()
        replies = [replace(reply, text=echo + reply.text) for reply, echo in zip(replies, _echoes(service, asked))]
        whole = answer.whole(replies, asked.n_prompts, await to_thread.run_sync(_more, asked, generation))
        return JSONResponse({**whole, **_prompt_ids(asked, generation), **_warnings(generation)})


def _more(asked: Asked, generation: Generation) -> list[dict[str, Any]]:
    """What each choice has beside its text. Raises ResultError."""
    results = generation.results()
    if not asked.body.return_token_ids:
        return results
    own = lambda prompt: {"prompt_token_ids": prompt} if isinstance(asked.body, Completion) else {}
    return [{**more, **own(prompt), "token_ids": said} for more, (prompt, said) in zip(results, generation.token_ids())]


def _echoes(service: Service, asked: Asked) -> list[str]:
    """What each choice repeats of its prompt."""
    if not (isinstance(asked.body, Completion) and asked.body.echo):
        return [""] * asked.n
    given, n = asked.body.prompts, asked.n // asked.n_prompts
    texts = [text if isinstance(text, str) else service.model.vocab.detokenize(text) for text in given]
    return [texts[i // n] for i in range(asked.n)]


def _prompt_ids(asked: Asked, generation: Generation) -> dict[str, Any]:
    """A chat's prompt is that of all choices."""
    return {"prompt_token_ids": generation.token_ids()[0][0]} if asked.body.return_token_ids and isinstance(asked.body, Chat) else {}


def _warnings(generation: Generation) -> dict[str, list[str]]:
    """What an answer has beside OpenAI's fields, where there is something to say."""
    return {"warnings": warnings} if (warnings := generation.warnings()) else {}


def _first(service: Service, asked: Asked, answer: ChatAnswer, generation: Generation) -> Iterator[dict[str, Any]]:
    for chunk in answer.first(asked.n):
        yield {**chunk, **_prompt_ids(asked, generation)}
    for index, echo in enumerate(_echoes(service, asked)):
        if echo:
            yield answer.piece(index, Chunk(echo))


async def _chunks(service: Service, asked: Asked, answer: ChatAnswer) -> AsyncGenerator[dict[str, Any], None]:
    n_prompts, body = asked.n_prompts, asked.body
    async with service.generating(asked.n, asked.make, streams=True, cache_salt=asked.cache_salt) as generation:
        begun = False
        async for progress in generation.reading() if body.return_progress else _none():
            if not begun:
                begun = True
                for chunk in _first(service, asked, answer, generation):
                    yield chunk
            yield {**answer.piece(0, Chunk("")), "prompt_progress": progress}
        async for index, piece in generation.pieces():
            if not begun:  # until now it could fail with a status of its own
                begun = True
                for chunk in _first(service, asked, answer, generation):
                    yield chunk
            chunk = answer.piece(index, piece)
            yield {**chunk, "usage": usage_of(generation.replies(), n_prompts)} if body.wants_usage_always else chunk
        if not begun:
            for chunk in _first(service, asked, answer, generation):
                yield chunk
        replies = generation.replies()
        last = [
            answer.last(index, reply.finish_reason, more)
            for index, (reply, more) in enumerate(zip(replies, await to_thread.run_sync(_more, asked, generation)))
        ]
        if body.wants_usage:
            last.append(answer.usage(replies, n_prompts))
        for chunk in [*last[:-1], {**last[-1], **_warnings(generation)}]:
            yield chunk


async def _none() -> AsyncGenerator[dict[str, int], None]:
    """No progress."""
    return
    yield {}
