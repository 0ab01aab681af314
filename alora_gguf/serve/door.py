"""Other shapes of a chat: what their requests share, and how their answers are made. Each becomes a chat request and goes its way."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Annotated, Any, ClassVar, Protocol

from anyio import to_thread
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..reply import CallHead, Chunk, Reply
from ..text import printable
from .answer import TokenBytes
from .body import Chat, Chooses, Document, OnFull, StructuredOutputs
from .chat import Asked, asked_in_chat
from .events import Form, stream
from .problem import Problem, problem_of
from .service import Service

Event = dict[str, Any]


class Door(Chooses):
    """What is in the request of every door and means there what it means in chats.

    named     what chats call a field, and the door's name of it, by which it is refused
    """

    named: ClassVar[Mapping[str, str]] = {}

    stream: bool | None = None
    cache_salt: str | None = None
    documents: list[Document] | None = None
    arguments: dict[str, Any] | None = None
    result: bool | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    on_full: OnFull | None = None
    enable_thinking: bool | None = None
    thinking_budget: Annotated[int, Field(ge=-1)] | None = None
    structured_outputs: StructuredOutputs | None = None
    seed: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[int, float] | None = None

    def chat(self, **fields: Any) -> Chat:
        """With its own fields as chats have them. Raises Problem."""
        shared = {name: getattr(self, name) for name in Door.model_fields}
        for name, value in fields.items():
            if value is not None and shared.get(name) not in (None, value):
                raise Problem(400, f"{name}: expected {json.dumps(value)[:40]}, as is said in another field, got another; give one", param=name)
            shared[name] = shared.get(name) if value is None else value
        return Chat.model_validate({name: value for name, value in shared.items() if value is not None})

    def by_its_names(self) -> AbstractContextManager[None]:
        """What is refused is named as the door's clients name it."""
        return by_names(self.named)


@contextmanager
def by_names(named: Mapping[str, str]) -> Iterator[None]:
    """What is refused is named as a door's clients name it: `named` has the door's name of what chats call a field."""
    try:
        yield
    except Exception as e:
        problem = problem_of(e)
        where, colon, what = str(problem).partition(":")
        first = where.partition(".")[0].partition("[")[0]
        name = named.get(first)
        here = where if name is None else name if where == first else f"{name} ({where})"
        param = name or named.get(problem.param or "", problem.param)
        raise Problem(problem.status, here + colon + what, code=problem.code, param=param, headers=problem.headers) from e


class Answer(Protocol):
    """One answer in a door's shape: begin(), piece() as often as there is one, and end(), each of which gives events; or whole()."""

    @property
    def form(self) -> Form: ...

    def begin(self, reply: Reply) -> list[Event]: ...

    def piece(self, piece: Chunk) -> list[Event]: ...

    def end(self, reply: Reply, more: Mapping[str, Any]) -> list[Event]: ...

    def whole(self, reply: Reply, more: Mapping[str, Any]) -> dict[str, Any]: ...


async def answered(
    service: Service, request: Request, body: Door, chat: Callable[[], Chat], made: Callable[[str, TokenBytes | None], Answer]
) -> Response:
    """The response to a request that `chat` says as a chat's, `made` for the model's name and, where there are logprobs, its tokens' bytes."""
    with body.by_its_names():
        asked = asked_in_chat(service, chat(), request)
        it = made(asked.named(service), service.token_bytes if asked.body.logprobs else None)
        if body.stream:
            return await stream(_events(service, asked, it), it.form)
        async with service.generating(asked.n, asked.make, streams=False, cache_salt=asked.cache_salt) as generation:
            [reply] = await generation.ended()
            return JSONResponse(it.whole(reply, _more(await to_thread.run_sync(generation.results), generation.warnings())))


async def _events(service: Service, asked: Asked, it: Answer) -> AsyncGenerator[Event, None]:
    async with service.generating(asked.n, asked.make, streams=True, cache_salt=asked.cache_salt) as generation:
        begun = False
        async for _, piece in generation.pieces():
            if not begun:  # until now it could fail with a status of its own
                begun = True
                for event in it.begin(generation.replies()[0]):
                    yield event
            for event in it.piece(piece):
                yield event
        [reply] = generation.replies()
        if not begun:
            for event in it.begin(reply):
                yield event
        for event in it.end(reply, _more(await to_thread.run_sync(generation.results), generation.warnings())):
            yield event


def _more(results: Sequence[Mapping[str, Any]], warnings: Sequence[str]) -> dict[str, Any]:
    """What an answer has beside its door's fields, where there is something to say."""
    return {**results[0], **({"warnings": warnings} if warnings else {})}


def chunks_of(reply: Reply) -> Iterator[Chunk]:
    """The chunks that a whole reply could have come in."""
    for kind, text in (("reasoning", reply.reasoning), ("text", reply.text)):
        if text or (kind == "text" and reply.logprobs):
            chunk = Chunk(text)
            chunk.kind = kind
            chunk.logprobs = tuple(reply.logprobs) if kind == "text" else ()
            yield chunk
    for index, call in enumerate(reply.tool_calls):
        chunk = Chunk(json.dumps(call.arguments, ensure_ascii=False))
        chunk.kind, chunk.call = "tool_call", CallHead(index, call.id, call.name)
        yield chunk


def tagged(where: str, *known: str, otherwise: str | None = None) -> Callable[[Any], str]:
    """Says which of the known types an object is of, for pydantic's Discriminator. Raises Problem, naming any other."""

    def kind(value: Any) -> str:
        named = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
        given = otherwise if named is None else named
        if not isinstance(given, str) or given not in known:
            got = printable(json.dumps(given), 60) if isinstance(value, dict) else type(value).__name__
            raise Problem(400, f"{where}: expected type {' or '.join(known)}, got {got}; this server reads no other", param=where)
        return given

    return kind
