"""The choices of one request, generated together."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from typing import Any

from ..adapter import Adapter
from ..engine.channel import Channel
from ..engine.request import Request
from ..engine.text import Piece
from ..model import Model
from ..reply import Reply
from ..sampling import SamplingParams
from .prompt import Prompt


class Generation:
    """Begun with begin(); then pieces() come, and replies() are what came of it.

    `choices` are prompts, each with how it is continued. `on_end` is called once when all have ended,
    for whatever reason, on the engine's thread, which it must not keep, and before anybody hears of the end.
    It shares cells with others of the same `space`. `adapter` is the one that the client asked for; where it
    is active nowhere in a prompt, the reply warns of that.
    """

    def __init__(
        self,
        model: Model,
        choices: Sequence[tuple[Prompt, SamplingParams]],
        on_end: Callable[[Generation], None],
        *,
        streams: bool,
        space: Hashable,
        adapter: Adapter | None = None,
    ):
        self.prompts = [prompt for prompt, _ in choices]
        self._model = model
        self._channel: Channel[tuple[int, Piece]] = Channel()
        warnings = {key: _warnings(adapter, prompt) for key, prompt in {id(prompt): prompt for prompt in self.prompts}.items()}
        self._requests = [
            Request(prompt.tokens, params, model.vocab, activations=prompt.activations, checkpoint=prompt.n_shared, space=space,
                    warnings=warnings[id(prompt)])
            for prompt, params in choices]
        self._n_left = len(self._requests)
        self._on_end = on_end
        for index, request in enumerate(self._requests):
            if streams:
                request.on_piece = lambda piece, index=index: self._channel.put((index, piece))
            request.on_end = self._end_one

    def begin(self) -> None:
        """Raises ContextFullError or ClosedError; then on_end is not called."""
        self._model.loop.submit(*self._requests)

    def cancel(self, error: BaseException | None = None) -> None:
        """Ends what has not ended before its next token, as failed if there is an error."""
        for request in self._requests:
            if request.finish_reason is None:
                request.cancel(error)

    async def pieces(self) -> AsyncIterator[tuple[int, Piece]]:
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
        return [{"result": prompt.result_of(reply.text, reply.logprobs)} if prompt.result_of else {}
                for prompt, reply in zip(self.prompts, self.replies())]

    def warnings(self) -> list[str]:
        """Of all choices, each once."""
        return list(dict.fromkeys(warning for request in self._requests for warning in request.warnings))

    def ended_replies(self) -> list[Reply]:
        """Of the choices that have not failed."""
        return [request.reply() for request in self._requests if request.error is None]

    def said(self) -> list[tuple[str, list[int]]]:
        """Where an answer is part of a conversation: the text up to its end, and its tokens."""
        return [(prompt.text + request.raw_text, request.tokens)
                for prompt, request in zip(self.prompts, self._requests) if prompt.text is not None and request.error is None]

    def _end_one(self) -> None:
        self._n_left -= 1
        if not self._n_left:
            try:
                self._on_end(self)
            finally:
                self._channel.end()


def _warnings(adapter: Adapter | None, prompt: Prompt) -> list[str]:
    return adapter.warnings_at(next((a.start for a in prompt.activations if a.adapter is adapter), None)) if adapter else []
