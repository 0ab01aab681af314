"""What llama_memory_* does to the cells of sequences and to what is active on them, said as plainly as can be: the model that
native/alora-context.cpp and alora-cells.cpp are held against.

A cell has a position and the sequences that it belongs to. An activation has a start: the place between the cells of its
sequence before it and those from it on. Positions are attention's, or, where there is none, as if a recurrent state were a
cell at each position up to its own.
"""

from typing import NamedTuple

FAR = 2**31 - 1


class Cell:
    def __init__(self, pos: int, seqs: set[int]):
        self.pos, self.seqs = pos, seqs


class State(NamedTuple):
    """What a saved state has of a sequence, or, under each sequence, of all."""

    caches: list[list[tuple[int, set[int]]]]  # that are in it, as those of Cells
    recurrent: list[tuple[int, set[int]]]
    partial: bool


class Cells:
    """attention: there is one; unified: in one stream; windows: most of it sees but few cells back; recurrent: there is such a state."""

    def __init__(self, n_seqs: int, *, attention: bool = True, unified: bool = True, windows: bool = False, recurrent: bool = False):
        self.seqs = range(n_seqs)
        self.attention, self.unified, self.windows, self.recurrent = attention, unified, windows, recurrent
        self.caches: list[list[Cell]] = [[] for _ in range(attention + windows)]  # whole attention's first
        self.states: dict[int, Cell] = {}  # by sequence; copies share one
        self.active: list[list[tuple[int, int, float]]] = [[] for _ in self.seqs]  # (adapter, start, scale)

    # what there is

    @property
    def cells(self) -> list[Cell]:
        return self.caches[0] if self.caches else []

    def of(self, seq: int) -> list[Cell]:
        return sorted((c for c in self.cells if seq in c.seqs), key=lambda c: c.pos)

    def positions(self, seq: int) -> list[int]:
        if self.attention:
            return [c.pos for c in self.of(seq)]
        return list(range(self.states[seq].pos + 1)) if seq in self.states else []

    def last(self, seq: int) -> int:
        return max(self.positions(seq), default=-1)

    def pos_max(self, seq: int) -> int:
        """llama_memory_seq_pos_max's, but for windows: there it may be -1 where whole attention has cells."""
        state = self.states[seq].pos if seq in self.states else -1
        if not self.recurrent:
            return self.last(seq)
        return min(self.last(seq), state) if self.attention else state

    # activations

    def activate(self, seq: int, adapter: int, start: int, scale: float) -> None:
        acts, new = self.active[seq], (adapter, start, scale)
        again = any(a[0] == adapter for a in acts)
        self.active[seq] = [new if a[0] == adapter else a for a in acts] if again else [*acts, new]

    def deactivate(self, seq: int, adapter: int | None) -> int:
        before = self.active[seq]
        self.active[seq] = [a for a in before if adapter not in (None, a[0])]
        return len(before) - len(self.active[seq])

    def now(self, seq: int, pos: int) -> list[tuple[int, float]]:
        """The adapters of a token at a position."""
        return [(adapter, scale) for adapter, start, scale in self.active[seq] if pos >= start]

    def _end_lost(self, before: list[list[int]]) -> None:
        """What had cells from its start on and has none now has ended, and so has all of a sequence that has lost its last cell."""
        for seq, had in zip(self.seqs, before):
            has = self.positions(seq)
            reached = lambda start, cells: any(pos >= start for pos in cells)
            if had:
                self.active[seq] = [a for a in self.active[seq] if has and (reached(a[1], has) or not reached(a[1], had))]

    def _before(self) -> list[list[int]]:
        return [self.positions(seq) for seq in self.seqs]

    # cells

    def decode(self, seq: int, first: int, n: int) -> None:
        for cache in self.caches:
            cache += [Cell(pos, {seq}) for pos in range(first, first + n)]
        if self.recurrent:
            self._leave_state(seq)
            self.states[seq] = Cell(first + n - 1, {seq})

    def clear(self) -> None:
        self.caches, self.states = [[] for _ in self.caches], {}
        self.active = [[] for _ in self.seqs]

    def rm(self, seq: int, p0: int, p1: int) -> bool:
        before, whole = self._before(), p0 < 0 and p1 < 0
        p0, p1 = max(p0, 0), FAR if p1 < 0 else p1
        if self.recurrent:
            if seq < 0:  # llama.cpp refuses it
                if whole and not any(self.positions(s) for s in self.seqs):
                    self.active = [[] for _ in self.seqs]
                return False
            state = self.states.get(seq)
            if state and p0 <= state.pos < p1:
                if p0 > 0:
                    return False  # a state cannot be cut
                self._leave_state(seq)
        for c in self._all():
            if p0 <= c.pos < p1:
                c.seqs = set() if seq < 0 else c.seqs - {seq}
        self._sweep()
        self._end_lost(before)
        if whole:  # the sequence is given up, whether it had cells or not
            for s in self.seqs if seq < 0 else [seq]:
                self.active[s] = []
        return True

    def keep(self, seq: int) -> None:
        for c in self._all():
            if self.unified:
                c.seqs &= {seq}
        self._sweep()
        for other in self.seqs:
            if other != seq:
                self._leave_state(other)
                if self.pos_max(other) < 0:
                    self.active[other] = []

    def cp(self, src: int, dst: int, p0: int, p1: int) -> None:
        if src == dst:
            return
        whole, open_end = p0 <= 0 and p1 < 0, p1 < 0
        p0, p1 = max(p0, 0), FAR if p1 < 0 else p1
        own, had = self.active[dst], self.positions(dst)
        first, there = p0, [pos for pos in self.positions(src) if p0 <= pos < p1]
        if self.recurrent:
            self._leave_state(dst)
            if src in self.states:
                self.states[dst] = self.states[src]
                self.states[src].seqs.add(dst)
        if self.unified:
            for c in self._all():
                if src in c.seqs and p0 <= c.pos < p1:
                    c.seqs.add(dst)
        else:
            self.caches = [[c for c in cache if dst not in c.seqs] + [Cell(c.pos, {dst}) for c in cache if src in c.seqs] for cache in self.caches]
        if self.recurrent or not self.unified:  # takes the place of all that was there
            self.active[dst] = list(self.active[src])
            return
        res = [] if whole and not had else list(own)
        for adapter, start, scale in self.active[src]:
            brought = any(pos >= start for pos in there)
            to_come = not any(pos >= start for pos in self.positions(src)) and first <= start and (open_end or start < p1)
            if (brought or to_come) and adapter not in [a for a, _, _ in res]:
                res.append((adapter, max(start, first), scale))
        self.active[dst] = res

    def shift(self, seq: int, p0: int, p1: int, to) -> None:
        """seq_add and seq_div: `to` gives the new position of one, below 0 the cell is gone."""
        p0, p1 = max(p0, 0), FAR if p1 < 0 else p1
        old = {s: [(c, c.pos) for c in self.of(s)] for s in self.seqs}
        moved = [c for c in self._all() if seq in c.seqs and p0 <= c.pos < p1]
        for c in moved:
            c.pos = to(c.pos)
            if c.pos < 0:
                c.seqs = set()
        state = self.states.get(seq)
        state_before = state.pos if state else -1
        if state and p0 <= state.pos < p1:
            state.pos = to(state.pos)
        for s in self.seqs:
            if self.attention:
                starts = [self._start_by_cells(old[s], moved, start, to) for _, start, _ in self.active[s]]
            elif state and s in state.seqs and p0 <= state_before < p1:
                starts = [self._start_by_state(state_before, p0, start, to) for _, start, _ in self.active[s]]
            else:
                continue
            self.active[s] = [(a, new, scale) for (a, _, scale), new in zip(self.active[s], starts) if new is not None]
        self._sweep()

    @staticmethod
    def _start_by_cells(old: list[tuple[Cell, int]], moved: list[Cell], start: int, to) -> int | None:
        """The start keeps its distance to the first cell from it on, else to the last one before it, but lies between them all."""
        before, from_on = [c for c, pos in old if pos < start], [c for c, pos in old if pos >= start]
        left = [c.pos for c in before if c.pos >= 0]
        right = [c.pos for c in from_on if c.pos >= 0]
        if old and not (right if from_on else left):
            return None
        beside = [pos for c, pos in old if c in (from_on[:1] or before[-1:])]
        new = to(start) if beside and all(c in moved for c, pos in old if pos == beside[0]) else start
        new = max([new, 0, *(pos + 1 for pos in left)])
        return min([new, *right])

    @staticmethod
    def _start_by_state(last: int, p0: int, start: int, to) -> int | None:
        if to(last) < 0:
            return None
        if start < p0:
            return max(0, min(start, to(p0)))
        return max(0, to(start), to(last) + 1 if start > last else 0)

    def _leave_state(self, seq: int) -> None:
        if seq in self.states:
            self.states.pop(seq).seqs.discard(seq)

    def _all(self) -> list[Cell]:
        return [c for cache in self.caches for c in cache]

    def _sweep(self) -> None:
        self.caches = [[c for c in cache if c.seqs] for cache in self.caches]

    # states

    def _saved(self, partial: bool) -> range:
        """The caches that a state has: a part leaves out whole attention, if there is something beside."""
        return range(1 if partial and (self.windows or self.recurrent) else 0, len(self.caches))

    def save(self, seq: int, partial: bool) -> State:
        caches = [[(c.pos, {seq}) for c in self.caches[i] if seq in c.seqs] for i in self._saved(partial)]
        return State(caches, [(self.states[seq].pos, {seq})] if seq in self.states else [], partial)

    def restore(self, seq: int, state: State) -> None:
        """A part is taken for an earlier one of the same sequence; a whole one, which knows of no adapters, ends what is active."""
        before = self._before()
        came = any(state.caches) or bool(state.recurrent)
        for i, saved in zip(self._saved(state.partial), state.caches):
            if saved:  # of none, llama.cpp leaves those that there are
                for c in self.caches[i]:
                    c.seqs.discard(seq)
                self.caches[i] = self.caches[i] + [Cell(pos, {seq}) for pos, _ in saved]
        self._sweep()
        if self.recurrent:
            self._leave_state(seq)
            for pos, _ in state.recurrent:
                self.states[seq] = Cell(pos, {seq})
        if came and not state.partial:
            self.active[seq] = []
        self._end_lost(before)

    def save_all(self) -> State:
        shared = {id(c): c for c in self.states.values()}
        caches = [[(c.pos, set(c.seqs)) for c in cache] for cache in self.caches]
        return State(caches, [(c.pos, set(c.seqs)) for c in shared.values()], False)

    def restore_all(self, state: State) -> None:
        self.clear()
        self.caches = [[Cell(pos, set(seqs)) for pos, seqs in cache] for cache in state.caches]
        for pos, seqs in state.recurrent:
            cell = Cell(pos, set(seqs))
            self.states |= dict.fromkeys(seqs, cell)
