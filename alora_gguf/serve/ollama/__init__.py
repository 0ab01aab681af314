"""Ollama's API on the same model: /api/chat, /api/generate, and what its clients ask beside them. Each adapter is a tag of the base.

bodies     its requests, as requests of the other endpoints
answer     replies in its shape
generate   chats and completions
models     what there is

The rest is one mechanism with OpenAI's: prompts, sampling, limits, and the cache.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from . import generate, models
from .bodies import OllamaChat, OllamaEmbed, OllamaEmbeddings, OllamaGenerate, OllamaName

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

    from ..body import Body
    from ..service import Service

ENDPOINTS: Sequence[tuple[str, str, Callable[[Service, Request], Awaitable[Response]], type[Body] | None]] = (
    ("POST", "/api/chat", generate.chat, OllamaChat),
    ("POST", "/api/generate", generate.complete, OllamaGenerate),
    ("POST", "/api/embed", models.embed, OllamaEmbed),
    ("POST", "/api/embeddings", models.embeddings, OllamaEmbeddings),
    ("GET", "/api/tags", models.tags, None),
    ("GET", "/api/ps", models.running, None),
    ("POST", "/api/show", models.show, OllamaName),
    ("POST", "/api/pull", models.pull, OllamaName),
    ("POST", "/api/push", models.refuse, None),
    ("POST", "/api/create", models.refuse, None),
    ("POST", "/api/copy", models.refuse, None),
    ("DELETE", "/api/delete", models.refuse, None),
    ("GET", "/api/version", models.version, None),
)
