"""A prompt, and how likely each of several labels is to come next: nothing is generated."""

from __future__ import annotations

import dataclasses
import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np

from ..errors import ContextFullError, copied
from ..reply import Usage
from ..runtime.context import Context, Place, Span
from ..runtime.sampling import SamplingParams
from ..runtime.vocab import Vocab
from .cache import Cache
from .request import Request

_ROOT = -1
_NOTHING = SamplingParams(temperature=0.0, max_tokens=1)
_FEW = 32  # cells that are sooner computed than waited for


class Tree:
    """The tokens of labels, none of them empty; those that begin alike share these tokens.

    Its nodes are the tokens behind which another one is read, each behind its parent; what a node is followed by is in its logits.

    tokens, parents   of each node; the root, the prompt's last token, is -1
    depths            how many nodes lead to each, itself included
    ways              of each node, the ways that it is on, [first, last): a way leads to a node behind which there is no other
    reads             of each label, where each of its tokens is read: (node, token)
    """

    def __init__(self, labels: Sequence[Sequence[int]]):
        below: dict[int, dict[int, int]] = {_ROOT: {}}
        self.tokens: list[int] = []
        self.parents: list[int] = []
        self.depths: list[int] = []
        self.reads: list[list[tuple[int, int]]] = [[] for _ in labels]
        for i in sorted(range(len(labels)), key=lambda i: tuple(labels[i])):  # so that what is below a node stands together
            node = _ROOT
            for at, token in enumerate(labels[i]):
                self.reads[i].append((node, token))
                if at == len(labels[i]) - 1:
                    break
                if token not in below[node]:
                    below[node][token] = len(self.tokens)
                    below[len(self.tokens)] = {}
                    self.tokens.append(token)
                    self.parents.append(node)
                    self.depths.append(at + 1)
                node = below[node][token]
        self.ways = [(0, 0)] * len(self.tokens)
        self.n_ways = 0
        first: dict[int, int] = {}
        for node in range(len(self.tokens)):
            first[node] = self.n_ways
            self.n_ways += not below[node]
        for node in reversed(range(len(self.tokens))):
            last = max((self.ways[child][1] for child in below[node].values()), default=first[node] + 1)
            self.ways[node] = (first[node], last)
        self.wanted: dict[int, list[int]] = {}
        for node, token in {pair for reads in self.reads for pair in reads}:
            self.wanted.setdefault(node, []).append(token)

    def among(self, first: int, last: int) -> list[int]:
        """The nodes on the ways [first, last), each behind its parent."""
        return [node for node, (start, end) in enumerate(self.ways) if start < last and end > first]


class Scoring(Request):
    """Made like a Request, with the labels' tokens in place of sampling: their log probabilities after the prompt, by all of the vocabulary.

    kin   what is common to those that are asked together

    The prompt's cells stay in the cache. Labels of one token are read from the prompt's logits. Where some have more, all their tokens are
    one tree in the batch of the prompt's last tokens: a sequence for each way through it, of which the tokens before a fork are in
    several. With too few sequences, and with memories that cannot share a token, it takes a few batches.
    """

    n_worth = _FEW

    def __init__(self, prompt: Sequence[int], labels: Sequence[Sequence[int]], vocab: Vocab, *, kin: object = None, **options: Any):
        super().__init__(prompt, _NOTHING, vocab, **options)
        self.kin = kin
        self.labels = [tuple(label) for label in labels]
        self.scores: np.ndarray | None = None
        self._tree = Tree(self.labels)
        self._found: dict[tuple[int, int], float] = {}  # by node and token
        self._context: Context | None = None  # while it has a place
        self._seqs: list[int] = []  # for the ways through the tree
        self._n_forked = 0  # cells of the prompt that these have
        self._wave = (0, 0)  # the ways that they are for
        self._todo: list[int] = []  # nodes of these
        self._sent: list[int] = []  # nodes whose logits come next

    @property
    def n_cells(self) -> int:
        """How many it needs, at most."""
        return self.n_prompt + len(self._tree.tokens)

    # on the loop's thread

    def begin(self, cache: Cache, context: Context) -> bool:
        if not super().begin(cache, context):
            return False
        self._found, self._wave, self._sent = {}, (0, 0), []
        if self._tree.n_ways and self.place.end == self.n_prompt:
            if (kept := cache.logits(self.place)) is not None:
                self._read(_ROOT, kept)
            self.place.goal = None  # the last logits that come are none of the prompt's
            self._context = context
            while context.n_free_seqs and len(self._seqs) < self._tree.n_ways:
                self._seqs.append(context.acquire())
            if not self._seqs:
                self._seqs.append(cache.acquire())
            self._set_out(0)
        return True

    def leave(self, cache: Cache) -> None:
        if self._context is not None:
            for seq in self._seqs:
                self._context.release(seq)
        self._seqs, self._todo, self._context = [], [], None
        super().leave(cache)

    @property
    def n_pending(self) -> int:
        own = super().n_pending
        return own if own and not self._shares else own + len(self._todo)

    @property
    def n_base(self) -> int:
        return super().n_base if any(a.scale for a in self.activations) else self.n_pending

    def span(self, n: int) -> Span:
        start, own = self.place.ready_end, super().n_pending
        tokens = self.tokens[start : start + min(n, own)]
        nodes = self._todo[: n - len(tokens)]
        self._sent = [_ROOT] * (0 < own <= n and self.place.end == self.n_prompt) + nodes
        if not nodes:
            return Span(self.place_seq, tokens, start, len(self._sent))
        if self._n_forked != start:
            self._fork(start)
        first = self._wave[0]
        places = [Place(start + i, (self.place_seq, *self._seqs)) for i in range(len(tokens))]
        for node in nodes:
            ways = (way - first for way in range(*self._tree.ways[node]))
            places.append(Place(self.n_prompt + self._tree.depths[node] - 1, tuple(self._seqs[way] for way in ways if 0 <= way < len(self._seqs))))
        return Span(self.place_seq, [*tokens, *(self._tree.tokens[node] for node in nodes)], start, len(self._sent), places)

    def less(self, n: int) -> int:
        """Half as many ways at once."""
        if len(self._seqs) < 2 or not self._todo or self._context is None:
            return 0
        n_left = len(self._seqs) // 2
        for seq in self._seqs[n_left:]:
            self._context.release(seq)
        del self._seqs[n_left:]
        self._set_out(self._wave[0])
        for seq in self._seqs:
            self._context.clear(seq)
        return min(n, self.n_pending)

    def note(self, n: int) -> None:
        own = min(n, super().n_pending)
        super().note(own)
        if n > own:
            del self._todo[: n - own]
            self._n_forked = self.place.ready_end

    def advance(self, logits: np.ndarray) -> bool:
        for node, row in zip(self._sent or [_ROOT], logits):
            self._read(node, row)
        if not self._todo and self._wave[1] < self._tree.n_ways:
            self._set_out(self._wave[1])
        elif not self._todo:
            self.scores = np.array([sum(self._found[pair] for pair in reads) for reads in self._tree.reads])
            self.finish_reason = "stop"
            self._t_first = time.perf_counter()
        return True

    def end_of_room(self) -> None:
        n_ctx = "" if self._context is None else f": n_ctx is {self._context.n_ctx}"
        self.error = ContextFullError(
            f"labels: expected room for {len(self._tree.tokens)} tokens of theirs, got less{n_ctx}; give fewer, or a larger n_ctx"
        )

    @property
    def _shares(self) -> bool:
        """Whether a token can be in several sequences."""
        return self._context is not None and self._context.rolls_back

    def _set_out(self, first: int) -> None:
        """On the ways from `first` on that there are sequences for."""
        self._wave = first, min(first + len(self._seqs), self._tree.n_ways)
        self._todo = self._tree.among(*self._wave)
        self._n_forked = -1

    def _fork(self, n: int) -> None:
        """The sequences of the ways get the first `n` cells of the prompt, which are all there are."""
        assert self._context is not None
        for seq in self._seqs:
            self._context.clear(seq)
            if n:
                self._context.fork(self.place_seq, seq, n)
            for a in self.activations:
                self._context.activate(seq, a.adapter.handle, a.start, a.scale)
        self._n_forked = n

    def _read(self, node: int, row: np.ndarray) -> None:
        """What is wanted of the logits behind a node, float32 [n_vocab]."""
        top = float(row.max())
        total = top + float(np.log(np.exp(row - top).sum(dtype=np.float64)))
        for token in self._tree.wanted[node]:
            self._found[node, token] = float(row[token]) - total

    # what came of it

    @property
    def usage(self) -> Usage:
        """The labels' tokens are computed like the prompt's."""
        return dataclasses.replace(super().usage, prompt_tokens=self.n_cells)

    def result(self) -> np.ndarray | None:
        """The labels' log probabilities: float64 [n_labels]; None if it was cancelled. Raises the error that ended it, if one did."""
        if self.error is not None:
            raise copied(self.error)
        return self.scores


class Scores:
    """What scorings found, by all that went into it: what is asked again is not computed again. Any thread may call it."""

    def __init__(self, n_most: int = 4096):
        self._n_most = n_most
        self._found: OrderedDict[tuple[Hashable, bytes], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, scoring: Scoring) -> np.ndarray | None:
        with self._lock:
            key = _key(scoring)
            if key in self._found:
                self._found.move_to_end(key)
            return self._found.get(key)

    def put(self, scoring: Scoring) -> None:
        """What it found, if it was not ended before that."""
        if scoring.scores is not None:
            with self._lock:
                self._found[_key(scoring)] = scoring.scores
                while len(self._found) > self._n_most:
                    self._found.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._found.clear()


def _key(scoring: Scoring) -> tuple[Hashable, bytes]:
    active = [(a.adapter.uid, a.start, a.scale) for a in scoring.activations]
    return scoring.cache_salt, hashlib.sha256(np.array(scoring.tokens, np.int32).tobytes() + repr((active, scoring.labels)).encode()).digest()
