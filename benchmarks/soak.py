"""Half an hour of chats, intrinsics, cancelled answers, loads and unloads from eight threads: is memory flat, the same said, as fast?

    python benchmarks/soak.py ADAPTER.gguf ... [--minutes 30] [--out docs/benchmarks]

Work is done in rounds of a few seconds. After each one, alone, with an empty cache and the given adapters alone, the same answer is
computed: its tokens have to be those of the first round, and the processor's time a token and the process's memory are written
down. Prints a line at the end, and writes soak.json and soak.svg. Exit code 1 if the answer changed, memory grew by more than 1 %
from the second fifth of the rounds to the last (the first fills the cache), or a token takes 10 % longer in the end than on a
model that was just opened (in turns: what else the machine does is no growth of ours).
"""

import argparse
import json
import platform
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

from alora_gguf import Model, ResultError, UnknownAdapterError, default_model

N_THREADS, ROUND_SECONDS, N_TURNS = 8, 5, 15
MOST = {"memory": 0.01, "time a token": 0.10}  # growth
QUESTIONS = [
    "How long does the ferry to Saint Maren take?", "Name three rivers.", "The shop opens at nine. When does it open?",
    "Write one sentence about the moon.", "What is seven times eight?", "Who wrote the letter?"]  # fmt: skip
CANARY = "Tell me about the sea."


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("adapters", nargs="+", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--threads", type=int, help="of the engine; default: the cores that it may use")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    args = parser.parse_args()

    counts = dict.fromkeys(("answers", "intrinsics", "cancelled", "loads"), 0)
    rows, first = [], None
    began = time.monotonic()
    open_model = lambda: Model(default_model(), n_ctx=4096, n_threads=args.threads)
    with open_model() as model, ThreadPoolExecutor(N_THREADS) as pool:
        for path in args.adapters:
            model.load_adapter(path)
        while (minutes := (time.monotonic() - began) / 60) < args.minutes:
            until = time.monotonic() + ROUND_SECONDS
            for done in pool.map(lambda seed: work(model, args.adapters, seed, until), [f"{len(rows)} {i}" for i in range(N_THREADS)]):
                for key, n in done.items():
                    counts[key] += n
            for name in set(model.adapters) - {path.stem for path in args.adapters}:  # of these there are now more, now fewer
                model.unload_adapter(name)
            reply, ms = canary(model)
            first = first or reply
            rows.append({"minute": round(minutes, 3), "rss_mb": rss_mb(), "ms_per_token": ms, "same": reply == first})
            print(f"\r{minutes:5.1f} min, {sum(counts.values())} calls, {rows[-1]['rss_mb']:.1f} MB, {ms:.2f} ms a token ", end="", file=sys.stderr)
        with open_model() as fresh:
            turns = [(canary(model)[1], canary(fresh)[1]) for _ in range(N_TURNS)]
    print(file=sys.stderr)

    fifth = max(1, len(rows) // 5)
    early, late = (median(r["rss_mb"] for r in part) for part in (rows[fifth : 2 * fifth] or rows, rows[-fifth:]))
    growth = {"memory": late / early - 1, "time a token": median(soaked / new for soaked, new in turns) - 1}
    drifted = sum(not r["same"] for r in rows)
    results = {
        "minutes": args.minutes,
        "machine": f"{platform.machine()}, {platform.system()}",
        **counts,
        "rounds": len(rows),
        "drifted": drifted,
        "growth": {key: round(value, 4) for key, value in growth.items()},
        "points": rows,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "soak.json").write_text(json.dumps(results, indent=1) + "\n")
    plot(rows, args.out / "soak.svg")
    bad = drifted or any(growth[key] > most for key, most in MOST.items())
    print(
        f"soak: {args.minutes:g} minutes, {', '.join(f'{n} {key}' for key, n in counts.items())}: memory {growth['memory']:+.1%}, "
        f"time a token {growth['time a token']:+.1%}, {drifted} of {len(rows)} answers drifted: {'FAILED' if bad else 'passed'}"
    )
    return bool(bad)


def work(model: Model, files: list[Path], seed: str, until: float) -> dict[str, int]:
    """One thread's calls of a round. An adapter that another thread has just unloaded is no error, and JSON that is cut short none."""
    counts = dict.fromkeys(("answers", "intrinsics", "cancelled", "loads"), 0)
    rng = random.Random(seed)
    while time.monotonic() < until:
        with model.conversation() as chat:
            for _ in range(rng.randint(1, 3)):
                if rng.random() < 0.3:
                    with chat.ask(rng.choice(QUESTIONS), stream=True, max_tokens=40) as answer:
                        next(answer, None)
                    counts["cancelled"] += 1
                else:
                    chat.ask(rng.choice(QUESTIONS), max_tokens=rng.randint(1, 24))
                    counts["answers"] += 1
                name, file = f"{rng.randint(0, 3)}", rng.choice(files)
                try:
                    if rng.random() < 0.2:
                        model.load_adapter(file, name)
                        counts["loads"] += 1
                    elif rng.random() < 0.1:
                        model.unload_adapter(name)
                    chat.invoke(rng.choice([name, file.stem]), max_tokens=8)
                    counts["intrinsics"] += 1
                except (UnknownAdapterError, ResultError):
                    pass
    return counts


def canary(model: Model) -> tuple[list[int], float]:
    """The tokens of the same answer, alone and computed anew; and milliseconds of the processor's time for each."""
    model.clear_cache()
    before = time.process_time()
    reply = model.conversation().ask(CANARY, temperature=0, max_tokens=32)
    return reply.tokens, 1e3 * (time.process_time() - before) / len(reply.tokens)


def rss_mb() -> float:
    with open("/proc/self/status") as f:
        return int(f.read().split("VmRSS:")[1].split()[0]) / 1e3


def plot(rows: list[dict], out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.fonttype"] = "none"
    matplotlib.rcParams["svg.hashsalt"] = "soak"
    from matplotlib import pyplot

    chart, axes = pyplot.subplots(2, 1, figsize=(6.4, 4.8), sharex=True)
    for axis, key, label in zip(axes, ("rss_mb", "ms_per_token"), ("megabytes in memory", "ms of CPU a token")):
        axis.plot([r["minute"] for r in rows], [r[key] for r in rows], linewidth=1)
        axis.set(ylabel=label)
        axis.set_ylim(bottom=0)
        axis.grid(alpha=0.3)
    axes[-1].set(xlabel="minutes")
    chart.tight_layout()
    chart.savefig(out, metadata={"Date": None})


if __name__ == "__main__":
    sys.exit(main())
