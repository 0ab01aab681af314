"""What an activation costs beside its own arithmetic: one reserve for all, no new graph, and nothing at all where none ever is."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from native_runtime import Runtime, free, llama_cpp, prompt, relative_error

from alora_gguf.runtime.library import logger

TOLERANCE = 2e-5
N_MANY = 12


class Reserves(logging.Handler):
    """Counts the times that a context reserves its scheduler and graphs, and keeps for how many nodes."""

    def __init__(self):
        super().__init__(logging.DEBUG)
        self.n, self.n_nodes = 0, []

    def emit(self, record: logging.LogRecord) -> None:
        self.n += "sched_reserve: reserving ..." in record.getMessage()
        if found := re.search(r"sched_reserve: max_nodes = (\d+)", record.getMessage()):
            self.n_nodes.append(int(found[1]))


@pytest.fixture
def reserves():
    handler, level = Reserves(), logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(level)


@pytest.fixture(params=["dense", "experts", "hybrid"])
def kind(request) -> str:
    return request.param


def test_the_first_activation_of_a_context_reserves_once_and_no_other_again(zoo, kind, reserves):
    with Runtime(zoo.base(kind)) as runtime:
        assert reserves.n == 1  # so that it is known to be counted
        adapters = [zoo.load(runtime, kind, zoo.adapter(kind, seed)) for seed in range(3)]
        n = dict.fromkeys(range(4), 0)

        def decode(*seqs):
            assert runtime.decode(*[(seq, prompt(n[seq], 3), n[seq]) for seq in seqs]) == 0
            n.update({seq: n[seq] + 3 for seq in seqs})

        decode(0)
        assert reserves.n == 1
        runtime.activate(0, adapters[0], 3)
        decode(0)
        assert reserves.n == 2
        runtime.activate(0, adapters[0], 4, 0.5)  # moved, and another scale
        decode(0)
        runtime.activate(1, adapters[1])
        runtime.activate(1, adapters[2], 0, -1.0)
        decode(0, 1, 2)
        llama_cpp.llama_memory_seq_cp(runtime.memory, 1, 3, -1, -1)
        n[3] = n[1]
        decode(1, 3)
        runtime.deactivate(0)
        decode(0, 1)
        free(adapters[2])
        decode(1)
        runtime.clear()
        n.update(dict.fromkeys(n, 0))
        decode(0)
        assert reserves.n == 2


def test_nodes_for_adapters_are_paid_for_where_one_is_active(zoo, reserves):
    """Not by a context of the base, nor by one that has merely loaded an adapter: those plan for llama.cpp's own nodes."""
    with Runtime(zoo.base("dense")) as runtime:
        adapter = zoo.load(runtime, "dense", zoo.adapter("dense"))
        assert runtime.decode((0, prompt(1, 3), 0)) == 0
        n_tensors = len(zoo.model("dense").tensors)
        assert reserves.n_nodes == [max(1024, 8 * n_tensors)]
        runtime.activate(0, adapter, 0)
        assert runtime.decode((0, prompt(1, 3), 3)) == 0
        assert reserves.n_nodes[1:] == [reserves.n_nodes[0] + 48 * n_tensors]


def steps(runtime: Runtime, seqs: list[int], n: int, first: int) -> int:
    """Decodes n single tokens on each sequence, one batch a position; how many graphs were reused."""
    before = runtime.n_reused
    for i in range(n):
        assert runtime.decode(*[(seq, [7 + seq], first + i) for seq in seqs]) == 0
    return runtime.n_reused - before


def test_the_graph_is_reused_from_step_to_step(zoo, kind):
    """Also where scale, start, and the sequence that has the adapter change."""
    with Runtime(zoo.base(kind)) as runtime:
        adapter = zoo.load(runtime, kind, zoo.adapter(kind))
        fresh = steps(runtime, [0, 1], 8, 0)  # 7, or 6 where a recurrent state begins
        assert fresh >= 6
        runtime.activate(0, adapter, 8)
        assert steps(runtime, [0, 1], 8, 8) == 7  # one new graph, with the adapter
        runtime.activate(0, adapter, 12, 0.5)
        assert steps(runtime, [0, 1], 8, 16) == 8
        runtime.deactivate(0)
        runtime.activate(1, adapter, 20, -1.0)
        assert steps(runtime, [0, 1], 8, 24) == 8
        runtime.activate(0, adapter, 0)
        assert steps(runtime, [0, 1], 8, 32) == 8
        runtime.clear()
        assert steps(runtime, [0, 1], 8, 0) == fresh  # one new graph, the base's


def test_a_graph_that_is_reused_has_the_new_scales(zoo, kind):
    adapter, tokens = zoo.adapter(kind), prompt(1, 12)
    with Runtime(zoo.base(kind)) as base:
        fresh = steps(base, [0], len(tokens), 0)
    with Runtime(zoo.base(kind)) as runtime:
        ptr = zoo.load(runtime, kind, adapter)
        runtime.activate(0, ptr, 4)
        before = runtime.n_reused
        rows = [runtime.logits((0, [token], i))[0] for i, token in enumerate(tokens)]
        assert runtime.n_reused - before == fresh - 1  # one graph more: that with the adapter
        runtime.clear()
        runtime.activate(0, ptr, 4)
        runtime.logits((0, tokens[:6], 0))
        other = []
        for i, scale in enumerate((1.0, 0.25, -1.0), 6):
            runtime.activate(0, ptr, 4, scale)
            other += runtime.logits((0, [tokens[i]], i))
    assert relative_error(np.concatenate(rows), zoo.expected(kind, tokens, 4, (adapter, 1.0))) < TOLERANCE
    assert relative_error(other[0], rows[6]) < TOLERANCE
    assert relative_error(other[1], rows[7]) > 100 * TOLERANCE < relative_error(other[2], rows[8])


def test_a_graph_is_its_adapters_own(zoo, kind):
    """Two of one shape take turns, so that nothing but the adapter tells their graphs apart."""
    first, second, tokens = zoo.adapter(kind, 1), zoo.adapter(kind, 2), [5, 6, 7, 8]
    with Runtime(zoo.base(kind)) as runtime:
        runtime.activate(0, zoo.load(runtime, kind, first))
        runtime.activate(1, zoo.load(runtime, kind, second))
        rows = [[], []]
        for i, token in enumerate(tokens):
            for seq in (0, 1):
                rows[seq] += runtime.logits((seq, [token], i))
    for row, adapter in zip(rows, (first, second)):
        assert relative_error(np.concatenate(row), zoo.expected(kind, tokens, 0, (adapter, 1.0))) < TOLERANCE


@pytest.mark.parametrize("together", [True, False], ids=["one sequence", "a sequence each"])
def test_a_dozen_adapters_on_every_weight_at_once(zoo, kind, together, reserves):
    """More nodes than a context plans for with a first adapter: it makes room at once, and never aborts."""
    adapters = [zoo.adapter(kind, seed, r=2, alpha=0.5) for seed in range(N_MANY)]
    tokens = prompt(2, 6)
    with Runtime(zoo.base(kind)) as runtime:
        for i, adapter in enumerate(adapters):
            runtime.activate(0 if together else i, zoo.load(runtime, kind, adapter), 2)
        rows = runtime.logits(*[(i, tokens, 0) for i in range(1 if together else N_MANY)])
        assert reserves.n == 2  # as far as is known before the first decode, at once
        n = reserves.n
        runtime.clear()
        assert runtime.decode((0, tokens, 0)) == 0
        assert reserves.n == n
    if together:
        assert relative_error(rows[0], zoo.expected(kind, tokens, 2, *((a, 1.0) for a in adapters))) < TOLERANCE
    else:
        for i in (0, 5, N_MANY - 1):
            assert relative_error(rows[i], zoo.expected(kind, tokens, 2, (adapters[i], 1.0))) < TOLERANCE


def test_adapters_that_come_one_by_one_make_room_a_few_times(zoo, reserves):
    with Runtime(zoo.base("dense"), n_seq_max=64) as runtime:
        for i in range(30):
            runtime.activate(i, zoo.load(runtime, "dense", zoo.adapter("dense", i, r=1)), 0)
            assert runtime.decode(*[(seq, [5], i - seq) for seq in range(i + 1)]) == 0
        assert reserves.n <= 6


# nothing active: the library without the patch, bit for bit

STEPS = """
import os, sys
import numpy as np
from native_runtime import Runtime, prompt
base, out, *adapter = sys.argv[1:]
rows = []
with Runtime(base) as r:
    ptr = r.load(adapter[0]) if adapter else None
    rows += r.logits((0, prompt(1, 20), 0), (1, prompt(2, 9), 0))
    if adapter:
        r.activate(2, ptr, 3)
    mixed = r.logits((0, prompt(3, 2), 20), (2, prompt(4, 12), 0))  # beside an adapter
    rows.append(mixed[0])
    for i in range(3):  # an adapter alone
        r.decode((2, [9], 12 + i))
    if adapter:
        assert r.deactivate(2) == 1
    # its cells are no longer the base's, so they go
    from native_runtime import llama_cpp
    assert llama_cpp.llama_memory_seq_rm(r.memory, 2, -1, -1)
    before = r.n_reused
    for i in range(6):
        rows += r.logits((0, [11 + i], 22 + i), (1, [40 + i], 9 + i))
    rows += r.logits((3, prompt(5, 33), 0))
    for i in range(4):
        rows += r.logits((3, [50 + i], 33 + i))
    rows.append(np.full((1, r.n_vocab), r.n_reused - before, np.float32))
np.save(out, np.concatenate(rows))
"""


def test_steps_without_an_adapter_are_the_unpatched_librarys(zoo, kind, unpatched_lib, tmp_path):
    """After one was active, beside one that is, and as often with a graph that is reused."""
    from native_models import write_adapter

    adapter = write_adapter(tmp_path / "adapter.gguf", zoo.model(kind).architecture, zoo.adapter(kind))
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    for name, args, env in (("patched", [adapter], {}), ("unpatched", [], {"LLAMA_CPP_LIB_PATH": str(unpatched_lib), "ALORA_TEST_UNPATCHED": "1"})):
        done = subprocess.run(
            [sys.executable, "-c", STEPS, zoo.base(kind), tmp_path / f"{name}.npy", *args],
            capture_output=True,
            text=True,
            env={**os.environ, **env, "PYTHONPATH": path},
        )
        assert done.returncode == 0, done.stderr[-2000:]
    got, want = (np.load(tmp_path / f"{name}.npy") for name in ("patched", "unpatched"))
    assert want[-1, 0] > 0  # graphs were reused
    assert np.array_equal(got, want)
