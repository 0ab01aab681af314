"""A base model with its context, its cache and its adapters."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache, partial
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ._library import llama_cpp, log_to_stderr, take_error
from .adapter import Adapter
from .context import Context, Span
from .conversation import Conversation
from .convert import base_fingerprint
from .cores import usable_cores
from .engine.cache import Activation, Cache
from .engine.call import Call
from .engine.loop import Loop
from .engine.piece import Piece
from .engine.request import Request
from .errors import AdapterMemoryError, ClosedError, ModelLoadError, NoInvocationError, PromptError
from .prompt.builder import PromptBuilder, Setting
from .prompt.chat_template import ChatTemplate, template_of
from .prompt.messages import Message, check_messages, checked_variables
from .prompt.token_history import TokenHistory
from .registry import Registry
from .relay import check_servers
from .reply import Reply, Stream, drain
from .rpc import devices, relays_to
from .sampling import SamplingParams
from .vocab import Vocab

_CACHE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "bf16": 30}
_N_MOST = 2**31 - 1


class Model:
    """A GGUF base model, loaded with one context that all its conversations share.

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

    The other arguments are as in llama_cpp.Llama. Raises ModelLoadError.
    """

    context: Context | None = None  # None: not loaded

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
        self.path = Path(path)
        if verbose:
            log_to_stderr()
        if not self.path.is_file():
            raise ModelLoadError(f"{path}: expected a GGUF file, got {'a folder' if self.path.is_dir() else 'nothing'}; check the path")
        for name, value, least, most in (
            ("n_ctx", n_ctx, 0, _N_MOST), ("n_batch", n_batch, 1, _N_MOST), ("n_ubatch", n_ubatch, 1, _N_MOST),
            ("n_seq_max", 1 if n_seq_max is None else n_seq_max, 1, 256),
            ("n_threads", n_threads or 1, 1, 512), ("n_threads_batch", n_threads_batch or 1, 1, 512),
            ("adapter_memory", 0 if adapter_memory is None else adapter_memory, 0, 2**63 - 1),
        ):
            if not (isinstance(value, int) and least <= value <= most):
                raise ModelLoadError(f"{name}: expected a whole number from {least} to {most}, got {value!r}")

        relays = relays_to(rpc_servers)
        mp = llama_cpp.llama_model_default_params()
        self._devices = devices(relays)
        mp.devices = ctypes.cast(self._devices, ctypes.c_void_p)
        mp.n_gpu_layers = 0x7FFFFFFF if n_gpu_layers < 0 else n_gpu_layers
        mp.main_gpu = main_gpu
        if split_mode is not None:
            mp.split_mode = split_mode
        if tensor_split is not None:
            self._tensor_split = (ctypes.c_float * llama_cpp.LLAMA_MAX_DEVICES)(*tensor_split)
            mp.tensor_split = self._tensor_split
        mp.load_mode = _load_mode(use_mmap, use_mlock)

        cores = usable_cores()
        cp = llama_cpp.llama_context_default_params()
        cp.n_ctx = n_ctx
        cp.n_batch = min(n_batch, n_ctx) if n_ctx else n_batch
        cp.n_ubatch = min(n_ubatch, cp.n_batch)
        cp.n_threads = n_threads or cores
        cp.n_threads_batch = n_threads_batch or n_threads or cores
        cp.kv_unified = True  # forks share cells instead of copying them
        cp.offload_kqv = offload_kqv
        if type_k is not None:
            cp.type_k = _cache_type("type_k", type_k)
        if type_v is not None:
            cp.type_v = _cache_type("type_v", type_v)
        if flash_attn is not None:
            cp.flash_attn_type = int(flash_attn)
        if op_offload is not None:
            cp.op_offload = op_offload
        if swa_full is not None:
            cp.swa_full = swa_full
        cp.rope_freq_base = rope_freq_base
        cp.rope_freq_scale = rope_freq_scale
        self.cell_types = [cp.type_k, cp.type_v, cp.flash_attn_type]

        take_error()
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(self.path), mp)
        if not self._model:
            check_servers(relays, ModelLoadError)
            raise ModelLoadError(f"{path}: expected a GGUF model, got: {_reason('check the file')}")
        recurrent = llama_cpp.llama_model_is_recurrent(self._model) or llama_cpp.llama_model_is_hybrid(self._model)
        cp.n_seq_max = n_seq_max or (16 if recurrent else 256)
        cp.n_outputs_max = max(cp.n_batch, cp.n_seq_max)  # with fewer than sequences, llama_context aborts
        take_error()
        context = llama_cpp.llama_init_from_model(self._model, cp)
        if not context:
            llama_cpp.llama_model_free(self._model)
            check_servers(relays, ModelLoadError)
            raise ModelLoadError(f"{path}: expected a context of {n_ctx} cells, got: {_reason('give a smaller n_ctx or other options')}")
        self.vocab = Vocab(self._model)
        self.context = Context(
            context, self.vocab.n_tokens, rolls_back=not recurrent, n_swa=llama_cpp.llama_model_n_swa(self._model),
            on_cpu=not n_gpu_layers, relays=relays)
        self.cache = Cache(self.context)
        self.adapters = Registry(self.context, adapter_memory)
        self.loop = Loop(self.context, self.cache, self.adapters, partial(_free, self.adapters, self.context, self.vocab))
        self._fingerprint = cache(partial(base_fingerprint, self.path))  # adapters have it, and not the model
        self.history = TokenHistory()
        self.prompts = PromptBuilder(
            self.vocab, partial(template_of, self.vocab, chat_template, self.path.name), self.history, parse_special=parse_special)

    # adapters

    def load_adapter(
        self,
        path: str | PathLike[str],
        name: str | None = None,
        *,
        force: bool = False,
        io_yaml: str | PathLike[str] | None = None,
    ) -> Adapter:
        """Loads a GGUF adapter under `name` (default: the file's name without ending).

        Calls that begin from now on and name it mean this one. With `force` the adapter may have been
        made for another base of the same shapes. `io_yaml` is a file that says what an intrinsic is asked
        and what it answers; else `<name of the file>.io.yaml` beside the adapter does, or the one in it.
        Raises AdapterFileError, AdapterMismatchError or IoYamlError.
        """
        self.check_open()
        adapter = Adapter(path, name, None if force else self._fingerprint, io_yaml)
        adapter.metadata, adapter.io, adapter.warnings  # noqa: B018  read here, so that the loop is not kept waiting for it

        def load() -> None:
            self.adapters.load(adapter)  # where there is no room now, the first call that needs it loads it
            self.adapters.add(adapter)
            self.adapters.sweep()

        self.loop.call(load)
        return adapter

    def register_adapter(
        self,
        path: str | PathLike[str],
        name: str | None = None,
        *,
        force: bool = False,
        io_yaml: str | PathLike[str] | None = None,
    ) -> Adapter:
        """Names a GGUF adapter like load_adapter, but the file is read by the first call that needs it."""
        self.check_open()
        adapter = Adapter(path, name, None if force else self._fingerprint, io_yaml)
        self.adapters.add(adapter)
        return adapter

    def unload_adapter(self, name: str) -> None:
        """Takes the name away, and the adapter out of memory as soon as no call uses it. Raises UnknownAdapterError."""
        self.adapters.remove(name)
        self.loop.call(self.adapters.sweep)

    def adapter(self, name: str) -> Adapter:
        """The adapter of this name. Raises UnknownAdapterError."""
        return self.adapters[name]

    def intrinsic(self, name: str) -> Adapter:
        """The same, if it can be invoked. Raises NoInvocationError too."""
        adapter = self.adapters[name]
        if not adapter.is_activated:
            raise NoInvocationError(
                f"adapter {name!r}: expected invocation tokens, got an ordinary LoRA; "
                "use an aLoRA, whose adapter_config.json has alora_invocation_tokens")
        return adapter

    @property
    def fingerprint(self) -> str:
        """What the base is, whatever its quantisation: docs/format.md has the definition."""
        return self._fingerprint()

    # text

    def tokenize(self, text: str, *, special: bool = True, add_bos: bool = False) -> list[int]:
        return self.vocab.tokenize(text, special=special, add_bos=add_bos)

    def detokenize(self, tokens: Sequence[int], *, special: bool = True) -> str:
        return self.vocab.detokenize(tokens, special=special)

    @property
    def template(self) -> ChatTemplate:
        """The model's chat template. Raises PromptError if it has none."""
        self.check_open()
        return self.prompts.template

    def render(self, messages: Sequence[Message], /, *, add_generation_prompt: bool = False, **chat_template_kwargs: Any) -> str:
        """The messages as the model's chat template writes them, fitted to what it takes.

        chat_template_kwargs   what the template gets too, as `documents` (in a first message where it does not know them), `tools`,
                               `enable_thinking`

        Raises PromptError.
        """
        check_messages(messages)
        documents = chat_template_kwargs.pop("documents", None) or ()
        setting = Setting(documents, checked_variables(chat_template_kwargs))
        return self.prompts.render(messages, add_generation_prompt=add_generation_prompt, setting=setting)

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
        chosen = [self.adapter(name) if name is not None else None for _, name in rows]
        rows = [self.vocab.check(tokens) for tokens, _ in rows]
        self.context.check_room(sum(map(len, rows)))
        starts = [adapter.start_in(tokens) if adapter else None for tokens, adapter in zip(rows, chosen)]
        return self.loop.call(lambda: self._logits(rows, chosen, starts))

    def _logits(
        self, rows: Sequence[Sequence[int]], chosen: Sequence[Adapter | None], starts: Sequence[int | None]
    ) -> list[np.ndarray]:
        used = [adapter for adapter in chosen if adapter]
        if not self.adapters.hold(used):
            raise AdapterMemoryError("logits: expected room for the adapters of all rows, got calls that use it; wait for them to end")
        seqs: list[int] = []
        try:
            todo = []
            for tokens, adapter, start in zip(rows, chosen, starts):
                seqs.append(self.cache.acquire())
                if start is not None:
                    self.context.activate(seqs[-1], adapter.ptr, start)
                todo.append(Span(seqs[-1], tokens, 0, "all"))
            parts: dict[int, list[np.ndarray]] = {seq: [] for seq in seqs}
            for batch in _split(todo, self.context.n_batch):
                for span, end in zip(batch, self.cache.decode(batch)):
                    n = len(span.tokens)
                    parts[span.seq_id].append(self.context.logits(end - n + 1, n).copy())
        finally:
            for seq in seqs:
                self.context.release(seq)
            self.adapters.release(used)
        return [np.concatenate(parts[seq]) for seq in seqs]

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        adapter: str | None = None,
        stream: bool = False,
        on_text: Callable[[Piece], Any] | None = None,
        **sampling: Any,
    ) -> Reply | Stream[Piece, Reply]:
        """Continues a prompt, text or tokens. An adapter is active in it as in logits().

        Where the prompt does not have the adapter's invocation the base answers, as with PEFT: that is a
        warning in the reply and on the logger "alora_gguf". Streams as Conversation.ask; `sampling` is as in
        SamplingParams. Raises PromptError, UnknownAdapterError, ContextFullError, SequenceLimitError.
        """
        t_start = time.perf_counter()
        self.check_open()
        params = SamplingParams.of(sampling)
        chosen = self.adapter(adapter) if adapter is not None else None
        call: Call[Piece] = Call()

        def prepare() -> None:
            tokens = self.vocab.tokenize_prompt(prompt, begins=True) if isinstance(prompt, str) else list(prompt)
            start = chosen.start_in(tokens) if chosen else None
            request = Request(
                tokens, params, self.vocab, on_piece=call.channel.put, on_end=call.channel.end, t_start=t_start,
                activations=[Activation(chosen, start)] if start is not None else [], checkpoint=start or None,
                warnings=chosen.warnings_at(start) if chosen else [])
            call.follow(request.reply, request)
            self.loop.submit(request)

        pieces = call.begin(prepare, aside=stream)
        return pieces if stream else drain(pieces, on_text)

    def conversation(
        self,
        *,
        system: str | None = None,
        messages: Sequence[Message] = (),
        adapter: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        space: Hashable = None,
    ) -> Conversation:
        """A new conversation, after a system message and other messages if given. Nothing is computed yet.

        messages               as OpenAI has them: content may be null or text parts; tool_calls, tool_call_id, name and reasoning_content
                               reach the chat template
        chat_template_kwargs   what the chat template gets beside them, as {"enable_thinking": False}

        `adapter` names an ordinary LoRA that it is held with, from its first token on. It finds in the
        cache what conversations of the same `space` have computed, and nothing of any other.
        """
        self.check_open()
        first = [{"role": "system", "content": system}] if system is not None else []
        return Conversation(self, [*first, *messages], self.adapter(adapter) if adapter is not None else None, space,
                            chat_template_kwargs=chat_template_kwargs)

    def clear_cache(self) -> None:
        """Gives up every cell that no call under way uses."""
        self.check_open()
        self.loop.call(self.cache.clear)

    def restore(self, path: str | PathLike[str], *, space: Hashable = None) -> Conversation:
        """The conversation that Conversation.save() wrote to `path`, its cells in the cache again, in `space`.

        Raises SavedConversationError if the file is damaged or was saved with another model, adapter,
        version or type of cells; ContextFullError if it does not fit.
        """
        from .saved import restore

        self.check_open()
        return restore(self, path, space)

    # life

    def check_open(self) -> None:
        """Raises ClosedError after close()."""
        self.context.check_open()

    def close(self) -> None:
        """Frees the model; calls under way in any thread end, or raise ClosedError, and so do all that come."""
        self.loop.close(wait=not self.vocab.lifetime.is_inside)  # where a destructor is called, the loop would wait for its own thread

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self):
        if self.context:
            self.close()


def _free(adapters: Registry, context: Context, vocab: Vocab) -> None:
    """When nothing is computed any more. The vocabulary is other threads' too, and waits for them; the model goes with it."""
    adapters.close()
    context.close()
    vocab.close()


def _split(spans: Sequence[Span], n_batch: int) -> list[list[Span]]:
    """The spans in order, cut where a batch of n_batch tokens is full."""
    batches, room = [], 0
    for span in spans:
        done = 0
        while done < len(span.tokens):
            if not room:
                batches.append([])
                room = n_batch
            tokens = span.tokens[done : done + room]
            batches[-1].append(span._replace(tokens=tokens, start=span.start + done))
            done += len(tokens)
            room -= len(tokens)
    return batches


def _cache_type(name: str, value: str | int) -> int:
    number = _CACHE_TYPES.get(value.lower()) if isinstance(value, str) else value
    if number not in _CACHE_TYPES.values():  # of another, ggml aborts
        raise ModelLoadError(f"{name}: expected one of {', '.join(_CACHE_TYPES)}, got {value!r}")
    return number


def _reason(advice: str) -> str:
    """The library's error, and what to do about it."""
    reason = take_error() or "no reason given"
    no_memory = any(said in reason for said in ("bad_alloc", "allocate memory", "insufficient memory"))
    return f"{reason}; {'make room in memory, or take a smaller n_ctx or model' if no_memory else advice}"


def _load_mode(use_mmap: bool, use_mlock: bool) -> int:
    return {
        (False, False): llama_cpp.LLAMA_LOAD_MODE_NONE,
        (True, False): llama_cpp.LLAMA_LOAD_MODE_MMAP,
        (False, True): llama_cpp.LLAMA_LOAD_MODE_MLOCK,
        (True, True): llama_cpp.LLAMA_LOAD_MODE_MMAP_MLOCK,
    }[use_mmap, use_mlock]
