"""What Prometheus reads at /metrics."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from ..model import Model
from ..reply import Reply
from .gate import Gate

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counts from the server's start, and the state at the moment when it is read."""

    def __init__(self, model: Model, gate: Gate):
        self._registry = CollectorRegistry()
        named: dict[str, Any] = {"registry": self._registry, "namespace": "alora"}
        self._requests = Counter("requests", "Requests by path and HTTP status", ["path", "status"], **named)
        self._generations = Counter("generations", "Answers by how they ended", ["finish_reason"], **named)
        self._prompt = Counter("prompt_tokens", "Tokens of prompts", **named)
        self._cached = Counter("cached_tokens", "Tokens of prompts that were in the KV cache already", **named)
        self._completion = Counter("completion_tokens", "Tokens generated", **named)
        self._ttft = Histogram("time_to_first_token_seconds", "From the request's start in the engine to its first token", buckets=_SECONDS, **named)
        for name, what, value in (
            ("generations_running", "Answers under way", lambda: gate.n_running),
            ("requests_waiting", "Requests that wait to begin", lambda: gate.n_waiting),
            ("adapters", "Adapters that have a name", lambda: len(model.adapters)),
            ("adapter_memory_bytes", "Adapters in memory", lambda: model.adapters.n_bytes),
            ("cache_cells", "Cells that the KV cache has", lambda: model.engine.context.n_ctx),
        ):
            Gauge(name, what, **named).set_function(value)

    def record(self, replies: Sequence[Reply]) -> None:
        """Choices of one request that have ended."""
        for reply in replies:
            self._generations.labels(reply.finish_reason).inc()
            self._prompt.inc(reply.usage.prompt_tokens)
            self._cached.inc(reply.usage.cached_tokens)
            self._completion.inc(reply.usage.completion_tokens)
            if reply.usage.completion_tokens:
                self._ttft.observe(reply.usage.ttft_ms / 1e3)

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def counting(self, app: "ASGIApp", paths: frozenset[str]) -> "ASGIApp":
        """The app, whose responses are counted; paths that it does not have are counted as one."""

        async def counted(scope: "Scope", receive: "Receive", send: "Send") -> None:
            status = 499  # the client went before there was one

            async def count(message) -> None:
                nonlocal status
                status = message.get("status", status)
                await send(message)

            try:
                await app(scope, receive, count)
            finally:
                if scope["type"] == "http":
                    self._requests.labels(scope["path"] if scope["path"] in paths else "other", status).inc()

        return counted
