"""GET /v1/models: the base and the adapters."""

import time
from datetime import datetime, timezone
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..prompt.chat_template import ChatTemplate
from .chat import thinking_names
from .problem import Problem
from .service import Service

_STARTED = int(time.time())


async def models(service: Service, request: Request) -> Response:
    """`data` is OpenAI's, and `models` the same as TypeSafe's client lists it."""
    data = [_model(service, name) for name in (*service.names, *service.adapter_names)]
    return JSONResponse({"object": "list", "data": data, "models": [_as_typesafe(one) for one in data]})


async def model(service: Service, request: Request) -> Response:
    name = request.path_params["name"]
    if name not in service.names and name not in service.model.adapters:
        raise Problem(
            404,
            f"model {name!r}: expected {service.names[0]} or an adapter, got an unknown name; GET /v1/models lists them",
            code="model_not_found",
            param="model",
        )
    return JSONResponse(_model(service, name))


def _model(service: Service, name: str) -> dict[str, Any]:
    """`parent` is the base of an adapter, as vLLM names it. `chat_template` of the base is what its template can, beside what all can.

    `intrinsic` says whether it can be invoked in a conversation, `invoked_after` after whose message; None: anybody's. `description`: what
    it is for, None where nobody wrote it. `decides`: whether it was trained to answer typed questions.
    `source` is where on the hub it came from, repository and commit; None: not from there, or not known.
    """
    about = {"id": name, "object": "model", "created": _STARTED, "owned_by": "alora_gguf"}
    if name in service.names:
        return {**about, "parent": None, "max_model_len": service.model.engine.n_ctx, "chat_template": _template(service.model.template)}
    adapter = service.model.adapter(name)
    known = adapter.metadata
    return {
        **about,
        "parent": service.names[0],
        "intrinsic": adapter.is_intrinsic,
        "decides": adapter.decides,
        "invoked_after": known.invoked_after,
        "description": adapter.description,
        "source": {"repository": known.repository, "revision": known.revision} if known.repository else None,
    }


def _as_typesafe(one: dict[str, Any]) -> dict[str, Any]:
    released = datetime.fromtimestamp(one["created"], timezone.utc).date().isoformat()
    return {"name": one["id"], "description": one.get("description") or "", "release_date": released}


def _template(template: ChatTemplate) -> dict[str, bool]:
    """Whether the model thinks, whether `enable_thinking` and `reasoning_effort` reach it, and whether documents and tools have a place in it."""
    features = template.features
    switch, effort = thinking_names(template)
    return {
        "thinking": features.thinking is not None,
        "enable_thinking": switch is not None,
        "reasoning_effort": effort is not None,
        "documents": features.documents,
        "tools": features.tools,
    }
