"""Server-sent events."""

import json
from collections.abc import AsyncGenerator
from typing import Any

import anyio
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from .problem import as_json, problem_of


async def stream(chunks: AsyncGenerator[dict[str, Any], None]) -> Response:
    """A response of chunks, of which the first is there. Raises what keeps it from coming; later errors are events."""
    return _EventStream(await anext(chunks), chunks)


class _EventStream(StreamingResponse):
    """Whatever ends it, the generator of its chunks is closed, and so what it generates."""

    def __init__(self, first: dict[str, Any], rest: AsyncGenerator[dict[str, Any], None]):
        self._first, self._rest = first, rest
        self._shown = self._events()
        super().__init__(self._shown, media_type="text/event-stream", headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self._shown.aclose()
                await self._rest.aclose()

    async def _events(self) -> AsyncGenerator[str, None]:
        yield _event(self._first)
        try:
            async for chunk in self._rest:
                yield _event(chunk)
        except Exception as e:
            yield _event(as_json(problem_of(e)))
        yield "data: [DONE]\n\n"


def _event(data: dict[str, Any]) -> str:
    return f"data: {json.dumps(data, ensure_ascii=False, separators=(',', ':'))}\n\n"
