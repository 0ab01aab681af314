"""One llama_context: batches in, logits out, sequences and their activations. No policy."""

import ctypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from ..errors import AdapterMismatchError, ClosedError, ContextFullError, DecodeError, SequenceLimitError
from . import native
from .library import llama_cpp, take_error
from .rpc_relay import Relay, check_servers

_POOLS = llama_cpp.LLAMA_POOLING_TYPE_MEAN, llama_cpp.LLAMA_POOLING_TYPE_CLS, llama_cpp.LLAMA_POOLING_TYPE_LAST


class Place(NamedTuple):
    """Where a token is, and the sequences that have it: each token behind it is in some of them."""

    position: int
    seq_ids: tuple[int, ...]


class Span(NamedTuple):
    """Tokens of one sequence, at the positions from `start` on; or of a tree, each at its place, behind the one that it follows."""

    seq_id: int
    tokens: Sequence[int]
    start: int
    n_outputs: int = 1  # how many of the last tokens get logits
    places: Sequence[Place] | None = None


class Context:
    """Owns a llama_context. No two threads may call it at once.

    ptr          the llama_context, 0 from close() on, which frees it
    rolls_back   whether its memory can give up a sequence's last cells (recurrent ones cannot)
    has_ranges   whether some of a sequence's cells can be saved, and be restored behind those of another
    n_swa        the sliding window of attention in tokens, 0: none
    on_cpu       whether the CPU computes all of it
    pools        whether its model makes one embedding of all tokens of a sequence
    relays       to the machines that it computes on
    """

    def __init__(self, ptr: int, n_vocab: int, *, rolls_back: bool, n_swa: int, on_cpu: bool, relays: Sequence[Relay] = ()):
        self.ptr = ptr
        self.n_vocab = n_vocab
        self.rolls_back = rolls_back
        self.has_ranges = rolls_back and not n_swa
        self._n_swa = n_swa
        self.on_cpu = on_cpu
        self._relays = relays
        self.n_ctx = llama_cpp.llama_n_ctx(ptr)
        self.n_batch = llama_cpp.llama_n_batch(ptr)
        self.n_ubatch = llama_cpp.llama_n_ubatch(ptr)
        self.n_seq_max = llama_cpp.llama_n_seq_max(ptr)
        self.pools = llama_cpp.llama_pooling_type(ptr) in _POOLS
        self._memory = llama_cpp.llama_get_memory(ptr)
        self._free_seqs = list(range(self.n_seq_max - 1, -1, -1))

        n = self.n_batch
        self._tokens = np.zeros(n, np.int32)
        self._pos = np.zeros(n, np.int32)
        self._seqs = np.zeros(n, np.int32)
        self._outputs = np.zeros(n, np.int8)
        self._n_seqs = np.ones(n, np.int32)
        self._seq_ptrs = self._seqs.ctypes.data + 4 * np.arange(n, dtype=np.uint64)
        self._batch = llama_cpp.llama_batch(
            0,
            _as(self._tokens, ctypes.c_int32),
            None,
            _as(self._pos, ctypes.c_int32),
            _as(self._n_seqs, ctypes.c_int32),
            _as(self._seq_ptrs, ctypes.POINTER(ctypes.c_int32)),
            _as(self._outputs, ctypes.c_int8),
        )

    def close(self) -> None:
        ptr, self.ptr, self._memory = self.ptr, 0, None  # of no memory, llama_memory_* takes away nothing
        if ptr:
            llama_cpp.llama_free(ptr)

    def check_open(self) -> None:
        if not self.ptr:
            raise ClosedError("model: expected an open one, got one that was closed; load it again")

    # batches

    def decode(self, spans: Sequence[Span]) -> list[int]:
        """Decodes the spans, at most n_batch tokens, as one batch.

        Returns the index of each span's last token in the batch, for logits() and samplers.
        Raises ContextFullError (then nothing was decoded), DecodeError or ClosedError.
        """
        self.check_open()
        check_servers(self._relays, DecodeError)
        ends, n = [], 0
        several: dict[int, tuple[int, ...]] = {}  # sequences of the tokens that have more than one
        for span in spans:
            end = n + len(span.tokens)
            self._tokens[n:end] = span.tokens
            if span.places is None:
                self._pos[n:end] = np.arange(span.start, span.start + len(span.tokens))
                self._seqs[n:end] = span.seq_id
            else:
                self._pos[n:end] = [place.position for place in span.places]
                self._seqs[n:end] = [place.seq_ids[0] for place in span.places]
                several.update((n + i, place.seq_ids) for i, place in enumerate(span.places) if len(place.seq_ids) > 1)
            self._outputs[n:end] = 0
            self._outputs[end - span.n_outputs : end] = 1
            ends.append(end - 1)
            n = end
        self._batch.n_tokens = n
        take_error()
        with self._shared(several):
            status = llama_cpp.llama_decode(self.ptr, self._batch)
        if status == 1:
            raise ContextFullError(
                f"context: expected room for {n} more tokens, got less: n_ctx is {self.n_ctx} for all conversations; "
                "shorten the prompt, end a call or give a larger n_ctx"
            )
        if status != 0:
            raise DecodeError(f"decode of {n} tokens: expected success, got status {status}: {take_error() or 'no reason given'}")
        if self._relays and self._outputs[:n].any():  # with none, other machines may go on with it while this one goes on
            llama_cpp.llama_synchronize(self.ptr)
            check_servers(self._relays, DecodeError)
        return ends

    @contextmanager
    def _shared(self, several: Mapping[int, tuple[int, ...]]) -> Iterator[None]:
        """For the `with`, the batch's tokens at these indices are in several sequences."""
        ids = {seq_ids: np.array(seq_ids, np.int32) for seq_ids in set(several.values())}
        at = np.fromiter(several, np.int64, len(several))
        own = self._seq_ptrs[at]
        for i, seq_ids in several.items():
            self._seq_ptrs[i], self._n_seqs[i] = ids[seq_ids].ctypes.data, len(seq_ids)
        try:
            yield
        finally:
            self._seq_ptrs[at], self._n_seqs[at] = own, 1

    def check_room(self, n: int) -> None:
        """Raises ContextFullError if `n` tokens fit in no state of the cache, before they are computed in vain."""
        if n > self.n_ctx:
            raise ContextFullError(f"context: expected at most {self.n_ctx} tokens, got {n}; shorten the prompt, or give a larger n_ctx (--ctx)")

    def logits(self, first: int, n: int = 1) -> np.ndarray:
        """The logits of `n` tokens from batch index `first` on: float32 [n, n_vocab], valid until the next decode.

        Every token from `first` on must have been an output.
        """
        row = llama_cpp.llama_get_logits_ith(self.ptr, first)
        buffer: Any = (ctypes.c_float * (n * self.n_vocab)).from_address(ctypes.addressof(row.contents))
        return np.frombuffer(buffer, np.float32).reshape(n, self.n_vocab)

    # sequences

    @property
    def n_free_seqs(self) -> int:
        return len(self._free_seqs)

    def acquire(self) -> int:
        """A free, empty sequence. Raises SequenceLimitError or ClosedError."""
        self.check_open()
        if not self._free_seqs:
            raise SequenceLimitError(
                f"sequences: expected a free one, got all {self.n_seq_max} in use; wait for a call to end or give a larger n_seq_max"
            )
        return self._free_seqs.pop()

    def release(self, seq_id: int) -> None:
        self.clear(seq_id)
        self._free_seqs.append(seq_id)

    def clear(self, seq_id: int) -> None:
        llama_cpp.llama_memory_seq_rm(self._memory, seq_id, -1, -1)

    def truncate(self, seq_id: int, n: int) -> bool:
        """Keeps the first `n` tokens of the sequence; False if this memory cannot (then nothing is changed)."""
        return llama_cpp.llama_memory_seq_rm(self._memory, seq_id, n, -1)

    def reaches_back(self, seq_id: int, n: int) -> bool:
        """Whether the cells that a token at position `n` attends to are all there."""
        if not self._n_swa:
            return True
        return 0 <= llama_cpp.llama_memory_seq_pos_min(self._memory, seq_id) <= max(0, n - self._n_swa + 1)

    def fork(self, src: int, dst: int, n: int) -> None:
        """Makes the first `n` tokens of `src` those of the empty `dst`. Copies nothing but tags."""
        llama_cpp.llama_memory_seq_cp(self._memory, src, dst, 0, n if self.rolls_back else -1)

    def share(self, src: int, dst: int, start: int, end: int) -> None:
        """Makes the tokens of `src` from position `start` up to `end` those of `dst` too, where has_ranges and `dst` has none there."""
        llama_cpp.llama_memory_seq_cp(self._memory, src, dst, start, end)

    def spans(self, seq_id: int, start: int, end: int) -> bool:
        """Whether the sequence begins and ends at these positions; of a memory that is not all there, whether it ends there."""
        first, last = llama_cpp.llama_memory_seq_pos_min(self._memory, seq_id), llama_cpp.llama_memory_seq_pos_max(self._memory, seq_id)
        return last == end - 1 and (first == start or not self.has_ranges)

    def state(self, seq_id: int) -> memoryview:
        """The contents of a sequence's cells, for restore()."""
        size = llama_cpp.llama_state_seq_get_size(self.ptr, seq_id)
        out = (ctypes.c_uint8 * size)()
        if llama_cpp.llama_state_seq_get_data(self.ptr, out, size, seq_id) != size:
            raise DecodeError(f"state of sequence {seq_id}: expected {size} bytes, got fewer: {take_error() or 'no reason given'}")
        check_servers(self._relays, DecodeError)
        return memoryview(out).cast("B")

    def restore(self, seq_id: int, state: memoryview) -> bool:
        """Fills an empty sequence with a state() of a context like this; False if it does not fit (then it is empty)."""
        data = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        if llama_cpp.llama_state_seq_set_data(self.ptr, data, len(state), seq_id) == len(state):
            return True
        self.clear(seq_id)
        return False

    def activate(self, seq_id: int, adapter: int, start: int, scale: float = 1.0) -> None:
        """From position `start` on, `adapter` (its alora_adapter_id) is active on the sequence."""
        check(native.alora_seq_activate(self.ptr, seq_id, adapter, start, scale))

    def deactivate(self, seq_id: int) -> None:
        check(native.alora_seq_deactivate(self.ptr, seq_id, 0))

    def activations(self, seq_id: int) -> list[tuple[int, int, float]]:
        """(adapter, start, scale) of each adapter that is active on the sequence."""
        out = (native.alora_activation * 16)()
        n = check(native.alora_seq_activations(self.ptr, seq_id, out, len(out)))
        return [(a.adapter, a.start, a.scale) for a in out[:n]]


def check(status: int) -> int:
    """The status of an alora_ function, unless it is an error: that is raised."""
    if status >= 0:
        return status
    message = native.alora_last_error().decode("utf-8", errors="replace")
    raise (AdapterMismatchError if status == native.ERROR_MISMATCH else DecodeError)(message)


def _as(array: np.ndarray, ctype: Any) -> Any:
    return ctypes.cast(array.ctypes.data, ctypes.POINTER(ctype))
