"""The ASGI app: its routes, and what every request goes through."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from . import adapters, chat, decisions, embeddings, extract, messages, models, ollama, responses, tokens
from .body import Body, Chat, Completion, Detokenize, Embeddings, LoadAdapter, Tokenize, UnloadAdapter
from .decisions.body import Decide, SystemOne
from .guard import Guard
from .incoming import Incoming
from .openapi import document
from .problem import Problem, as_response, problem_of
from .service import Service
from .web import Page

Endpoint = Callable[[Service, Request], Awaitable[Response]]


def make_app(service: Service, *, keys: Sequence[str] = (), loopback_only: bool = True, origins: Sequence[str] = ()) -> ASGIApp:
    """keys: API keys, one of which clients have to give. loopback_only: it listens on no other address. origins: whose web pages may ask, "*": any."""
    endpoints: list[tuple[str, str, Endpoint, type[Body] | None]] = [
        ("POST", "/v1/chat/completions", chat.chat, Chat),
        ("POST", "/v1/completions", chat.complete, Completion),
        *responses.ENDPOINTS,
        *messages.ENDPOINTS,
        ("POST", "/v1/embeddings", embeddings.embed, Embeddings),
        ("POST", "/v1/decisions", decisions.decisions, Decide),
        ("POST", "/v1/systemone", decisions.systemone, SystemOne),
        ("GET", "/v1/models", models.models, None),
        ("GET", "/v1/models/{name:path}", models.model, None),
        ("POST", "/v1/load_lora_adapter", adapters.load, LoadAdapter),
        ("POST", "/v1/unload_lora_adapter", adapters.unload, UnloadAdapter),
        ("POST", "/tokenize", tokens.tokenize, Tokenize),
        ("POST", "/detokenize", tokens.detokenize, Detokenize),
        ("POST", "/apply-template", tokens.apply_template, Chat),
        *ollama.ENDPOINTS,
        ("POST", "/extract", extract.extract, None),
        ("GET", "/health", _health, None),
        ("GET", "/metrics", _metrics, None),
    ]
    openapi = JSONResponse(document((method, path, body) for method, path, _, body in endpoints))
    routes = [Route(path, _answering(service, endpoint), methods=[method]) for method, path, endpoint, _ in endpoints]
    routes.append(Route("/openapi.json", openapi, methods=["GET"]))
    handlers: dict[Any, Any] = {HTTPException: _no_route}
    routed = Starlette(routes=routes, exception_handlers=handlers)
    routed.router.default = Page()
    limits = service.limits
    app: ASGIApp = Incoming(routed, n_bytes=limits.body_bytes, seconds=limits.body_seconds)
    keyed = frozenset(path for _, path, _, _ in endpoints) - {"/health"}
    app = Guard(app, keys=keys, loopback_only=loopback_only, keyed=keyed, origins=origins)
    if origins:  # outside of it, as a browser asks first whether it may, without a key; and errors are to be read, too
        app = CORSMiddleware(app, allow_origins=origins, allow_methods=("GET", "POST"), allow_headers=("*",), expose_headers=("Retry-After",))
    return service.metrics.counting(app, frozenset(route.path for route in routes))


def _answering(service: Service, endpoint: Endpoint) -> Callable[[Request], Awaitable[Response]]:
    async def answering(request: Request) -> Response:
        try:
            return await endpoint(service, request)
        except Exception as e:
            return as_response(problem_of(e), request.url.path)

    return answering


async def _health(service: Service, request: Request) -> Response:
    service.model.check_open()
    return JSONResponse({"status": "ok"})


async def _metrics(service: Service, request: Request) -> Response:
    return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


async def _no_route(request: Request, error: HTTPException) -> Response:
    problem = Problem(error.status_code, f"{request.method} {request.url.path}: {error.detail.lower()}", headers=error.headers)
    return as_response(problem, request.url.path)
