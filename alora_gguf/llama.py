"""llama_cpp.Llama, with adapters by name."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import weakref
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from functools import cached_property, partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from .bundled import bundled_adapters
from .convert import base_fingerprint
from .engine.adapter import Adapter
from .errors import ClosedError, PromptError, UnknownAdapterError
from .hub.bases import base_file
from .hub.names import adapter_file, adapter_name
from .prompt.builder import PromptBuilder, Setting
from .prompt.chat_template import template_of
from .prompt.io_yaml import IntrinsicRequest, sampling_of
from .runtime import native  # loads our library, before llama_cpp could load another
from .runtime.constraint import Constraint
from .runtime.context import check
from .runtime.lifetime import Lifetime
from .runtime.vocab import Vocab

import llama_cpp  # isort: skip
from llama_cpp import llama_chat_format as chat_format  # isort: skip
from llama_cpp.llama_tokenizer import LlamaTokenizer  # isort: skip

if TYPE_CHECKING:
    from llama_cpp.llama import LlamaState
    from llama_cpp.llama_types import (
        CreateChatCompletionResponse,
        CreateChatCompletionStreamResponse,
        CreateCompletionResponse,
        CreateCompletionStreamResponse,
    )

Item = TypeVar("Item")

_EVERYWHERE = 1 << 31  # beyond any position
_OF_COMPLETIONS = inspect.signature(llama_cpp.Llama.create_completion).parameters
_OF_TOOLS = ("functions", "function_call", "tools", "tool_choice")  # of create_chat_completion, behind the messages in this order


class Llama(llama_cpp.Llama):
    """llama_cpp.Llama, whose completions may each have an adapter: `adapter=name`.

    `model_path` is as in Model; `adapters` maps names to paths or names as Model.load_adapter takes them. An adapter is active as in PEFT: from the first token of the
    last occurrence of its invocation on, an ordinary LoRA everywhere. A chat that does not have the
    invocation in it is asked with it, in place of the template's generation prompt.

    What the context holds is reused as it is upstream, as far as the same adapter computed it.
    close() is for any thread: what is inside a call ends at its next token, and everything after it raises ClosedError.
    Raises AdapterFileError, AdapterMismatchError, ConversionError, HubError, UnknownAdapterError, PromptError.
    """

    def __init__(self, model_path: str | PathLike[str], *, adapters: Mapping[str, str | PathLike[str]] | None = None, **kwargs: Any):
        self._lifetime = Lifetime()
        self._adapters: dict[str, Adapter] = {}
        self._asked: Adapter | None = None  # by the call under way
        self._active: tuple[Adapter | None, int] = (None, _EVERYWHERE)  # what the context holds is adapted, from where on
        super().__init__(os.fspath(base_file(model_path)), **kwargs)
        if type(self.tokenizer_) is LlamaTokenizer:
            self.tokenizer_ = _Tokenizer(self, self._lifetime)
        context: Any = self._ctx
        context.decode = _decoding(context.decode, weakref.ref(self))
        for name, path in (adapters or {}).items():
            self.load_adapter(path, name)

    def load_adapter(self, path: str | PathLike[str], name: str | None = None) -> None:
        """Loads an adapter, in place of one that had its name. `path` is as in Model.load_adapter."""
        file = adapter_file(path, lambda: Path(self.model_path), bundled_adapters)
        adapter = Adapter(file, name or adapter_name(path), functools.partial(base_fingerprint, self.model_path))
        adapter.load(self._ctx.ctx)
        if adapter.name in self._adapters:
            self.unload_adapter(adapter.name)
        self._adapters[adapter.name] = adapter

    def unload_adapter(self, name: str) -> None:
        self._named(name).free()
        del self._adapters[name]

    # calls

    def create_completion(
        self, prompt: str | list[int], *args: Any, adapter: str | None = None, **kwargs: Any
    ) -> CreateCompletionResponse | Iterator[CreateCompletionStreamResponse]:
        """As llama_cpp.Llama.create_completion, with an adapter."""
        asked = self._asked if adapter is None else self._named(adapter)
        with self._asking(asked):
            completion = super().create_completion(prompt, *args, **kwargs)
        return completion if isinstance(completion, dict) else self._each(completion, asked)

    def __call__(
        self, prompt: str, *args: Any, adapter: str | None = None, **kwargs: Any
    ) -> CreateCompletionResponse | Iterator[CreateCompletionStreamResponse]:
        return self.create_completion(prompt, *args, adapter=adapter, **kwargs)

    def create_chat_completion(
        self,
        messages: list[Any],
        *args: Any,
        adapter: str | None = None,
        documents: Sequence[str | Mapping[str, str]] | None = None,
        arguments: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> CreateChatCompletionResponse | Iterator[CreateChatCompletionStreamResponse]:
        """As llama_cpp.Llama.create_chat_completion, with an adapter.

        An intrinsic is asked as its io.yaml says, in the file or beside it: instruction with its `arguments`, documents, JSON
        schema, sampling; the caller's own arguments come first. A chat whose last message has the invocation is taken as it is.
        """
        if adapter is None:
            return super().create_chat_completion(messages, *args, **kwargs)
        for name, value in (*zip(_OF_TOOLS, args), *((name, kwargs.get(name)) for name in _OF_TOOLS)):
            if value:
                raise PromptError(f"{name}: expected none with an adapter, whose prompt has no place for it, got {value!r:.80}; leave it away")
        asked = self._named(adapter)
        before = self.chat_handler
        defaults: dict[str, Any] = {}
        if asked.is_intrinsic:
            if before is not None:
                raise PromptError(
                    f"adapter {adapter!r}: expected the model's own chat template, to put its invocation in, got a chat_handler; "
                    "use create_completion"
                )
            prompt = self._prompts.intrinsic(messages, asked.intrinsic, Setting(documents or ()), arguments=arguments or {}, may_be_asked=True)
            defaults = _asked_for(prompt.asked) if prompt.asked else {}
            self.chat_handler = partial(_answer, prompt.tokens, self._prompts.vocab)
        elif documents or arguments:
            raise PromptError(
                f"adapter {adapter!r}: expected an intrinsic for documents and arguments, got an ordinary LoRA; put them into a message"
            )
        try:
            with self._asking(asked):
                completion = super().create_chat_completion(messages, *args, **{**defaults, **kwargs})
        finally:
            self.chat_handler = before
        return completion if isinstance(completion, dict) else self._each(completion, asked)

    # what upstream calls

    def generate(self, tokens: Sequence[int], *args: Any, reset: bool = True, **kwargs: Any) -> Generator[int, Sequence[int] | None, None]:
        tokens = list(tokens)
        start = self._asked.start_in(tokens) if self._asked else None
        wanted = (None, _EVERYWHERE) if start is None else (self._asked, start)
        if wanted != self._active:
            self.n_tokens = min(self.n_tokens, wanted[1], self._active[1])
            self._requires_eval = True
            if not self.n_tokens:
                self.reset()
            self._active = wanted
        yield from super().generate(tokens, *args, **{"reset": reset, **kwargs})

    def reset(self) -> None:
        super().reset()  # type: ignore[no-untyped-call]
        if self._asked is None:
            self._active = (None, _EVERYWHERE)

    def tokenizer(self) -> LlamaTokenizer:
        return _Tokenizer(self, self._lifetime)

    def embed(self, *args: Any, **kwargs: Any) -> Any:
        self.reset()
        return super().embed(*args, **kwargs)

    def save_state(self) -> LlamaState:
        state = super().save_state()
        vars(state)["active"] = self._active
        return state

    def load_state(self, state: LlamaState) -> None:
        super().load_state(state)
        self._active = getattr(state, "active", (None, _EVERYWHERE))

    def close(self) -> None:
        """Frees the model when no thread is inside a call any more; they end at their next token."""
        if lifetime := getattr(self, "_lifetime", None):
            lifetime.close(self._free)

    def _free(self) -> None:
        for adapter in self._adapters.values():
            adapter.free()
        self._adapters.clear()
        if hasattr(self, "_stack"):  # else upstream's constructor failed before there was anything
            super().close()

    # adapters

    def _named(self, name: str) -> Adapter:
        if name not in self._adapters:
            raise UnknownAdapterError(f"adapter {name!r}: expected one of {', '.join(sorted(self._adapters)) or 'none'}; load it with load_adapter()")
        return self._adapters[name]

    def _activate(self) -> None:
        """Before each decode, because upstream's way of cutting the context back ends what is active there. Raises ClosedError."""
        self._lifetime.check()
        ctx, (adapter, start) = self._ctx.ctx, self._active
        check(native.alora_seq_deactivate(ctx, 0, 0))
        if adapter is not None:
            check(native.alora_seq_activate(ctx, 0, adapter.ptr, start, 1.0))

    @contextlib.contextmanager
    def _asking(self, adapter: Adapter | None) -> Iterator[None]:
        """Within it, tokens are generated with the adapter. Caches of states know of none, and are not used with one."""
        before = self._asked, self.cache
        self._asked, self.cache = adapter, None if adapter else self.cache
        try:
            yield
        finally:
            self._asked, self.cache = before

    def _each(self, chunks: Iterator[Item], adapter: Adapter | None) -> Iterator[Item]:
        while True:
            with self._asking(adapter):
                try:
                    chunk = next(chunks)
                except StopIteration:
                    return
            yield chunk

    @cached_property
    def _prompts(self) -> PromptBuilder:
        vocab = Vocab(self._model.model)  # upstream frees the model
        return PromptBuilder(vocab, partial(template_of, vocab, None, os.path.basename(self.model_path)))


def _asked_for(asked: IntrinsicRequest) -> dict[str, Any]:
    """What an io.yaml says about sampling, as upstream takes it."""
    given = {name: value for name, value in sampling_of(asked).items() if name not in ("logprobs", "top_logprobs")}  # of which nothing is made here
    schema = given.pop("json_schema", None)
    return given if schema is None else {**given, "response_format": {"type": "json_object", "schema": schema}}


def _answer(prompt: list[int], vocab: Vocab, *, llama: Llama, messages: Sequence[Any], stream: bool = False, **given: Any) -> Any:
    """A chat handler whose prompt is there already."""
    logprobs = (given.pop("top_logprobs", None) or 0) if given.pop("logprobs", None) else None
    form = given.pop("response_format", None)
    if form is not None and form.get("type") == "json_object" and given.get("grammar") is None:
        within = _Within(vocab.constraints.constraint("json_schema", form.get("schema") or {"type": "object"}), vocab, len(prompt))
        given["logits_processor"] = llama_cpp.LogitsProcessorList([*(given.get("logits_processor") or ()), within])
    given = {name: value for name, value in given.items() if name not in _OF_TOOLS and name in _OF_COMPLETIONS}
    completion = llama.create_completion(prompt, stream=stream, logprobs=logprobs, **given)
    return chat_format._convert_completion_to_chat(completion, stream=stream)


class _Within:
    """Upstream's logits processor: what comes after the prompt follows a constraint."""

    def __init__(self, constraint: Constraint, vocab: Vocab, n_prompt: int):
        self._constraint = constraint
        self._ends = vocab.ends
        self._n = n_prompt

    def __call__(self, tokens: np.ndarray, logits: np.ndarray) -> np.ndarray:
        allowed = np.zeros(len(logits), np.bool_)
        try:
            for token in tokens[self._n :]:
                self._constraint.accept(int(token))
            self._n = len(tokens)
            tokens, are_few = self._constraint.allowed()
            if are_few:
                allowed[tokens] = True
            else:
                allowed[:] = tokens == 0
        except PromptError:  # nobody hears of it here
            pass
        if not allowed.any():
            allowed[self._ends] = True
        return np.where(allowed, logits, np.float32(-np.inf))


class _Tokenizer(LlamaTokenizer):
    """Upstream's, which has the model's vocabulary behind the back of Llama."""

    def __init__(self, llama: Llama, lifetime: Lifetime):
        super().__init__(llama)
        self._lifetime = lifetime

    def tokenize(self, *args: Any, **kwargs: Any) -> list[int]:
        with self._lifetime:
            return super().tokenize(*args, **kwargs)

    def detokenize(self, *args: Any, **kwargs: Any) -> bytes:
        with self._lifetime:
            return super().detokenize(*args, **kwargs)


def _decoding(decode: Callable[[Any], Any], llama: weakref.ref[Llama]) -> Callable[[Any], Any]:
    """The context's decode, which knows its Llama by a weak reference: it is freed when the last who knows it lets go."""

    def decoding(batch: Any) -> Any:
        owner = llama()
        assert owner is not None  # only its calls decode
        owner._activate()
        return decode(batch)

    return decoding


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method that nobody comes into after close(), and that close() waits for; what it iterates over, step by step."""

    @functools.wraps(method)
    def guarded(self: Llama, *args: Any, **kwargs: Any) -> Any:
        with self._lifetime:
            done = method(self, *args, **kwargs)
        return _steps(done, self._lifetime) if isinstance(done, Iterator) else done

    return guarded


def _steps(steps: Any, lifetime: Lifetime) -> Generator[Any, Any, Any]:
    sent = None
    try:
        while True:
            with lifetime:
                try:
                    step = next(steps) if sent is None else steps.send(sent)
                except StopIteration as end:
                    return end.value
            sent = yield step
    finally:
        if hasattr(steps, "close"):
            with contextlib.suppress(ClosedError), lifetime:
                steps.close()


def _guard(cls: type[Llama]) -> None:
    """Every public method and property of it and of upstream's, but those that need no model."""
    for name in dir(cls):
        found = next(vars(base)[name] for base in cls.__mro__ if name in vars(base))
        if name == "close" or (name.startswith("_") and name != "__call__"):
            continue
        if isinstance(found, property) and found.fget is not None:
            setattr(cls, name, property(_guarded(found.fget), found.fset, found.fdel, found.__doc__))
        elif callable(found) and not isinstance(found, (staticmethod, classmethod, type)):
            setattr(cls, name, _guarded(found))


_guard(Llama)
