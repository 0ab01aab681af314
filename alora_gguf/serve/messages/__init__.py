"""Anthropic's Messages on the same model.

body      the request, as a chat's
answer    the message, whole or in events
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from anyio import to_thread
from starlette.responses import JSONResponse

from ..chat import prepare, salt_of
from ..door import answered
from .answer import MessageAnswer
from .body import Counted, Messages

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from ..service import Service


async def message(service: Service, request: Request) -> Response:
    """POST /v1/messages"""
    body = Messages.model_validate_json(await request.body())
    made = lambda model, own: MessageAnswer(model, shows_thought=body.shows_thought)
    return await answered(service, request, body, lambda: body.as_chat(service), made)


async def count(service: Service, request: Request) -> Response:
    """POST /v1/messages/count_tokens: how long the prompt of such a request would be."""
    body = Counted.model_validate_json(await request.body())
    with body.by_its_names():
        chat = body.as_chat(service)
        adapter = service.adapter(chat)
        prepared = await to_thread.run_sync(lambda: prepare(service, chat, adapter, salt_of(chat, request)))
        return JSONResponse({"input_tokens": len(prepared.prompt.tokens)})


ENDPOINTS = (("POST", "/v1/messages", message, Messages), ("POST", "/v1/messages/count_tokens", count, Counted))
