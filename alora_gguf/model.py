"""A base model with its context and its adapters."""

import ctypes
import os
from collections.abc import Sequence
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np

from ._library import llama_cpp, log_to_stderr, take_error
from .adapter import Adapter
from .context import Context, Span
from .convert import base_fingerprint
from .conversation import Conversation
from .errors import ModelLoadError, PromptError, UnknownAdapterError
from .rpc import add_rpc_servers
from .template import ChatTemplate, Message
from .vocab import Vocab

_CACHE_TYPES = {"f32": 0, "f16": 1, "q4_0": 2, "q4_1": 3, "q5_0": 6, "q5_1": 7, "q8_0": 8, "bf16": 30}
_N_MOST = 2**31 - 1


class Model:
    """A GGUF base model, loaded with one context that all its conversations share.

    n_ctx          cells of the KV cache, for all conversations together; 0: as the model was trained
    n_batch        most tokens of one decode call; n_ubatch: of one graph
    n_seq_max      most conversations and forks at once, at most 256
    n_threads      default: the machine's cores
    n_gpu_layers   layers on devices other than the CPU, -1: all
    type_k, type_v type of the KV cache: "f16", "q8_0", ... or ggml's number
    flash_attn     None: where it can be used
    rpc_servers    "host:port" of machines that run `ggml-rpc-server`, used as devices
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
        n_seq_max: int = 64,
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
        rpc_servers: Sequence[str] = (),
        verbose: bool = False,
    ):
        self.path = Path(path)
        self.adapters: dict[str, Adapter] = {}
        if verbose:
            log_to_stderr()
        if not self.path.is_file():
            raise ModelLoadError(f"{path}: expected a GGUF file, got {'a folder' if self.path.is_dir() else 'nothing'}; check the path")
        add_rpc_servers(rpc_servers)
        for name, value, least, most in (
            ("n_ctx", n_ctx, 0, _N_MOST), ("n_batch", n_batch, 1, _N_MOST), ("n_ubatch", n_ubatch, 1, _N_MOST),
            ("n_seq_max", n_seq_max, 1, 256), ("n_threads", n_threads or 1, 1, 512), ("n_threads_batch", n_threads_batch or 1, 1, 512),
        ):
            if not (isinstance(value, int) and least <= value <= most):
                raise ModelLoadError(f"{name}: expected a whole number from {least} to {most}, got {value!r}")

        mp = llama_cpp.llama_model_default_params()
        mp.n_gpu_layers = 0x7FFFFFFF if n_gpu_layers < 0 else n_gpu_layers
        mp.main_gpu = main_gpu
        if split_mode is not None:
            mp.split_mode = split_mode
        if tensor_split is not None:
            self._tensor_split = (ctypes.c_float * llama_cpp.LLAMA_MAX_DEVICES)(*tensor_split)
            mp.tensor_split = self._tensor_split
        mp.load_mode = _load_mode(use_mmap, use_mlock)

        cores = os.cpu_count() or 1
        cp = llama_cpp.llama_context_default_params()
        cp.n_ctx = n_ctx
        cp.n_batch = min(n_batch, n_ctx) if n_ctx else n_batch
        cp.n_ubatch = min(n_ubatch, cp.n_batch)
        cp.n_seq_max = n_seq_max
        cp.n_outputs_max = max(cp.n_batch, n_seq_max)  # with fewer than sequences, llama_context aborts
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

        take_error()
        self._model = llama_cpp.llama_model_load_from_file(os.fsencode(self.path), mp)
        if not self._model:
            raise ModelLoadError(f"{path}: expected a GGUF model, got: {take_error() or 'no reason given'}; check the file")
        take_error()
        context = llama_cpp.llama_init_from_model(self._model, cp)
        if not context:
            llama_cpp.llama_model_free(self._model)
            raise ModelLoadError(f"{path}: expected a context of {n_ctx} cells, got: {take_error() or 'no reason given'}; "
                                 "give a smaller n_ctx or other options")
        self.vocab = Vocab(self._model)
        self.context = Context(
            context, self.vocab.n_tokens,
            memory_rolls_back=not (llama_cpp.llama_model_is_recurrent(self._model) or llama_cpp.llama_model_is_hybrid(self._model)))
        self._template_source = chat_template or _chat_template(self._model)
        self._template: ChatTemplate | None = None

    # adapters

    def load_adapter(self, path: str | PathLike[str], name: str | None = None, *, force: bool = False) -> Adapter:
        """Loads a GGUF adapter under `name` (default: the file's name without ending).

        An adapter that had this name is unloaded. With `force` the adapter may have been made for
        another base of the same shapes. Raises AdapterFileError or AdapterMismatchError.
        """
        with self.context.lock:
            adapter = Adapter(self.context, path, name, None if force else self.fingerprint)
            if adapter.name in self.adapters:
                self.unload_adapter(adapter.name)
            self.adapters[adapter.name] = adapter
            return adapter

    def unload_adapter(self, name: str) -> None:
        """Frees the adapter; where it was active, it is no longer."""
        with self.context.lock:
            self.adapter(name).free()
            del self.adapters[name]

    def adapter(self, name: str) -> Adapter:
        """The adapter of this name. Raises UnknownAdapterError."""
        if name not in self.adapters:
            loaded = ", ".join(sorted(self.adapters)) or "none"
            raise UnknownAdapterError(f"adapter {name!r}: expected one that is loaded ({loaded}); load it with load_adapter()")
        return self.adapters[name]

    @cached_property
    def fingerprint(self) -> str:
        """What the base is, whatever its quantisation: docs/format.md has the definition."""
        return base_fingerprint(self.path)

    # text

    def tokenize(self, text: str, *, special: bool = True, add_bos: bool = False) -> list[int]:
        return self.vocab.tokenize(text, special=special, add_bos=add_bos)

    def detokenize(self, tokens: Sequence[int], *, special: bool = True) -> str:
        return self.vocab.detokenize(tokens, special=special)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """The messages as the model's chat template writes them."""
        if self._template is None:
            if not self._template_source:
                raise PromptError(f"{self.path.name}: expected a chat template, got none; give one with chat_template=")
            name = lambda token: self.vocab.detokenize([token]) if token >= 0 else ""  # noqa: E731
            self._template = ChatTemplate(self._template_source, name(self.vocab.bos), name(self.vocab.eos))
        return self._template.render(messages, add_generation_prompt=add_generation_prompt)

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
        chosen = [self.adapter(name) if name is not None else None for _, name in rows]
        rows = [(self.vocab.check(tokens), name) for tokens, name in rows]
        context, seqs = self.context, []
        context.check_room(sum(len(tokens) for tokens, _ in rows))
        with context.lock:
            try:
                todo = []
                for (tokens, _), adapter in zip(rows, chosen):
                    seqs.append(context.acquire())
                    start = adapter.start_in(tokens) if adapter else None
                    if start is not None:
                        context.activate(seqs[-1], adapter.ptr, start)
                    todo.append(Span(seqs[-1], tokens, 0, "all"))
                parts: dict[int, list[np.ndarray]] = {seq: [] for seq in seqs}
                for batch in _split(todo, context.n_batch):
                    for span, end in zip(batch, context.decode(batch)):
                        n = len(span.tokens)
                        parts[span.seq_id].append(context.logits(end - n + 1, n))
            finally:
                for seq in seqs:
                    context.release(seq)
        return [np.concatenate(parts[seq]) for seq in seqs]

    def conversation(self, *, system: str | None = None, messages: Sequence[Message] = ()) -> Conversation:
        """A new conversation, after a system message and other messages if given. Nothing is computed yet."""
        first = [{"role": "system", "content": system}] if system is not None else []
        return Conversation(self, [*first, *messages])

    # life

    def close(self) -> None:
        """Frees the model; its conversations and adapters cannot be used any more."""
        with self.context.lock:
            for adapter in self.adapters.values():
                adapter.free()
            self.adapters.clear()
            if self.context.ptr:
                self.context.close()
                self.vocab.close()
                llama_cpp.llama_model_free(self._model)

    def __enter__(self) -> "Model":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def __del__(self):
        if self.context:
            self.close()


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


def _chat_template(model: int) -> str:
    template = llama_cpp.llama_model_chat_template(model, None)
    return template.decode("utf-8", errors="replace") if template else ""


def _load_mode(use_mmap: bool, use_mlock: bool) -> int:
    return {
        (False, False): llama_cpp.LLAMA_LOAD_MODE_NONE,
        (True, False): llama_cpp.LLAMA_LOAD_MODE_MMAP,
        (False, True): llama_cpp.LLAMA_LOAD_MODE_MLOCK,
        (True, True): llama_cpp.LLAMA_LOAD_MODE_MMAP_MLOCK,
    }[use_mmap, use_mlock]
