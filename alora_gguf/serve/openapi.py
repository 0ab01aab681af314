"""GET /openapi.json: the endpoints as OpenAPI has them, by the models that read the bodies."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from ..versions import VERSION

_JSON, _TEXT, _EVENTS, _LINES = "application/json", "text/plain", "text/event-stream", "application/x-ndjson"
_GIVES = {  # the others give JSON
    "/v1/chat/completions": (_JSON, _EVENTS),
    "/v1/completions": (_JSON, _EVENTS),
    "/api/chat": (_JSON, _LINES),
    "/api/generate": (_JSON, _LINES),
    "/api/pull": (_JSON, _LINES),
    "/v1/responses": (_JSON, _EVENTS),
    "/v1/messages": (_JSON, _EVENTS),
    "/v1/load_lora_adapter": (_TEXT,),
    "/v1/unload_lora_adapter": (_TEXT,),
    "/metrics": (_TEXT,),
}
_NULLABLE = {"type": ["string", "null"]}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {"message": {"type": "string"}, "type": {"type": "string"}, "param": _NULLABLE, "code": _NULLABLE},
        }
    },
}
_LINE = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_MESSAGES = "/v1/messages"  # and what is under it has Anthropic's
_MESSAGES_ERROR = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {"type": "object", "required": ["type", "message"], "properties": {"type": {"type": "string"}, "message": {"type": "string"}}},
    },
}


def document(endpoints: Iterable[tuple[str, str, type[BaseModel] | None]]) -> dict[str, Any]:
    """OpenAPI 3.1 of (method, path, what reads the body)."""
    endpoints = list(endpoints)
    bodies: list[tuple[type[BaseModel], Literal["validation"]]] = [(body, "validation") for _, _, body in endpoints if body]
    schemas = models_json_schema(bodies, ref_template="#/components/schemas/{model}")[1]["$defs"]
    paths: dict[str, Any] = {}
    for method, path, body in endpoints:
        paths.setdefault(path.replace(":path}", "}"), {})[method.lower()] = _operation(path, body)
    return {
        "openapi": "3.1.0",
        "info": {"title": "alora_gguf", "version": VERSION},
        "paths": paths,
        "components": {
            "schemas": {**schemas, "Error": _ERROR, "MessagesError": _MESSAGES_ERROR, "OllamaError": _LINE},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}, "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"}},
        },
        "security": [{}, {"key": []}, {"x-api-key": []}],  # whether it has to be given is the server's choice (--api-key)
    }


def _operation(path: str, body: type[BaseModel] | None) -> dict[str, Any]:
    shape = "MessagesError" if path.startswith(_MESSAGES) else "OllamaError" if path.startswith("/api/") else "Error"
    error = {"description": "one line", "content": {_JSON: {"schema": {"$ref": f"#/components/schemas/{shape}"}}}}
    done = {"description": "done", "content": {kind: {} for kind in _GIVES.get(path, (_JSON,))}}
    operation: dict[str, Any] = {"responses": {"200": done, "4XX": error, "5XX": error}}
    if names := re.findall(r"\{(\w+)", path):
        operation["parameters"] = [{"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in names]
    if body:
        schema = {"$ref": f"#/components/schemas/{body.__name__}"}
        operation["requestBody"] = {"required": True, "content": {_JSON: {"schema": schema}}}
    return operation
