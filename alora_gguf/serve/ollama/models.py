"""What there is: /api/tags, /api/ps, /api/show and /api/version, embeddings, and what does not change here."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime, timezone
from typing import Any

from anyio import to_thread
from gguf import LlamaFileType
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...engine.adapter import Adapter
from ...errors import PromptError
from ...prompt.chat_template import ChatTemplate
from ...versions import VERSION
from ..body import Chat, Embeddings
from ..embeddings import vectors_of
from ..events import LINES, stream
from ..problem import Problem
from ..service import Service
from .bodies import OllamaEmbed, OllamaEmbeddings, OllamaName

API = "0.33.0"  # Ollama's version whose API this is: clients ask for it before they use what is newer
_LATEST, _NEVER = ":latest", "2318-04-10T16:00:00Z"


async def tags(service: Service, request: Request) -> Response:
    return JSONResponse({"models": await to_thread.run_sync(_all, service)})


async def running(service: Service, request: Request) -> Response:
    """All that there is: nothing is unloaded."""
    more = {"expires_at": _NEVER, "size_vram": 0, "context_length": service.model.engine.n_ctx}
    return JSONResponse({"models": [{**model, **more} for model in await to_thread.run_sync(_all, service)]})


async def version(service: Service, request: Request) -> Response:
    return JSONResponse({"version": API, "alora_gguf": VERSION})


async def show(service: Service, request: Request) -> Response:
    body = OllamaName.model_validate_json(await request.body())
    adapter = _named(service, body)
    return JSONResponse(await to_thread.run_sync(_about, service, adapter))


async def pull(service: Service, request: Request) -> Response:
    """What is here has been pulled."""
    body = OllamaName.model_validate_json(await request.body())
    _named(service, body)
    if body.stream is False:
        return JSONResponse({"status": "success"})

    async def lines() -> AsyncGenerator[dict[str, Any], None]:
        yield {"status": "success"}

    return await stream(lines(), LINES)


async def refuse(service: Service, request: Request) -> Response:
    what = request.url.path.rpartition("/")[2]
    raise Problem(400, f"{what}: expected a server whose models change, got one that serves what it was started with; start it with others")


async def embed(service: Service, request: Request) -> Response:
    t_start = time.perf_counter()
    body = OllamaEmbed.model_validate_json(await request.body())
    vectors, n = await vectors_of(service, Embeddings(model=body.model.removesuffix(_LATEST), input=body.input)) if body.input else ([], 0)
    return JSONResponse(
        {
            "model": body.model,
            "embeddings": [v.tolist() for v in vectors],
            "total_duration": max(1, round((time.perf_counter() - t_start) * 1e9)),
            "load_duration": 1,
            "prompt_eval_count": n,
        }
    )


async def embeddings(service: Service, request: Request) -> Response:
    body = OllamaEmbeddings.model_validate_json(await request.body())
    vectors, _ = await vectors_of(service, Embeddings(model=body.model.removesuffix(_LATEST), input=body.prompt)) if body.prompt else ([], 0)
    return JSONResponse({"embedding": vectors[0].tolist() if vectors else []})


def _named(service: Service, body: OllamaName) -> Adapter | None:
    """The adapter that it is about, None: the base. Raises Problem."""
    name = body.model or body.name
    if not name:
        raise Problem(400, "model: expected a name, got none; GET /api/tags lists them", param="model")
    return service.adapter(Chat.model_construct(model=name))


def _all(service: Service) -> list[dict[str, Any]]:
    adapters = [service.model.adapter(name) for name in service.adapter_names]
    return [_entry(service, adapter) for adapter in (None, *adapters)]


def _entry(service: Service, adapter: Adapter | None) -> dict[str, Any]:
    """A model as the lists have it: of an adapter, the base and what is beside it."""
    stat = service.model.path.stat()
    digest = hashlib.sha256(f"{service.model.fingerprint} {stat.st_size}".encode()).hexdigest()
    name = _tag(service, adapter)
    return {
        "name": name,
        "model": name,
        "modified_at": _time(stat.st_mtime if adapter is None else adapter.modified),
        "size": stat.st_size + (adapter.n_bytes_file if adapter else 0),
        "digest": digest if adapter is None else hashlib.sha256(f"{digest} {adapter.sha256}".encode()).hexdigest(),
        "details": _details(service, adapter),
    }


def _tag(service: Service, adapter: Adapter | None) -> str:
    """base:adapter; the base is `latest`, where it has no tag and no adapter has that one."""
    base = service.names[0]
    if adapter is not None:
        return f"{base}:{adapter.name}"
    return base if ":" in base or "latest" in service.model.adapters else base + _LATEST


def _details(service: Service, adapter: Adapter | None) -> dict[str, Any]:
    known = service.model.vocab.metadata
    family = known.get("general.architecture", "")
    return {
        "parent_model": _tag(service, None) if adapter else "",
        "format": "gguf",
        "family": family,
        "families": [family],
        "parameter_size": _size(service.model.vocab.n_params),
        "quantization_level": _quantization(known.get("general.file_type", "")),
    }


def _about(service: Service, adapter: Adapter | None) -> dict[str, Any]:
    vocab = service.model.vocab
    return {
        "modelfile": "\n".join([f"FROM {service.names[0]}", *([f"ADAPTER {adapter.name}"] if adapter else [])]),
        "parameters": f"num_ctx {service.model.engine.n_ctx}",
        "template": template.source if (template := _template(service)) else "",
        "details": _details(service, adapter),
        "model_info": {
            **{name: _value(text) for name, text in vocab.metadata.items() if name != "tokenizer.chat_template"},
            "general.parameter_count": vocab.n_params,
        },
        "capabilities": _capabilities(service),
        "modified_at": _time(service.model.path.stat().st_mtime if adapter is None else adapter.modified),
    }


def _template(service: Service) -> ChatTemplate | None:
    try:
        return service.model.template
    except PromptError:
        return None


def _capabilities(service: Service) -> Sequence[str]:
    if service.model.engine.context.pools:
        return ["embedding"]
    if (template := _template(service)) is None:
        return ["completion"]
    features = template.features
    return ["completion", *(["tools"] if features.tools else []), *(["thinking"] if features.thinking else [])]


def _quantization(file_type: str) -> str:
    try:
        return LlamaFileType(int(file_type)).name.removeprefix("MOSTLY_").removeprefix("ALL_")
    except ValueError:
        return "unknown"


def _size(n: int) -> str:
    """A number of weights as Ollama writes it: 134.5M."""
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if n >= unit:
            return f"{n / unit:.1f}{name}"
    return str(n)


def _value(text: str) -> Any:
    """A number or a bool, if that is what libllama wrote."""
    if text in ("true", "false"):
        return text == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).isoformat().replace("+00:00", "Z")
