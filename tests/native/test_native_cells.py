"""Activations follow their cells: random calls of llama_memory_*, states and decodes, against the model in native_cells.py.

ALORA_CELLS=N does N operations on each memory; 25,000 are 150,000 in all.
"""

import os
import random

import numpy as np
import pytest
from native_cells import Cells
from native_runtime import Runtime, llama_cpp, prompt

N_OPERATIONS = int(os.environ.get("ALORA_CELLS", "700"))
N_SEQS, N_CTX, MOST = 4, 512, 40  # cells of a sequence
PARTIAL = 1  # LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY

# kind of model: what its memory is, and whether cells may be moved
MEMORIES = {
    "attention": ("dense", {}, {}, True),
    "streams": ("dense", {"unified": False}, {"unified": False}, True),
    "windows, whole": ("windows", {"swa_full": True}, {"windows": True}, True),
    "windows": ("windows", {"swa_full": False, "n_ubatch": 8}, {"windows": True}, False),
    "recurrent": ("recurrent", {}, {"attention": False, "recurrent": True}, True),
    "hybrid": ("hybrid", {}, {"recurrent": True}, True),
}


class Walk:
    """A context, a second one that is told before each decode what the model says is active, and the model."""

    def __init__(self, zoo, memory: str, seed: int, twin: bool):
        kind, options, traits, self.shifts = MEMORIES[memory]
        self.rng = random.Random(seed)
        path = zoo.base(kind)
        self.runtimes = [Runtime(path, n_ctx=N_CTX, n_seq_max=N_SEQS, **options) for _ in range(1 + twin)]
        weight = {"recurrent": "blk.0.ssm_in.weight", "hybrid": "blk.1.attn_q.weight"}.get(kind, "blk.0.attn_q.weight")
        self.adapters = [zoo.load(self.runtimes[0], kind, zoo.adapter(kind, seed=i, weights=[weight])) for i in range(3)]
        self.model = Cells(N_SEQS, **traits)
        self.saved, self.saved_all, self.done, self.n_adapted = [], [], [], 0

    def close(self):
        for runtime in self.runtimes:
            runtime.close()

    def everywhere(self, call) -> list:
        return [call(runtime) for runtime in self.runtimes]

    def memory(self, name: str, *args):
        results = self.everywhere(lambda r: getattr(llama_cpp, f"llama_memory_{name}")(r.memory, *args))
        assert len(set(results)) == 1
        return results[0]

    def seq(self) -> int:
        return self.rng.randrange(N_SEQS)

    def range(self, seq: int) -> tuple[int, int]:
        """Often the whole, the end or the middle of what the sequence has, sometimes beside it."""
        end, r = self.model.last(seq) + 1, self.rng
        return r.choice(
            [
                (-1, -1),
                (0, -1),
                (end, -1),
                (r.randint(0, end + 1), -1),
                (r.randint(-1, end), r.randint(0, end + 2)),
                (r.randint(0, end), end),
                (0, r.randint(0, end)),
            ]
        )

    # operations: what was done, as text

    def decode(self) -> str:
        seq = self.seq()
        first = llama_cpp.llama_memory_seq_pos_max(self.runtimes[0].memory, seq) + 1
        n = self.rng.randint(1, 6)
        if first + n > MOST or len(self.model.cells) + n > N_CTX - 32:
            return self.rm_whole(seq)
        if self.model.attention and first < self.model.last(seq) + 1 and not self.model.recurrent:
            return self.rm_whole(seq)  # a window that has lost its cells: nobody goes on with it
        tokens = prompt(self.rng.randrange(1000), n)
        if len(self.runtimes) > 1:
            twin = self.runtimes[1]
            starts = {a[1] for a in self.model.active[seq] if first < a[1] < first + n}
            if starts:  # one side of a start at a time
                tokens = tokens[: min(starts) - first]
            twin.deactivate(seq)
            for adapter, start, scale in self.model.active[seq]:
                if first >= start:  # from 0 on, an adapter is the whole conversation's, and its products are computed in another way
                    twin.activate(seq, adapter, min(start, 1), scale)
        got = [runtime.logits((seq, tokens, first))[0] for runtime in self.runtimes]
        assert all(np.array_equal(got[0], other) for other in got[1:]), self.story()
        self.n_adapted += bool(self.model.now(seq, first))
        self.model.decode(seq, first, len(tokens))
        return f"decode({seq}, {first}, {len(tokens)})"

    def activate(self) -> str:
        seq, adapter = self.seq(), self.rng.randrange(3)
        end = self.model.last(seq) + 1
        start, scale = self.rng.choice([end, end, self.rng.randint(0, end), end + self.rng.randint(0, 9)]), self.rng.choice([0.5, 1.0])
        self.runtimes[0].activate(seq, self.adapters[adapter], start, scale)
        self.model.activate(seq, self.adapters[adapter], start, scale)
        return f"activate({seq}, {adapter}, {start})"

    def deactivate(self) -> str:
        seq, adapter = self.seq(), self.rng.choice([None, *self.adapters])
        assert self.runtimes[0].deactivate(seq, adapter or 0) == self.model.deactivate(seq, adapter)
        return f"deactivate({seq}, {adapter})"

    def rm_whole(self, seq: int) -> str:
        self.memory("seq_rm", seq, -1, -1)
        self.model.rm(seq, -1, -1)
        return f"seq_rm({seq}, -1, -1)"

    def rm(self) -> str:
        seq = self.seq()
        p0, p1 = self.range(seq)
        if self.rng.random() < 0.1:
            seq = -1
        assert self.memory("seq_rm", seq, p0, p1) == self.model.rm(seq, p0, p1)
        return f"seq_rm({seq}, {p0}, {p1})"

    def cp(self) -> str:
        src, dst = self.seq(), self.seq()
        p0, p1 = self.range(src) if self.model.unified else (-1, -1)  # llama.cpp copies no part of a stream
        self.memory("seq_cp", src, dst, p0, p1)
        self.model.cp(src, dst, p0, p1)
        return f"seq_cp({src}, {dst}, {p0}, {p1})"

    def keep(self) -> str:
        seq = self.seq()
        self.memory("seq_keep", seq)
        self.model.keep(seq)
        return f"seq_keep({seq})"

    def clear(self) -> str:
        self.memory("clear", False)
        self.model.clear()
        return "clear()"

    def add(self) -> str:
        seq = self.seq()
        p0, p1 = self.range(seq)
        delta = self.rng.randint(-max(p0, 0) if self.model.recurrent or self.rng.random() < 0.8 else -MOST, 5)
        self.memory("seq_add", seq, p0, p1, delta)
        self.model.shift(seq, p0, p1, lambda pos: pos + delta)
        return f"seq_add({seq}, {p0}, {p1}, {delta})"

    def div(self) -> str:
        seq, d = self.seq(), self.rng.randint(1, 3)
        p0, p1 = self.range(seq)
        self.memory("seq_div", seq, p0, p1, d)
        self.model.shift(seq, p0, p1, lambda pos: pos // d)
        return f"seq_div({seq}, {p0}, {p1}, {d})"

    def context_shift(self) -> str:
        """As llama-server does it, at the end of a context."""
        seq = self.seq()
        end = self.model.last(seq) + 1
        keep = self.rng.randint(0, end)
        gone = self.rng.randint(0, end - keep)
        if not self.memory("seq_rm", seq, keep, keep + gone):
            assert not self.model.rm(seq, keep, keep + gone)
            return "a shift that cannot be"
        self.model.rm(seq, keep, keep + gone)
        self.memory("seq_add", seq, keep + gone, end, -gone)
        self.model.shift(seq, keep + gone, end, lambda pos: pos - gone)
        return f"context_shift({seq}, {keep}, {gone}, {end})"

    def save(self) -> str:
        seq, partial = self.seq(), self.rng.random() < 0.5
        states = self.everywhere(lambda r: r.save(seq, PARTIAL * partial))
        self.saved.append((self.model.save(seq, partial), states))
        del self.saved[:-4]
        return f"save({seq}, {partial})"

    def restore(self) -> str:
        if not self.saved or len(self.model.cells) > N_CTX - 2 * MOST:
            return self.save()
        seq, i = self.seq(), self.rng.randrange(len(self.saved))
        state, states = self.saved[i]
        if self.model.windows and state.partial and not {pos for cache in state.caches for pos, _ in cache} <= set(self.model.positions(seq)):
            return self.save()  # cells that no whole attention has: nobody goes on with them
        read = [r.restore(seq, s, PARTIAL * state.partial) for r, s in zip(self.runtimes, states)]
        assert all(read)
        self.model.restore(seq, state)
        return f"restore({seq}, {state})"

    def restore_all(self) -> str:
        if not self.saved_all or self.rng.random() < 0.5:
            self.saved_all = [(self.model.save_all(), self.everywhere(Runtime.save_all))]
            return "save_all()"
        state, states = self.saved_all[0]
        assert all(r.restore_all(s) for r, s in zip(self.runtimes, states))
        self.model.restore_all(state)
        return "restore_all()"

    # the walk

    def step(self) -> None:
        often = [self.decode] * 6 + [self.activate] * 5 + [self.rm] * 4 + [self.cp] * 3 + [self.save, self.restore, self.restore, self.deactivate]
        if self.shifts:
            often += [self.add] * 3 + [self.context_shift] * 3 + [self.div]
        seldom = [self.clear, self.keep, self.keep, self.restore_all]
        self.done.append(self.rng.choice(often if self.rng.random() < 0.97 else seldom)())
        for seq in range(N_SEQS):
            assert self.runtimes[0].activations(seq) == self.model.active[seq], self.story(seq)
            if not self.model.windows:
                assert llama_cpp.llama_memory_seq_pos_max(self.runtimes[0].memory, seq) == self.model.pos_max(seq), self.story(seq)

    def story(self, seq: int | None = None) -> str:
        there = "" if seq is None else f" sequence {seq} has {self.model.positions(seq)}"
        return "; ".join(self.done[-12:]) + there


@pytest.mark.parametrize("memory", MEMORIES)
def test_random_calls_leave_what_the_model_says(zoo, memory):
    walk = Walk(zoo, memory, seed=1, twin=False)
    for _ in range(N_OPERATIONS):
        walk.step()
    assert walk.n_adapted > N_OPERATIONS / 50  # else little was shown
    walk.close()


@pytest.mark.parametrize("memory", MEMORIES)
def test_what_follows_by_itself_computes_what_is_told_before_each_decode(zoo, memory):
    """Bit for bit, with the same calls of llama_memory_* on both contexts; the told one has no activation that could follow."""
    walk = Walk(zoo, memory, seed=2, twin=True)
    for _ in range(N_OPERATIONS // 4):
        walk.step()
        for seq in range(N_SEQS):
            walk.runtimes[1].deactivate(seq)
    assert walk.n_adapted > N_OPERATIONS / 200
    walk.close()
