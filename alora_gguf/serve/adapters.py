"""POST /v1/load_lora_adapter and /v1/unload_lora_adapter, as vLLM has them."""

from pathlib import Path

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from .body import LoadAdapter, UnloadAdapter
from .problem import Problem
from .service import Service


async def load(service: Service, request: Request) -> Response:
    body = LoadAdapter.model_validate_json(await request.body())
    _check_may_load(service)
    if body.lora_name in service.names or body.lora_name in service.model.adapters:
        raise Problem(400, f"lora_name: {body.lora_name!r} has already been loaded; unload it first, or give another name", param="lora_name")
    await to_thread.run_sync(lambda: service.files.load_allowed(Path(body.lora_path), body.lora_name))
    return PlainTextResponse(f"Success: LoRA adapter {body.lora_name!r} added successfully.")


async def unload(service: Service, request: Request) -> Response:
    body = UnloadAdapter.model_validate_json(await request.body())
    _check_may_load(service)
    if body.lora_name not in service.model.adapters:
        raise Problem(404, f"lora_name: expected an adapter that is loaded, got {body.lora_name!r}; GET /v1/models lists them", param="lora_name")
    await to_thread.run_sync(lambda: service.model.unload_adapter(body.lora_name))
    return PlainTextResponse(f"Success: LoRA adapter {body.lora_name!r} removed successfully.")


def _check_may_load(service: Service) -> None:
    if not service.files.may_load:
        raise Problem(403, "adapters: expected a server that clients may load them into, got none; start it with --adapters-from FOLDER")
