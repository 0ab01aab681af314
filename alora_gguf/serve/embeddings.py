"""POST /v1/embeddings, for models that pool."""

import base64
from collections.abc import Sequence

import numpy as np
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ..engine.embedding import embed as embeddings_of
from .body import Embeddings
from .problem import Problem
from .service import Service


async def embed(service: Service, request: Request) -> Response:
    body = Embeddings.model_validate_json(await request.body())
    vectors, n = await vectors_of(service, body)
    as_text = lambda v: base64.b64encode(v.astype("<f4").tobytes()).decode() if body.encoding_format == "base64" else v.tolist()
    return JSONResponse(
        {
            "object": "list",
            "model": service.names[0],
            "data": [{"object": "embedding", "index": i, "embedding": as_text(v)} for i, v in enumerate(vectors)],
            "usage": {"prompt_tokens": n, "total_tokens": n},
        }
    )


async def vectors_of(service: Service, body: Embeddings) -> tuple[list[np.ndarray], int]:
    """float32 [n_embd] of each input, of length 1, and how many tokens these are together. Raises Problem, PromptError, ContextFullError."""
    model = service.model
    if body.model and body.model not in service.names:
        raise Problem(
            404, f"model {body.model!r}: expected {service.names[0]}, got another; adapters have no embeddings", code="model_not_found", param="model"
        )

    def compute() -> tuple[list[np.ndarray], int]:
        rows: list[Sequence[int]] = [model.vocab.tokenize_prompt(text, begins=True) if isinstance(text, str) else text for text in body.inputs]
        return embeddings_of(model.engine, rows), sum(map(len, rows))

    await service.gate.enter()
    try:
        return await to_thread.run_sync(compute)
    finally:
        service.gate.leave()
