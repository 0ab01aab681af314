"""A base model with its context, its cache and its adapters."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Container, Hashable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from .bundled import bundled_adapters
from .conversation.conversation import Conversation
from .engine.adapter import Adapter
from .engine.adapters import Registry
from .engine.cache import Activation
from .engine.call import Call
from .engine.engine import Engine
from .engine.forward import logits
from .engine.request import Request
from .engine.stream import Stream, drain
from .errors import AloraError, ClosedError, ModelLoadError, PromptError
from .hub.bases import base_file, is_adapter
from .hub.library import intrinsics_of
from .hub.names import adapter_file, adapter_name
from .prompt.builder import Setting
from .prompt.chat_template import ChatTemplate
from .prompt.decisions.question import Question, State, state_messages
from .prompt.messages import Message, check_messages, checked_variables
from .prompt.tools.schemas import Tool
from .reply import Chunk, Decision, Decisions, Reply
from .runtime.library import log_to_stderr
from .runtime.loading import check_number, load
from .runtime.sampling import SamplingParams
from .runtime.vocab import Vocab
from .text import printable

_log = logging.getLogger("alora_gguf.hub")


class Model:
    """A GGUF base model, loaded with one context that all its conversations share.

    path           a file, or `hf:owner/repo[:QUANT][@revision]` on the hub, which is fetched if it is not here (default: Q4_K_M, else the first)
    n_ctx          cells of the KV cache, for all conversations together; 0: as the model was trained
    n_batch        most tokens of one decode call; n_ubatch: of one graph
    n_seq_max      most branches that the cache keeps, and so most calls at once; at most and by default 256. Where
                   the memory is recurrent each takes a state, and the default is 16
    n_threads      default: the cores that the process may use
    n_gpu_layers   layers on devices other than the CPU, -1: all
    type_k, type_v type of the KV cache: "f16", "q8_0", ... or ggml's number
    flash_attn     None: where it can be used
    parse_special  whether the names of control tokens in messages and documents become these tokens; SECURITY.md says what that opens
    adapter_memory most bytes of adapters in memory at once, None: no limit
    rpc_servers    "host:port" of machines that run `alora rpc` or llama.cpp's rpc-server of this version, used as devices
    verbose        llama.cpp's log on standard error, else on the logger "alora_gguf.llama"

    The other arguments are as in llama_cpp.Llama. Raises ModelLoadError, HubError.
    """

    engine: Engine

    def __init__(
        self,
        path: str | PathLike[str],
        *,
        n_ctx: int = 4096,
        n_batch: int = 512,
        n_ubatch: int = 512,
        n_seq_max: int | None = None,
        n_threads: int | None = None,
        n_threads_batch: int | None = None,
        n_gpu_layers: int = 0,
        main_gpu: int = 0,
        split_mode: int | None = None,
        tensor_split: Sequence[float] | None = None,
        use_mmap: bool = True,
        use_mlock: bool = False,
        type_k: str | int | None = None,
        type_v: str | int | None = None,
        flash_attn: bool | None = None,
        offload_kqv: bool = True,
        op_offload: bool | None = None,
        swa_full: bool | None = None,
        rope_freq_base: float = 0.0,
        rope_freq_scale: float = 0.0,
        chat_template: str | None = None,
        parse_special: bool = False,
        adapter_memory: int | None = None,
        rpc_servers: Sequence[str] = (),
        verbose: bool = False,
    ):
        if verbose:
            log_to_stderr()
        check_number("adapter_memory", 0 if adapter_memory is None else adapter_memory, 0, 2**63 - 1)
        file = base_file(path)
        try:
            loaded = load(
                file,
                n_ctx=n_ctx,
                n_batch=n_batch,
                n_ubatch=n_ubatch,
                n_seq_max=n_seq_max,
                n_threads=n_threads,
                n_threads_batch=n_threads_batch,
                n_gpu_layers=n_gpu_layers,
                main_gpu=main_gpu,
                split_mode=split_mode,
                tensor_split=tensor_split,
                use_mmap=use_mmap,
                use_mlock=use_mlock,
                type_k=type_k,
                type_v=type_v,
                flash_attn=flash_attn,
                offload_kqv=offload_kqv,
                op_offload=op_offload,
                swa_full=swa_full,
                rope_freq_base=rope_freq_base,
                rope_freq_scale=rope_freq_scale,
                rpc_servers=rpc_servers,
            )
        except ModelLoadError as e:
            if is_adapter(file):
                raise ModelLoadError(
                    f"{file}: expected a base model, got an adapter; name the model it was made for, and load this as an adapter"
                ) from e
            raise
        self.engine = Engine(loaded, chat_template=chat_template, parse_special=parse_special, adapter_memory=adapter_memory)

    def __repr__(self) -> str:
        return f"<Model {self.path.name}: {len(self.adapters)} adapters, n_ctx {self.engine.context.n_ctx}>"

    @property
    def path(self) -> Path:
        """Of its GGUF file."""
        return self.engine.path

    @property
    def vocab(self) -> Vocab:
        return self.engine.vocab

    # adapters

    def load_adapter(
        self, path: str | PathLike[str], name: str | None = None, *, force: bool = False, io_yaml: str | PathLike[str] | None = None
    ) -> Adapter:
        """Loads an adapter under `name` (default: the file's name without ending).

        `path` is a GGUF file, a PEFT folder, which is converted on the way, one of bundled_adapters() by its name, or
        `hf:owner/repo/name[@revision]` on the hub: of its forms that for this base, aLoRA before LoRA.

        Calls that begin from now on and name it mean this one. With `force` the adapter may have been
        made for another base of the same shapes. `io_yaml` is a file that says what an intrinsic is asked
        and what it answers; else `<name of the file>.io.yaml` beside the adapter does, or the one in it.
        Raises AdapterFileError, AdapterMismatchError, ConversionError, HubError or IoYamlError.
        """
        self.check_open()
        adapter = Adapter(*self._file(path, name), None if force else self.engine.fingerprint, io_yaml, self.engine.prompts)
        adapter.read()  # here, so that the loop is not kept waiting for it

        def load() -> None:
            self.adapters.load(adapter)  # where there is no room now, the first call that needs it loads it
            self.adapters.add(adapter)
            self.adapters.sweep()

        self.engine.loop.call(load)
        return adapter

    def register_adapter(
        self, path: str | PathLike[str], name: str | None = None, *, force: bool = False, io_yaml: str | PathLike[str] | None = None
    ) -> Adapter:
        """Names an adapter like load_adapter, but the file is read by the first call that needs it."""
        self.check_open()
        adapter = Adapter(*self._file(path, name), None if force else self.engine.fingerprint, io_yaml, self.engine.prompts)
        self.adapters.add(adapter)
        return adapter

    def load_intrinsics(self, library: str | PathLike[str], *, taken: Container[str] = ()) -> list[Adapter]:
        """Loads all adapters of a library that are for this base, each by its name there: of its forms aLoRA before LoRA.

        `library` is `hf:owner/repo[@revision]`, or a folder with adapters in `<name>/<base>/<alora|lora>`,
        `<name>/<alora|lora>/<base>` or `<name>`. What is not here is fetched, and converted once.

        One that cannot be loaded is a line on the logger "alora_gguf.hub", and so is one whose name is in
        `taken`; the others are loaded. Raises HubError, AdapterFileError or ConversionError if there is no
        library or nothing of it is for this base, and the first adapter's error if all of them fail.
        """
        self.check_open()
        found = intrinsics_of(library, self.path)
        loaded, errors = [], []
        for name, file in found.items():
            if name in taken:
                _log.warning(
                    "%s", f"{printable(os.fspath(library))}: {printable(name)}: expected a name of its own, got one that is taken; it is left out"
                )
                continue
            try:
                loaded.append(self.load_adapter(file(), name))
            except ClosedError:
                raise
            except AloraError as e:
                errors.append(e)
                _log.warning("%s", printable(f"{os.fspath(library)}: {name}: left out: {e}", 1000))
        if errors and not loaded:
            raise errors[0]
        return loaded

    def _file(self, path: str | PathLike[str], name: str | None) -> tuple[Path, str]:
        """A GGUF adapter, and its name."""
        return adapter_file(path, lambda: self.path, bundled_adapters), name or adapter_name(path)

    def unload_adapter(self, name: str) -> None:
        """Takes the name away, and the adapter out of memory as soon as no call uses it. Raises UnknownAdapterError."""
        self.adapters.remove(name)
        self.engine.loop.call(self.adapters.sweep)

    def adapter(self, name: str) -> Adapter:
        """The adapter of this name. Raises UnknownAdapterError."""
        return self.adapters[name]

    def intrinsic(self, name: str) -> Adapter:
        """The same, if it can be invoked. Raises NoInvocationError too."""
        return self.adapters.intrinsic(name)

    @property
    def adapters(self) -> Registry:
        """All of them, by name."""
        return self.engine.adapters

    @property
    def fingerprint(self) -> str:
        """What the base is, whatever its quantisation: docs/format.md has the definition."""
        return self.engine.fingerprint()

    # text

    def tokenize(self, text: str, *, special: bool = True, add_bos: bool = False) -> list[int]:
        return self.vocab.tokenize(text, special=special, add_bos=add_bos)

    def detokenize(self, tokens: Sequence[int], *, special: bool = True) -> str:
        return self.vocab.detokenize(tokens, special=special)

    @property
    def template(self) -> ChatTemplate:
        """The model's chat template. Raises PromptError if it has none."""
        return self.engine.template

    def render(self, messages: Sequence[Message], /, *, add_generation_prompt: bool = False, **chat_template_kwargs: Any) -> str:
        """The messages as the model's chat template writes them, fitted to what it takes.

        chat_template_kwargs   what the template gets too, as `documents` (in a first message where it does not know them), `tools`,
                               `enable_thinking`

        Raises PromptError.
        """
        check_messages(messages)
        documents = chat_template_kwargs.pop("documents", None) or ()
        setting = Setting(documents, checked_variables(chat_template_kwargs))
        return self.engine.prompts.render(messages, add_generation_prompt=add_generation_prompt, setting=setting)

    # computation

    def logits(self, rows: Sequence[tuple[Sequence[int], str | None]]) -> list[np.ndarray]:
        """The logits of every token of each (tokens, adapter name or None): float32 [len(tokens), n_vocab].

        All rows are decoded in one batch (in several where they have more than n_batch tokens
        together). An adapter is active as in PEFT's forward: from the first token of the last
        occurrence of its invocation tokens on, and nowhere if there is none; an ordinary LoRA
        everywhere. Raises PromptError, UnknownAdapterError, ContextFullError, SequenceLimitError.
        """
        if any(isinstance(row, str) or len(row) != 2 for row in rows):
            raise PromptError("rows: expected pairs of tokens and an adapter's name or None, got something else")
        self.check_open()
        return logits(self.engine, [tokens for tokens, _ in rows], [self.adapter(name) if name is not None else None for _, name in rows])

    @overload
    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        adapter: str | None = ...,
        stream: Literal[False] = ...,
        on_text: Callable[[Chunk], Any] | None = ...,
        **sampling: Any,
    ) -> Reply: ...

    @overload
    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        adapter: str | None = ...,
        stream: Literal[True],
        on_text: Callable[[Chunk], Any] | None = ...,
        **sampling: Any,
    ) -> Stream[Chunk, Reply]: ...

    @overload
    def generate(
        self, prompt: str | Sequence[int], *, adapter: str | None = ..., stream: bool, on_text: Callable[[Chunk], Any] | None = ..., **sampling: Any
    ) -> Reply | Stream[Chunk, Reply]: ...

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        adapter: str | None = None,
        stream: bool = False,
        on_text: Callable[[Chunk], Any] | None = None,
        **sampling: Any,
    ) -> Reply | Stream[Chunk, Reply]:
        """Continues a prompt, text or tokens. An adapter is active in it as in logits().

        Where the prompt does not have the adapter's invocation the base answers, as with PEFT: that is a
        warning in the reply and on the logger "alora_gguf". Streams as Conversation.ask; `sampling` is as in
        SamplingParams. Raises PromptError, UnknownAdapterError, ContextFullError, SequenceLimitError.
        """
        t_start = time.perf_counter()
        self.check_open()
        params = SamplingParams.of(sampling)
        chosen = self.adapter(adapter) if adapter is not None else None
        call: Call[Chunk] = Call()

        def prepare() -> None:
            tokens = self.vocab.tokenize_prompt(prompt, begins=True) if isinstance(prompt, str) else list(prompt)
            start = chosen.start_in(tokens) if chosen else None
            request = Request(
                tokens,
                params,
                self.vocab,
                on_chunk=call.channel.put,
                on_end=call.channel.end,
                t_start=t_start,
                activations=[Activation(chosen, start)] if chosen and start is not None else [],
                checkpoint=start or None,
                warnings=chosen.warnings_at(start) if chosen else [],
            )
            call.follow(request.reply, request)
            self.engine.loop.submit(request)

        call.begin(prepare, aside=stream)
        chunks: Stream[Chunk, Reply] = Stream(call)
        return chunks if stream else drain(chunks, on_text)

    def conversation(
        self,
        *,
        system: str | None = None,
        messages: Sequence[Message] = (),
        adapter: str | None = None,
        tools: Sequence[Tool] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        cache_salt: Hashable = None,
        on_full: str = "error",
    ) -> Conversation:
        """A new conversation, after a system message and other messages if given. Nothing is computed yet.

        messages               as OpenAI has them: content may be null or text parts; tool_calls, tool_call_id, name and reasoning_content
                               reach the chat template
        tools                  functions or OpenAI's schemas, as in Conversation.ask
        chat_template_kwargs   what the chat template gets beside them, as {"enable_thinking": False}

        `adapter` names an ordinary LoRA that it is held with, from its first token on. It finds in the
        cache what conversations of the same `cache_salt` have computed, and nothing of any other.
        When the context is full a question is a ContextFullError; with on_full="drop-oldest" the oldest turns are left out of the
        prompts, the reply's `warnings` say so, and `messages` still has them all.
        """
        self.check_open()
        first = [{"role": "system", "content": system}] if system is not None else []
        return Conversation(
            self.engine,
            [*first, *messages],
            self.adapter(adapter) if adapter is not None else None,
            cache_salt,
            tools=tools,
            chat_template_kwargs=chat_template_kwargs,
            on_full=on_full,
        )

    @overload
    def decide(
        self,
        state: State,
        questions: Mapping[str, Question | str],
        *,
        adapter: str | None = ...,
        n_orders: int = ...,
        seed: int = ...,
        stream: Literal[False] = ...,
        on_decision: Callable[[str, Decision], Any] | None = ...,
        chat_template_kwargs: Mapping[str, Any] | None = ...,
        cache_salt: Hashable = ...,
    ) -> Decisions: ...

    @overload
    def decide(
        self,
        state: State,
        questions: Mapping[str, Question | str],
        *,
        adapter: str | None = ...,
        n_orders: int = ...,
        seed: int = ...,
        stream: Literal[True],
        on_decision: Callable[[str, Decision], Any] | None = ...,
        chat_template_kwargs: Mapping[str, Any] | None = ...,
        cache_salt: Hashable = ...,
    ) -> Stream[tuple[str, Decision], Decisions]: ...

    def decide(
        self,
        state: State,
        questions: Mapping[str, Question | str],
        *,
        adapter: str | None = None,
        n_orders: int = 1,
        seed: int = 0,
        stream: bool = False,
        on_decision: Callable[[str, Decision], Any] | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        cache_salt: Hashable = None,
    ) -> Decisions | Stream[tuple[str, Decision], Decisions]:
        """Answers typed questions about a state: text, a value of JSON, or messages. As Conversation.decide; it is computed once for all of them.

        Raises PromptError, UnknownAdapterError, NoInvocationError.
        """
        chat = self.conversation(messages=state_messages(state), chat_template_kwargs=chat_template_kwargs, cache_salt=cache_salt)
        return chat.decide(questions, adapter=adapter, n_orders=n_orders, seed=seed, stream=stream, on_decision=on_decision)

    def clear_cache(self) -> None:
        """Gives up every cell that no call under way uses, and what was decided by them."""
        self.check_open()
        self.engine.scores.clear()
        self.engine.loop.call(self.engine.cache.clear)

    def restore(self, path: str | PathLike[str], *, cache_salt: Hashable = None, on_full: str = "error") -> Conversation:
        """The conversation that Conversation.save() wrote to `path`, its cells in the cache again, in `cache_salt`.

        Raises SavedConversationError if the file is damaged or was saved with another model, adapter,
        version or type of cells; ContextFullError if it does not fit.
        """

        self.check_open()
        return Conversation.restored(self.engine, path, cache_salt, on_full)

    # life

    def check_open(self) -> None:
        """Raises ClosedError after close()."""
        self.engine.check_open()

    def close(self) -> None:
        """Frees the model; calls under way in any thread end, or raise ClosedError, and so do all that come."""
        self.engine.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "engine"):  # else it could not be loaded
            self.close()
