"""A token's time with as many threads as cores, and with more than there are: adapted and base, in one run.

    OMP_WAIT_POLICY=passive python benchmarks/threads.py ADAPTER.gguf [--threads 2 4 8]

One sequence goes on from the same cells, some tokens at a time, all cases in turn and each round in another order. A case's time is
the median of its rounds, and in brackets the least of them: what else the machine does takes least from that. The ratios are to
the same with the first number of threads, and of adapted to base with as many threads. Threads that wait actively, as OpenMP's do
by default, lose whole time slices to each other and to other work.
"""

import argparse
import os
import random
import statistics
import sys
import time
from pathlib import Path

import gguf

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "native"))
from native_runtime import Runtime, llama_cpp, prompt

from alora_gguf import default_model

N_TOKENS, N_FIRST = 12, 2  # of a case in a round; the first ones, while threads come and go, do not count


class Case:
    """A context whose sequence 1 is adapted, or not, behind n_cells of the base's."""

    def __init__(self, path: Path, adapter: Path | None, n_threads: int, n_cells: int, model=None):
        self.runtime = Runtime(path, n_ctx=2048, flash=gguf.GGMLQuantizationType.F16, model=model)
        self.n_threads, self.n_cells, self.times = n_threads, n_cells, []
        llama_cpp.llama_set_n_threads(self.runtime.ctx, n_threads, n_threads)
        assert self.runtime.decode((1, prompt(0, n_cells), 0), outputs="none") == 0
        self.adapter = self.runtime.load(adapter) if adapter else 0

    def round(self) -> None:
        """The median time of its tokens, in milliseconds."""
        if self.adapter:
            self.runtime.activate(1, self.adapter, self.n_cells)  # it ends with its cells
        taken = []
        for i in range(N_TOKENS):
            began = time.perf_counter()
            assert self.runtime.decode((1, [100 + i], self.n_cells + i), outputs="last") == 0
            taken.append(1e3 * (time.perf_counter() - began))
        llama_cpp.llama_memory_seq_rm(self.runtime.memory, 1, self.n_cells, -1)
        self.times.append(statistics.median(taken[N_FIRST:]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("adapter", type=Path)
    parser.add_argument("--model", type=Path, help="GGUF (default: the embedded one)")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 4, 8])
    parser.add_argument("--cells", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=21)
    args = parser.parse_args()
    cases: dict[tuple[int, bool], Case] = {}
    model = None
    for n_threads in args.threads:
        for adapted in False, True:
            case = Case(args.model or default_model(), args.adapter if adapted else None, n_threads, args.cells, model)
            cases[n_threads, adapted], model = case, model or case.runtime.model
    for _ in range(args.rounds):
        for case in random.sample(list(cases.values()), len(cases)):
            case.round()

    middle = lambda case: statistics.median(case.times)
    first = cases[args.threads[0], False]
    print(f"{len(os.sched_getaffinity(0))} cores, {args.cells} cells, medians (and least) of {args.rounds} rounds in ms\n")
    print(f"| threads | base | / {args.threads[0]} threads | adapted | / {args.threads[0]} threads | adapted / base |\n|---|---|---|---|---|---|")
    for n_threads in args.threads:
        base, adapted = cases[n_threads, False], cases[n_threads, True]
        own = cases[args.threads[0], True]
        print(
            f"| {n_threads} | {middle(base):.1f} ({min(base.times):.1f}) | {middle(base) / middle(first):.2f} ({min(base.times) / min(first.times):.2f}) "
            f"| {middle(adapted):.1f} ({min(adapted.times):.1f}) | {middle(adapted) / middle(own):.2f} ({min(adapted.times) / min(own.times):.2f}) "
            f"| {middle(adapted) / middle(base):.2f} ({min(adapted.times) / min(base.times):.2f}) |"
        )
    for case in reversed(cases.values()):  # the first one has the model
        case.runtime.close()


if __name__ == "__main__":
    main()
