"""What the endpoints share: the model, and what one server knows of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from anyio import to_thread

from ..engine.adapter import Adapter
from ..engine.stream import Stream
from ..errors import UnknownAdapterError
from ..model import Model
from ..prompt.io_yaml import sampling_of
from ..prompt.window import Windows
from ..reply import Decisions, Reply
from ..runtime.sampling import SamplingParams
from .adapter_files import AdapterFiles
from .body import Chat, Chooses, Generate
from .gate import Gate
from .generation import Generation
from .metrics import Metrics
from .problem import Problem
from .prompt import Prepared

_N_READING = 2  # documents at once: each has a process of its own


@dataclass(frozen=True)
class Limits:
    """n_running: answers at once. n_waiting: requests that wait for that. n_tokens: most of one answer. seconds: most that one takes."""

    n_running: int
    n_waiting: int
    n_tokens: int
    seconds: float = 600.0
    body_bytes: int = 8 << 20
    body_seconds: float = 60.0


class Service:
    """One server's model. `names` are those that clients may call the base model by, the first is its own.

    on_full   what happens to a chat that is longer than the context: "error", or "drop-oldest"
    """

    def __init__(self, model: Model, names: Sequence[str], limits: Limits, files: AdapterFiles, *, on_full: str = "error"):
        self.model = model
        self.names = list(names)
        self.limits = limits
        self.files = files
        self.on_full = on_full
        self.windows = Windows()
        self.gate = Gate(limits.n_running, limits.n_waiting)
        self.reading = Gate(_N_READING, limits.n_waiting)  # documents
        self.metrics = Metrics(model, self.gate)
        self._running: set[Generation | Stream[Any, Decisions]] = set()

    def adapter(self, body: Chooses) -> Adapter | None:
        """The adapter that a request asks for, in whichever of the ways; None: the base. Raises Problem for a name that nobody has."""
        lora = body.active_lora
        wanted = [name for name in (self._asked(body.model), body.chosen_adapter, lora and self._placed(lora.id)) if name and name not in self.names]
        try:
            adapters = [self.model.adapter(name) for name in wanted]
        except UnknownAdapterError as e:
            raise Problem(
                404,
                f"model {wanted[0]!r}: expected {self.names[0]} or an adapter, got an unknown name; GET /v1/models lists them",
                code="model_not_found",
                param="model",
            ) from e
        if len(set(wanted)) > 1 or (wanted and body.lora is not None and not lora):
            raise Problem(400, f"lora: expected one choice of an adapter, got {' and '.join(map(repr, wanted))} and another; give one", param="lora")
        return adapters[0] if adapters else None

    def _asked(self, model: str | None) -> str | None:
        """The name of the base or of an adapter, also as SGLang writes the two: base:adapter; Ollama's name:latest is the name."""
        for name in (model, model.removesuffix(":latest")) if model else ():
            rests = [name.removeprefix(f"{base}:") for base in self.names if name.startswith(f"{base}:")]
            for known in (name, *rests):
                if known in self.names or known in self.model.adapters:
                    return known
        return model

    def _placed(self, adapter: int | str) -> str:
        """The name of the adapter at a place, as /v1/models has them. Raises Problem."""
        if isinstance(adapter, str):
            return adapter
        names = self.adapter_names
        if not 0 <= adapter < len(names):
            raise Problem(404, f"lora: expected an id from 0 to {len(names) - 1}, got {adapter}; GET /v1/models lists them", param="lora")
        return names[adapter]

    def token_bytes(self, token: int, named: bool) -> bytes:
        """A token's own bytes; of a control token its name if it is to be `named`."""
        return self.model.vocab.token_bytes(token, special=named)

    @property
    def adapter_names(self) -> list[str]:
        return sorted(self.model.adapters)

    def sampling(self, body: Generate, adapter: Adapter | None) -> list[SamplingParams]:
        """Where the client says nothing, an intrinsic in a chat is as in Conversation.invoke(). Raises PromptError or Problem."""
        self.gate.check(body.n or 1)  # before there is something for each
        defaults: dict[str, Any] = {}
        io = None
        if adapter and adapter.is_intrinsic and isinstance(body, Chat):
            io = adapter.io
            defaults = {name: value for name, value in sampling_of(io).items() if name not in ("logprobs", "top_logprobs")}  # the client's
            defaults["max_tokens"] = min(defaults["max_tokens"], self.limits.n_tokens)
        params = body.sampling(self.limits.n_tokens, self.model.engine.context.n_ctx, defaults)
        if isinstance(body, Chat) and body.result and io and io.top_logprobs:
            params = [replace(p, logprobs=True, top_logprobs=max(p.top_logprobs, io.top_logprobs)) for p in params]
        return params

    @asynccontextmanager
    async def generating(
        self, n: int, make: Callable[[], Sequence[tuple[Prepared, SamplingParams]]], *, streams: bool, cache_salt: Hashable
    ) -> AsyncIterator[Generation]:
        """A generation of `n` choices that has begun, and ends with the `async with` if it has not by then.

        It waits for its turn first; then `make`, on a thread, gives the choices. What it computes is known in its `cache_salt` only.
        """
        loop = asyncio.get_running_loop()
        await self.gate.enter(n)

        def on_end(generation: Generation) -> None:
            try:
                loop.call_soon_threadsafe(self._ended, generation, n)
            except RuntimeError:  # the server is gone
                pass

        try:
            generation = await to_thread.run_sync(lambda: Generation(self.model, make(), on_end, streams=streams, cache_salt=cache_salt))
            generation.begin()
        except BaseException:  # then on_end is not called
            self.gate.leave(n)
            raise
        self._running.add(generation)
        late = Problem(504, f"answer: expected it within {self.limits.seconds:g} s, got a part of it; ask for less")
        timer = loop.call_later(self.limits.seconds, generation.cancel, late)
        try:
            yield generation
        finally:
            timer.cancel()
            generation.cancel()
            self._running.discard(generation)

    async def decide(self, begin: Callable[[], Stream[Any, Decisions]]) -> Decisions:
        """What comes of a stream of decisions, which is begun when it is its turn."""
        await self.gate.enter()
        try:
            stream = begin()
            self._running.add(stream)
            late = Problem(504, f"answer: expected it within {self.limits.seconds:g} s, got a part of it; ask for less")
            timer = asyncio.get_running_loop().call_later(self.limits.seconds, stream.cancel, late)
            try:
                decided = await stream
            finally:
                timer.cancel()
                self._running.discard(stream)
        finally:
            self.gate.leave()
        self.metrics.record([Reply("", decided.usage, "stop")])
        return decided

    def end_all(self) -> None:
        """Ends what runs and what waits."""
        problem = Problem(503, "server: expected time to finish this answer, got none: it is going down; ask again later")
        self.gate.refuse(problem)
        for generation in list(self._running):
            generation.cancel(problem)

    def _ended(self, generation: Generation, n: int) -> None:
        """In the event loop, before a request that a client makes of the answer."""
        self.gate.leave(n)
        generation.remember()
        self.metrics.record(generation.ended_replies())
