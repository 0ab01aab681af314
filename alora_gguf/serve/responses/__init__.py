"""OpenAI's Responses on the same model: stateless, as nothing is kept between requests but the cache.

body      the request, as a chat's
answer    the response, whole or in events
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..door import answered
from .answer import ResponseAnswer
from .body import Responses

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from ..service import Service


async def respond(service: Service, request: Request) -> Response:
    """POST /v1/responses"""
    body = Responses.model_validate_json(await request.body())
    return await answered(service, request, body, body.as_chat, lambda model, own: ResponseAnswer(model, own, body.echo))


ENDPOINTS = (("POST", "/v1/responses", respond, Responses),)
