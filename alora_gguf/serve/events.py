"""Answers that come in parts: as server-sent events, or as lines of JSON."""

import json
from collections.abc import AsyncGenerator, Callable
from typing import Any, NamedTuple

import anyio
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from .problem import Problem, as_json, problem_of


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"


def named_event(data: dict[str, Any]) -> str:
    """With its type beside it, as OpenAI's Responses and Anthropic's Messages have it."""
    return f"event: {data['type']}\n{_event(data)}"


def _line(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")) + "\n"


class Form(NamedTuple):
    """How parts are written: each of them, a later error, and what comes after all."""

    media_type: str
    part: Callable[[dict[str, Any]], str]
    error: Callable[[Problem], dict[str, Any]]
    end: str


EVENTS = Form("text/event-stream", _event, as_json, "data: [DONE]\n\n")
LINES = Form("application/x-ndjson", _line, lambda problem: {"error": str(problem)}, "")


async def stream(chunks: AsyncGenerator[dict[str, Any], None], form: Form = EVENTS) -> Response:
    """A response of chunks, of which the first is there. Raises what keeps it from coming; later errors are parts."""
    return _Parts(await anext(chunks), chunks, form)


class _Parts(StreamingResponse):
    """Whatever ends it, the generator of its chunks is closed, and so what it generates."""

    def __init__(self, first: dict[str, Any], rest: AsyncGenerator[dict[str, Any], None], form: Form):
        self._first, self._rest, self._form = first, rest, form
        self._shown = self._parts()
        super().__init__(self._shown, media_type=form.media_type, headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._shown.aclose()
                await self._rest.aclose()

    async def _parts(self) -> AsyncGenerator[str, None]:
        yield self._form.part(self._first)
        try:
            async for chunk in self._rest:
                yield self._form.part(chunk)
        except Exception as e:
            yield self._form.part(self._form.error(problem_of(e)))
        if self._form.end:
            yield self._form.end
