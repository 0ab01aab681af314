"""The choices of one request, generated together."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from functools import partial
from typing import Any

from ..engine.channel import Channel
from ..engine.request import Request
from ..model import Model
from ..reply import Chunk, Reply
from ..runtime.sampling import SamplingParams
from .prompt import Prepared

_OFTEN = 0.25  # seconds between two words about a long prompt


class Generation:
    """Begun with begin(); then pieces() come, and replies() are what came of it.

    `choices` are prompts, each with how it is continued. `on_end` is called once when all have ended,
    for whatever reason, on the engine's thread, which it must not keep, and before anybody hears of the end.
    It shares cells with others of the same `cache_salt`.
    """

    def __init__(
        self,
        model: Model,
        choices: Sequence[tuple[Prepared, SamplingParams]],
        on_end: Callable[[Generation], None],
        *,
        streams: bool,
        cache_salt: Hashable,
    ):
        self._prepared = [prepared for prepared, _ in choices]
        self._cache_salt = cache_salt
        self._model = model
        self._channel: Channel[tuple[int, Chunk]] = Channel()
        self._requests = [
            Request(
                p.prompt.tokens,
                params,
                model.vocab,
                activations=p.activations,
                checkpoint=p.checkpoint,
                cache_salt=cache_salt,
                thinking=model.template.features.thinking if p.prompt.is_chat else None,
                in_thought=p.prompt.thinks,
                tools=p.tools,
                warnings=p.warnings,
            )
            for p, params in choices
        ]
        of_prompts = {id(p): request for p, request in reversed([*zip(self._prepared, self._requests)])}
        self._readers = list(of_prompts.values())  # one of each prompt: the others find it in the cache
        self._t_start = time.perf_counter()
        self._n_left = len(self._requests)
        self._on_end = on_end
        for index, request in enumerate(self._requests):
            if streams:
                request.on_chunk = partial(self._put, index)
            request.on_end = self._end_one

    def begin(self) -> None:
        """Raises ContextFullError or ClosedError; then on_end is not called."""
        self._model.engine.loop.submit(*self._requests)

    def cancel(self, error: BaseException | None = None) -> None:
        """Ends what has not ended before its next token, as failed if there is an error."""
        for request in self._requests:
            if request.finish_reason is None:
                request.cancel(error)

    async def reading(self) -> AsyncIterator[dict[str, int]]:
        """How much of the prompts is in the cache, in llama-server's words: where there is more of it, a few times a second, and when the
        first piece is there. Raises what a choice failed with before.
        """
        n, is_there = -1, False
        while not is_there:
            is_there = await self._channel.some_async(_OFTEN)
            self.replies()
            progress = self._progress()
            if progress["processed"] > n and any(request.n_cached is not None for request in self._readers):
                n = progress["processed"]
                yield progress

    def _progress(self) -> dict[str, int]:
        of_each = [request.progress for request in self._readers]
        return {
            "total": sum(n for _, n in of_each),
            "cache": sum(request.n_cached or 0 for request in self._readers),
            "processed": sum(n for n, _ in of_each),
            "time_ms": round((time.perf_counter() - self._t_start) * 1e3),
        }

    async def pieces(self) -> AsyncIterator[tuple[int, Chunk]]:
        """(index of the choice, text) as it comes, where it streams. Raises what a choice failed with."""
        while True:
            try:
                yield await self._channel.get_async()
            except StopAsyncIteration:
                break
        self.replies()

    async def ended(self) -> list[Reply]:
        """Waits for replies()."""
        async for _ in self.pieces():
            pass
        return self.replies()

    def replies(self) -> list[Reply]:
        return [request.reply() for request in self._requests]

    def results(self) -> list[dict[str, Any]]:
        """{"result": what an io.yaml makes of it} of each choice, {} where nobody asked for one. Raises ResultError."""
        return [
            {"result": p.prompt.result_of(reply.text, reply.logprobs)} if p.prompt.result_of else {}
            for p, reply in zip(self._prepared, self.replies())
        ]

    def token_ids(self) -> list[tuple[list[int], list[int]]]:
        """(tokens of the prompt, those of the answer) of each choice, with the one that ended it; as the next prompt has them."""
        return [
            (p.prompt.tokens, [*request.generated, *([] if request.end is None else [request.end])])
            for p, request in zip(self._prepared, self._requests)
        ]

    def warnings(self) -> list[str]:
        """Of all choices, each once."""
        return list(dict.fromkeys(warning for request in self._requests for warning in request.warnings))

    def ended_replies(self) -> list[Reply]:
        """Of the choices that have not failed."""
        return [request.reply() for request in self._requests if request.error is None]

    def remember(self) -> None:
        """Where an answer is part of a conversation, its tokens are known from now on."""
        for prepared, request in zip(self._prepared, self._requests):
            if prepared.is_said and request.error is None:
                self._model.engine.prompts.remember(prepared.prompt, request.generated, self._cache_salt)

    def _put(self, index: int, piece: Chunk) -> None:
        self._channel.put((index, piece))

    def _end_one(self) -> None:
        self._n_left -= 1
        if not self._n_left:
            try:
                self._on_end(self)
            finally:
                self._channel.end()
