"""What the KV cache holds: a tree of branches, whose cells are known by all that went into them."""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import ContextFullError
from ..runtime.context import Context, Span

if TYPE_CHECKING:
    from .adapter import Adapter

_TOKEN_BITS = 32
_MOST_KEPT = 64 << 20  # bytes of logits


class Activation(NamedTuple):
    """From position `start` on, `adapter` is active, times `scale`."""

    adapter: Adapter
    start: int
    scale: float = 1.0


@dataclass
class Kept:
    """What was computed of a path's last cell: float32 [n_vocab], and when it was last of use."""

    logits: np.ndarray
    used: int


class Branch:
    """A run of cells. All keys from the root of the tree to a cell say what is in it.

    keys     one a cell: its token and the adapters that are active on it; the first n_ready are computed
    start    position of the first cell
    seq      the sequence that ends here and holds the cells of the whole path; None inside of the tree
    owner    whoever is computing on it, else None: then it may go when cells are needed
    goal     where its owner's path ends, if the logits of its last cell are still to be computed, else None
    kept     such logits, by how many cells the path to them has; they go with their cell
    """

    def __init__(self, parent: Branch | None, start: int, keys: list[int]):
        self.parent: Branch = self if parent is None else parent  # the root is its own
        self.start = start
        self.keys = keys
        self.n_ready = 0
        self.children: list[Branch] = []
        self.seq: int | None = None
        self.owner: object | None = None
        self.goal: int | None = None
        self.kept: dict[int, Kept] = {}
        self.used = 0

    @property
    def end(self) -> int:
        return self.start + len(self.keys)

    @property
    def ready_end(self) -> int:
        return self.start + self.n_ready


class Cache:
    """The branches of one Context. Only the thread that owns the context may call it.

    A sequence is a resource like cells: every branch that nothing follows holds one. Memories that
    cannot roll back (recurrent, hybrid) hold one wherever a computation has ended, and are only
    continued there.
    """

    def __init__(self, context: Context):
        self._context = context
        self._root = Branch(None, 0, [])
        self._by_seq: dict[int, Branch] = {}
        self._labels: dict[tuple, int] = {(None, ()): 0}
        self._clock = itertools.count(1)

    # keys

    def keys(self, tokens: Sequence[int], activations: Sequence[Activation], cache_salt: Hashable = None) -> list[int]:
        """What identifies the cells of `tokens`: each token with the adapters and scales active on it, and the salt.

        Where they start needs no place in it: it is where the path first has them. No cell of one cache_salt
        is found in another.
        """
        keys = list(tokens)
        starts = sorted({0, *(a.start for a in activations if a.start < len(keys))})
        for start, end in zip(starts, [*starts[1:], len(keys)]):
            if label := self.label(activations, start, cache_salt):
                keys[start:end] = [label | token for token in keys[start:end]]
        return keys

    def label(self, activations: Sequence[Activation], position: int, cache_salt: Hashable = None) -> int:
        """What the salt, and the adapters and scales that are active at `position`, add to a token's key; 0 is the base in None."""
        active = tuple(sorted((a.adapter.uid, a.scale) for a in activations if a.start <= position and a.scale))
        return self._labels.setdefault((cache_salt, active), len(self._labels) << _TOKEN_BITS)

    # use

    def begin(
        self, keys: list[int], owner: object, n_stop: int, waits_for=lambda owner: True, n_most: int | None = None, n_least: int = 1
    ) -> Branch | None:
        """A branch for the cells up to `n_stop` of a path, for `owner` to compute from its ready_end on.

        It shares the longest prefix that was ever computed; the path's last cell is left to compute,
        unless its logits are kept: then nothing is, and logits() has them. None: another owner, one that
        `waits_for` accepts, is about to compute more of it, `n_least` cells or more. Where the logits of earlier cells are needed, the ones that
        come after `n_most` are left to compute. Raises SequenceLimitError if every sequence is in use.
        """
        while True:
            best, n_best, source, n_coming = self._match(keys, waits_for, len(keys) if n_most is None else n_most)
            if n_coming >= n_best + n_least:
                return None
            new = keys[n_best : n_stop if n_stop > n_best else len(keys)]
            goal = len(keys) if 0 < len(new) == len(keys) - n_best else None
            holder = self._by_seq[source] if source is not None else None
            self._touch(holder or best)
            if holder is best and not self._must_fork(best, n_best):
                return self._continue(best, new, owner, goal)
            if self._context.n_free_seqs:
                break
            least = self._least(keep=holder)
            is_less = holder is best and best.owner is None and (least is None or best.ready_end - n_best <= least.n_ready)
            if is_less and self._cut(best, n_best):
                return self._continue(best, new, owner, goal)  # it loses its tail rather than another more
            if least is not None:
                self._drop(least)
            elif not self.evict():
                break
            # the tree has changed: look again
        seq = self._context.acquire()
        if n_best < best.end:
            best = self._split(best, n_best)
        branch = Branch(best, n_best, [])
        best.children.append(branch)
        self._hold(branch, seq)
        if source is not None:
            self._context.fork(source, seq, n_best)
        return self._continue(branch, new, owner, goal)

    def logits(self, branch: Branch) -> np.ndarray | None:
        """Those of the last cell of the path that begin() made it for: float32 [n_vocab]; None if it did not find all of it."""
        if branch.ready_end < branch.end:
            return None
        kept = (branch if branch.keys else branch.parent).kept[branch.end]
        kept.used = next(self._clock)
        return kept.logits

    def keep(self, branch: Branch, logits: np.ndarray) -> bool:
        """Keeps the logits, which it copies, of the last cell that was computed, if the path ends there that its owner asked for.

        Of all that are kept, those go first that were not used for the longest time, down to the last one.
        """
        if branch.goal != branch.ready_end:
            return False
        branch.goal = None
        branch.kept[branch.ready_end] = Kept(logits.copy(), next(self._clock))
        kept = sorted(((k.used, b, n) for b in self._branches() for n, k in b.kept.items()), key=lambda found: found[0])
        for _, b, n in kept[: len(kept) - max(1, _MOST_KEPT // logits.nbytes)]:
            del b.kept[n]
        return True

    def end(self, branch: Branch) -> None:
        """The owner is done: what it computed stays, for whoever has use for it."""
        branch.owner = branch.goal = None
        del branch.keys[branch.n_ready :]
        self._touch(branch)
        if branch.seq is not None and (not branch.keys or self._fold(branch)):
            self._drop(branch)

    def discard(self, branch: Branch) -> None:
        """The owner failed on it, and nobody knows what its cells hold from ready_end on."""
        branch.owner = branch.goal = None
        if not self._cut(branch, branch.ready_end):
            self._drop(branch)
        else:
            self.end(branch)

    def evict(self) -> bool:
        """Lets the branch go that was not used for the longest time: for its cells. False if all are in use."""
        oldest = min(self._idle(), key=lambda b: b.used, default=None)
        if oldest is not None:
            self._drop(oldest)
        return oldest is not None

    def clear(self) -> None:
        """Lets every branch go that is not in use."""
        while self.evict():
            pass

    def acquire(self) -> int:
        """An empty sequence. Raises SequenceLimitError if none can be had."""
        while not self._context.n_free_seqs and (least := self._least()) is not None:
            self._drop(least)
        return self._context.acquire()

    def decode(self, spans: Sequence[Span]) -> list[int]:
        """Context.decode, after as many branches have gone as that takes."""
        while True:
            try:
                return self._context.decode(spans)
            except ContextFullError:
                if not self.evict():
                    raise

    # states

    @property
    def n_cells(self) -> int:
        """How many cells the branches have."""
        return sum(branch.n_ready for branch in self._branches())

    def adopt(self, keys: list[int], seq: int, n_shared: int = 0) -> None:
        """Takes over a sequence that holds the cells of this path: the first `n_shared` are those of a holder(), the rest its own."""
        parent = next((b for b, n in self._walk(keys, self._root) if b.start < n_shared <= min(n, b.ready_end)), self._root)
        if n_shared < parent.end:
            parent = self._split(parent, n_shared)
        branch = Branch(parent, n_shared, keys[n_shared:])
        branch.n_ready = len(branch.keys)
        parent.children.append(branch)
        self._hold(branch, seq)
        self._touch(branch)

    def holder(self, keys: Sequence[int]) -> tuple[int, int] | None:
        """(a sequence, how many cells of this path it can be forked after), the most there are."""
        found = [
            (n, seq) for b, n in ((b, min(n, b.ready_end)) for b, n in self._walk(keys, self._root)) if n and (seq := self._source(b, n)) is not None
        ]
        n, seq = max(found, default=(0, 0))
        return (seq, n) if n else None

    # the tree

    def _branches(self) -> Iterator[Branch]:
        below = [self._root]
        while below:
            branch = below.pop()
            yield branch
            below += branch.children

    def _idle(self) -> Iterator[Branch]:
        return (b for b in self._by_seq.values() if b.owner is None)

    def _least(self, keep: Branch | None = None) -> Branch | None:
        """The branch to let go for its sequence: of few cells that would be computed again, and not used for long.

        By time alone, the many short branches of some conversations would cost others all that they have.
        """
        now = next(self._clock)
        return min((b for b in self._idle() if b is not keep), key=lambda b: b.n_ready / (now - b.used), default=None)

    def _walk(self, keys: Sequence[int], branch: Branch) -> Iterator[tuple[Branch, int]]:
        """Every branch below `branch` that the path goes through, with how far it does."""
        for child in branch.children:
            if child.keys and child.start < len(keys) and child.keys[0] == keys[child.start]:
                n = child.start + n_common(child.keys, keys, child.start)
                yield child, n
                if n == child.end:
                    yield from self._walk(keys, child)

    def _match(self, keys: Sequence[int], waits_for, n_most: int) -> tuple[Branch, int, int | None, int]:
        """The branch with the most of the path, how much, a sequence to fork it from; and how much there will be."""
        n_max = min(len(keys) - 1, n_most)  # without its logits, the last one is computed again
        best, n_best, source, n_coming = self._root, 0, None, 0
        for branch, n in self._walk(keys, self._root):
            ready = min(n, branch.ready_end, n_most if len(keys) in branch.kept else n_max)
            if ready > n_best and (seq := self._source(branch, ready)) is not None:
                best, n_best, source = branch, ready, seq
            if branch.owner is not None and waits_for(branch.owner) and (self._context.rolls_back or n == branch.end):
                n_coming = max(n_coming, min(n, n_most) if n == branch.goal else min(n, n_max))
        return best, n_best, source, n_coming

    def _source(self, branch: Branch, n: int) -> int | None:
        """A sequence from which the path up to its `n`th cell can be forked."""
        if not self._context.rolls_back:
            return branch.seq if n == branch.ready_end else None
        below = [branch]
        while below:
            b = below.pop()
            if b.seq is not None and self._context.reaches_back(b.seq, n):
                return b.seq
            below += b.children
        return None

    def _must_fork(self, branch: Branch, n: int) -> bool:
        """Whether continuing the branch after `n` cells would take something from others."""
        return branch.owner is not None or bool(branch.children) or n < branch.ready_end or not self._context.rolls_back

    def _continue(self, branch: Branch, keys: list[int], owner: object, goal: int | None) -> Branch:
        branch.keys += keys
        branch.owner, branch.goal = owner, goal
        self._touch(branch)
        return branch

    def _cut(self, branch: Branch, n: int) -> bool:
        """Takes the cells from position `n` on from a branch that ends the tree; False if that cannot be."""
        if branch.children or branch.seq is None or not n or not self._context.truncate(branch.seq, n):
            return False
        branch.n_ready = min(branch.n_ready, n - branch.start)
        del branch.keys[branch.n_ready :]
        branch.kept = {at: kept for at, kept in branch.kept.items() if at <= n}
        return True

    def _split(self, branch: Branch, n: int) -> Branch:
        """Divides a branch at position `n`; returns the upper part, which is new."""
        at = n - branch.start
        upper = Branch(branch.parent, branch.start, branch.keys[:at])
        upper.n_ready, upper.used = at, branch.used
        upper.kept = {at: branch.kept.pop(at) for at in list(branch.kept) if at <= n}
        upper.children = [branch]
        siblings = branch.parent.children
        siblings[siblings.index(branch)] = upper
        branch.parent, branch.start, branch.keys, branch.n_ready = upper, n, branch.keys[at:], branch.n_ready - at
        return upper

    def _drop(self, branch: Branch) -> None:
        """Gives up the cells that only this branch has."""
        seq, parent = branch.seq, branch.parent
        assert seq is not None  # else it has no cells of its own to give up
        del self._by_seq[seq]
        branch.seq = None
        if not branch.children:
            parent.children.remove(branch)
            if self._context.rolls_back and parent is not self._root and parent.seq is None and not parent.children:
                self._context.truncate(seq, parent.end)
                self._hold(parent, seq)
                return
        self._context.release(seq)
        self._tidy(branch if branch.children else parent)

    def _tidy(self, branch: Branch) -> None:
        """Without a sequence, a branch is there for what follows it: nothing, or one that it becomes part of."""
        while branch is not self._root and branch.seq is None and not branch.children:
            branch.parent.children.remove(branch)
            branch = branch.parent
        if branch is not self._root and branch.seq is None and len(branch.children) == 1:
            (child,) = branch.children
            child.parent, child.start, child.keys = branch.parent, branch.start, branch.keys + child.keys
            child.n_ready += len(branch.keys)
            child.kept |= branch.kept
            branch.parent.children[branch.parent.children.index(branch)] = child

    def _fold(self, branch: Branch) -> bool:
        """Whether others have the same cells already; they get what is kept with these."""
        if branch.children:
            return False
        path, end = [], branch
        while end is not self._root:
            path.append(end.keys)
            end = end.parent
        keys = list(itertools.chain.from_iterable(reversed(path)))
        others = [(b, min(n, b.ready_end)) for b, n in self._walk(keys, self._root) if b is not branch]
        if not any(n == len(keys) and self._source(b, n) is not None for b, n in others):
            return False
        for b, n in others:
            b.kept |= {at: kept for at, kept in branch.kept.items() if b.start < at <= n and at not in b.kept}
        return True

    def _hold(self, branch: Branch, seq: int) -> None:
        branch.seq = seq
        self._by_seq[seq] = branch

    def _touch(self, branch: Branch) -> None:
        now = next(self._clock)
        branch.used = now
        while branch.parent is not branch:
            branch = branch.parent
            branch.used = now


def n_common(run: Sequence[int], keys: Sequence[int], start: int = 0) -> int:
    """How many of the first of `run` are equal to those of `keys` from `start` on."""
    n = min(len(run), len(keys) - start)
    if run[:n] == keys[start : start + n]:
        return n
    low, high = 0, n  # the first difference is in [low, high)
    while high - low > 1:
        middle = (low + high) // 2
        if run[low:middle] == keys[start + low : start + middle]:
            low = middle
        else:
            high = middle
    return low
