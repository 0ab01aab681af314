"""`alora bench`."""

import argparse
import sys
from pathlib import Path


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "bench",
        help="measure this engine beside its neighbours",
        description=(
            "Measures this engine beside the unpatched library, llama-server (xllamacpp) and PEFT, in one run, on the embedded model "
            "and random models of 1B and 3B. Prints the figures. Take a quiet machine and half an hour."
        ),
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help="write JSON, a page and plots there")
    parser.add_argument("--models", metavar="NAME", nargs="+", default=["135m", "1b", "3b"], help="default: 135m 1b 3b")
    parser.add_argument("--only", metavar="NAME", action="append", default=[], help="only this figure; may be repeated")
    parser.add_argument("--quick", action="store_true", help="a little of everything on a tiny model: whether it runs")
    parser.add_argument("--unpatched", metavar="DIR", help="unpatched libraries (default: build/unpatched/bin, if it is there)")
    parser.add_argument("--cache", metavar="DIR", help="where models and adapters are kept, 5 GB (default: the user's cache folder)")
    parser.add_argument("--threads", metavar="N", type=int, help="default: the cores that it may use")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..bench.bench import bench
    from ..bench.report import table

    results = bench(
        args.out,
        cache=args.cache and Path(args.cache),
        models=args.models,
        only=args.only,
        unpatched=args.unpatched and Path(args.unpatched),
        n_threads=args.threads,
        quick=args.quick,
    )
    print(table(results))
    wrong = [f"{c['engine']}, {c['what']}: computed something else" for c in results["checks"] if not c["ok"]]
    for line in [*results["left_out"], *results["failed"], *wrong]:
        print(f"alora: bench: {line}", file=sys.stderr)
    return 1 if results["failed"] or wrong else 0
