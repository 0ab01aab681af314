"""The attention of adapted tokens beside ggml's, in one run: how long a decode takes with either, whose time is the attention's.

    python benchmarks/attention.py [--threads 2]

The model has random weights, a small stream and heads as models have them, so that the cells cost more than all else. Times are
medians in milliseconds, the two taken in turn. Both have the adapter, by plain ops where the attention is ggml's.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

import gguf

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "native"))
from native_models import llama, random_adapter, write_adapter, write_model
from native_runtime import Runtime, llama_cpp, prompt

LAYOUTS = [(32, 8, 64), (16, 16, 64), (9, 3, 64), (32, 8, 128)]  # heads, heads of the cache, values
CASES = [(1, 4096), (8, 1024), (512, 512)]  # tokens, cells before them


class Side:
    """A context whose sequence 1 is adapted, behind n_cells of the base's."""

    def __init__(self, base: Path, adapter: Path, way: str, n_cells: int, n_threads: int):
        os.environ["ALORA_GRAPH"] = way
        self.runtime = Runtime(base, n_ctx=8192, flash=gguf.GGMLQuantizationType.F16)
        llama_cpp.llama_set_n_threads(self.runtime.ctx, n_threads, n_threads)
        for i in range(0, n_cells, 512):
            assert self.runtime.decode((1, prompt(i, min(512, n_cells - i)), i), outputs="none") == 0
        self.adapter, self.n_cells = self.runtime.load(adapter), n_cells
        self.runtime.activate(1, self.adapter, n_cells)

    def milliseconds(self, n_tokens: int) -> float:
        begin = time.perf_counter()
        assert self.runtime.decode((1, prompt(5, n_tokens), self.n_cells), outputs="last") == 0
        took = time.perf_counter() - begin
        llama_cpp.llama_memory_seq_rm(self.runtime.memory, 1, self.n_cells, -1)
        self.runtime.activate(1, self.adapter, self.n_cells)  # which ended with its cells
        return 1000 * took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--runs", type=int, default=15)
    args = parser.parse_args()
    print(f"{'heads':>12} {'tokens':>7} {'cells':>6} {'ours':>8} {'ggml':>8}  ours / ggml, {args.threads} threads")
    with tempfile.TemporaryDirectory() as folder:
        for n_head, n_head_kv, n_dim in LAYOUTS:
            model = llama(n_layer=4, n_dim=n_dim, n_head=n_head, n_head_kv=n_head_kv)
            base = write_model(Path(folder) / "base.gguf", model)
            adapter = write_adapter(Path(folder) / "adapter.gguf", "llama", random_adapter(model, 1, ["blk.0.ffn_down.weight"]))
            for n_tokens, n_cells in CASES:
                sides = [Side(base, adapter, way, n_cells, args.threads) for way in ("", "ops")]
                times: list[list[float]] = [[], []]
                for _ in range(args.runs):
                    for side, taken in zip(sides, times):
                        taken.append(side.milliseconds(n_tokens))
                ours, ggmls = (statistics.median(taken[2:]) for taken in times)
                print(
                    f"{f'{n_head}/{n_head_kv} x {n_dim}':>12} {n_tokens:>7} {n_cells:>6} {ours:>8.2f} {ggmls:>8.2f}  {ours / ggmls:.2f}", flush=True
                )
                for side in sides:
                    side.runtime.close()


if __name__ == "__main__":
    main()
