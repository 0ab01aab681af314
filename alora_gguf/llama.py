"""llama_cpp.Llama, with adapters by name."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any

from . import _native  # loads our library, before llama_cpp could load another
from .activation import find_invocation
from .adapter import Adapter
from .context import check
from .convert import base_fingerprint
from .errors import PromptError, UnknownAdapterError

import llama_cpp  # isort: skip
from llama_cpp import llama_chat_format as chat_format  # isort: skip

_EVERYWHERE = 1 << 31  # beyond any position


class Llama(llama_cpp.Llama):
    """llama_cpp.Llama, whose completions may each have an adapter: `adapter=name`.

    `adapters` maps names to GGUF files. An adapter is active as in PEFT: from the first token of the
    last occurrence of its invocation on, an ordinary LoRA everywhere. A chat that does not have the
    invocation in it is asked with it, in place of the template's generation prompt.

    What the context holds is reused as it is upstream, as far as the same adapter computed it.
    Raises AdapterFileError, AdapterMismatchError, UnknownAdapterError, PromptError.
    """

    def __init__(self, model_path: str, *, adapters: Mapping[str, str | PathLike[str]] | None = None, **kwargs: Any):
        self._adapters: dict[str, Adapter] = {}
        self._asked: Adapter | None = None  # by the call under way
        self._in_chat = False
        self._active: tuple[Adapter | None, int] = (None, _EVERYWHERE)  # what the context holds is adapted, from where on
        super().__init__(model_path, **kwargs)
        decode = self._ctx.decode
        self._ctx.decode = lambda batch: (self._activate(), decode(batch))[1]
        for name, path in (adapters or {}).items():
            self.load_adapter(path, name)

    def load_adapter(self, path: str | PathLike[str], name: str | None = None) -> None:
        """Loads a GGUF adapter, in place of one that had its name."""
        adapter = Adapter(path, name, lambda: base_fingerprint(self.model_path))
        adapter.load(self._ctx.ctx)
        if adapter.name in self._adapters:
            self.unload_adapter(adapter.name)
        self._adapters[adapter.name] = adapter

    def unload_adapter(self, name: str) -> None:
        self._named(name).free()
        del self._adapters[name]

    # calls

    def create_completion(self, prompt: str | list[int], *args: Any, adapter: str | None = None, **kwargs: Any):
        """As llama_cpp.Llama.create_completion, with an adapter."""
        asked = self._asked if adapter is None else self._named(adapter)
        if self._in_chat and find_invocation(prompt, asked.invocation_tokens) is None:
            prompt = [*prompt, *asked.invocation_tokens]
        with self._asking(asked):
            completion = super().create_completion(prompt, *args, **kwargs)
        return completion if isinstance(completion, dict) else self._each(completion, asked)

    def __call__(self, prompt: str, *args: Any, adapter: str | None = None, **kwargs: Any):
        return self.create_completion(prompt, *args, adapter=adapter, **kwargs)

    def create_chat_completion(self, messages: list, *args: Any, adapter: str | None = None, **kwargs: Any):
        """As llama_cpp.Llama.create_chat_completion, with an adapter."""
        if adapter is None:
            return super().create_chat_completion(messages, *args, **kwargs)
        asked = self._named(adapter)
        before = self.chat_handler
        if asked.is_activated:
            self.chat_handler = self._invoking(asked, before)
        self._in_chat = True
        try:
            with self._asking(asked):
                completion = super().create_chat_completion(messages, *args, **kwargs)
        finally:
            self.chat_handler, self._in_chat = before, False
        return completion if isinstance(completion, dict) else self._each(completion, asked)

    # what upstream calls

    def generate(self, tokens, *args: Any, reset: bool = True, **kwargs: Any):
        tokens = list(tokens)
        start = self._asked.start_in(tokens) if self._asked else None
        wanted = (None, _EVERYWHERE) if start is None else (self._asked, start)
        if wanted != self._active:
            self.n_tokens = min(self.n_tokens, wanted[1], self._active[1])
            self._requires_eval = True
            if not self.n_tokens:
                self.reset()
            self._active = wanted
        return (yield from super().generate(tokens, *args, reset=reset, **kwargs))

    def reset(self) -> None:
        super().reset()
        if self._asked is None:
            self._active = (None, _EVERYWHERE)

    def embed(self, *args: Any, **kwargs: Any):
        self.reset()
        return super().embed(*args, **kwargs)

    def save_state(self):
        state = super().save_state()
        state.active = self._active
        return state

    def load_state(self, state) -> None:
        super().load_state(state)
        self._active = getattr(state, "active", (None, _EVERYWHERE))

    def close(self) -> None:
        for adapter in self._adapters.values():
            adapter.free()
        self._adapters.clear()
        super().close()

    # adapters

    def _named(self, name: str) -> Adapter:
        if name not in self._adapters:
            raise UnknownAdapterError(
                f"adapter {name!r}: expected one of {', '.join(sorted(self._adapters)) or 'none'}; load it with load_adapter()")
        return self._adapters[name]

    def _activate(self) -> None:
        """Before each decode, because upstream's way of cutting the context back ends what is active there."""
        ctx, (adapter, start) = self._ctx.ctx, self._active
        check(_native.alora_seq_deactivate(ctx, 0, 0))
        if adapter is not None:
            check(_native.alora_seq_activate(ctx, 0, adapter.ptr, start, 1.0))

    @contextlib.contextmanager
    def _asking(self, adapter: Adapter | None):
        """Within it, tokens are generated with the adapter. Caches of states know of none, and are not used with one."""
        before = self._asked, self.cache
        self._asked, self.cache = adapter, None if adapter else self.cache
        try:
            yield
        finally:
            self._asked, self.cache = before

    def _each(self, chunks: Iterator, adapter: Adapter | None) -> Iterator:
        while True:
            with self._asking(adapter):
                try:
                    chunk = next(chunks)
                except StopIteration:
                    return
            yield chunk

    def _invoking(self, adapter: Adapter, handler):
        """A chat handler that ends the prompt with the invocation, where the chat does not have it."""
        template = self.metadata.get("tokenizer.chat_template")
        if handler is not None or template is None:
            raise PromptError(
                f"adapter {adapter.name!r}: expected the model's own chat template, to put its invocation in, got "
                f"{'a chat_handler' if handler else 'none'}; use create_completion")
        text = lambda token: self._model.token_get_text(token) if token != -1 else ""  # noqa: E731
        plain, whole = (
            chat_format.Jinja2ChatFormatter(
                template, text(self.token_eos()), text(self.token_bos()), add_generation_prompt, [self.token_eos()])
            for add_generation_prompt in (False, True))

        def prompt(**chat: Any):
            response = whole(**chat)
            tokens = self.tokenize(response.prompt.encode("utf-8"), add_bos=False, special=True)
            if find_invocation(tokens, adapter.invocation_tokens) is not None:
                return response
            return plain(**chat)  # create_completion puts the invocation after it

        return chat_format.chat_formatter_to_chat_completion_handler(prompt)
