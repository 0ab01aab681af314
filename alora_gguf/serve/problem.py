"""Errors, in the shape of whose endpoint it is: OpenAI's, Anthropic's or Ollama's."""

import logging
from collections.abc import Mapping
from traceback import format_exception
from typing import Any

from pydantic import ValidationError
from starlette.responses import JSONResponse, Response

from ..errors import AloraError, ClosedError, ContextFullError, DecodeError, SequenceLimitError, UnknownAdapterError
from ..text import printable
from . import fields

_log = logging.getLogger(__name__)


class Problem(AloraError):
    """A request that is refused: its HTTP status, and OpenAI's `type`, `code` and `param`."""

    def __init__(self, status: int, message: str, *, code: str | None = None, param: str | None = None, headers: Mapping[str, str] | None = None):
        super().__init__(message)
        self.status, self.code, self.param, self.headers = status, code, param, headers

    @property
    def type(self) -> str:
        if self.status >= 500:
            return "server_error"
        return {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}.get(self.status, "invalid_request_error")

    @property
    def anthropic_type(self) -> str:
        kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 408: "timeout_error", 413: "request_too_large"}
        kinds |= {429: "rate_limit_error", 503: "overloaded_error", 504: "timeout_error"}
        return kinds.get(self.status, "api_error" if self.status >= 500 else "invalid_request_error")


def problem_of(error: BaseException) -> Problem:
    """What a client is told of an error; nothing of one that this package does not raise by design."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("str", "int") and not str(part).startswith(("list[", "dict[", "tuple[")))
        return Problem(400, f"{where or 'body'}: {first['msg'].removeprefix('Value error, ')}", param=where or None)
    if isinstance(error, UnknownAdapterError):
        return Problem(404, str(error), code="model_not_found", param="model")
    if isinstance(error, ContextFullError):
        return Problem(400, str(error), code="context_length_exceeded", param="messages")
    if isinstance(error, (ClosedError, SequenceLimitError)):
        return Problem(503, str(error), headers={"Retry-After": "1"})
    if isinstance(error, AloraError) and not isinstance(error, DecodeError):
        where = str(error).partition(":")[0]
        return Problem(400, str(error), param=where if where in fields.ABOUT else None)
    _log.error("a request failed\n%s", "\n".join(printable(line, limit=1000) for line in "".join(format_exception(error)).splitlines()))
    return Problem(500, str(error) if isinstance(error, DecodeError) else "the server failed at this request; its log says why")


def as_json(problem: Problem, path: str = "") -> dict[str, Any]:
    """As an endpoint at this path says it."""
    if path.startswith("/api/"):
        return {"error": str(problem)}
    if path.startswith("/v1/messages"):
        return {"type": "error", "error": {"type": problem.anthropic_type, "message": str(problem)}, "request_id": None}
    return {"error": {"message": str(problem), "type": problem.type, "param": problem.param, "code": problem.code}}


def as_response(problem: Problem, path: str = "") -> Response:
    return JSONResponse(as_json(problem, path), status_code=problem.status, headers=problem.headers)
