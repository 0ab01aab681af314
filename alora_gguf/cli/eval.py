"""`alora eval`."""

import argparse
import dataclasses
import shlex
import sys
from pathlib import Path

from . import hub


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "eval",
        help="how good intrinsics are",
        description=(
            "Measures intrinsics on held-out data through the GGUF runtime: the base model prompted, a LoRA, the aLoRA. Prints a table; "
            "with --out writes Markdown, JSON and a plot."
        ),
    )
    parser.add_argument("plan", nargs="+", help="TOML file: name, tests, prompted, adapters; base and adapters may be hf: names")
    hub.add_option(parser)
    parser.add_argument(
        "--out", metavar="DIR", help="folder for intrinsics.md, .json and .png, which keep what other runs measured; needs the extra [bench]"
    )
    parser.add_argument("--limit", metavar="N", type=int, help="only so many examples of every test")
    parser.add_argument("--threads", metavar="N", type=int, help="default: the cores that it may use")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from tqdm import tqdm

    from ..eval.evaluate import evaluate
    from ..eval.page import read_page, write_page
    from ..eval.plan import Plan, read_plan
    from ..eval.report import table

    plans = [_with_what_is_there(read_plan(Path(path)).found()) for path in args.plan]
    before = read_page(Path(args.out)) if args.out else {}
    rows = {}
    for plan in plans:
        with tqdm(desc=plan.name, unit="example", file=sys.stderr, mininterval=0.2 if sys.stderr.isatty() else 15) as bar:

            def on_example(title: str, done: int, total: int, plan: Plan = plan) -> None:
                bar.total = total
                bar.set_description(f"{plan.name}, {title}", refresh=False)
                bar.update(done - bar.n)

            rows[plan.name] = evaluate(plan, limit=args.limit, threads=args.threads, on_example=on_example)
        print(f"{plan.name}\n\n{table(rows[plan.name])}\n")
    if args.out:
        print(f"wrote {write_page(Path(args.out), before, rows, f'alora eval {shlex.join(args.command_line)}')}")
    return 0


def _with_what_is_there(plan):
    """Without the LoRA where there is none: it serves for comparison alone, and takes hours to train."""
    if plan.lora is None or plan.lora.exists():
        return plan
    print(f"{plan.name}: lora: expected a GGUF file at {plan.lora}, got none; its rows are left out", file=sys.stderr)
    return dataclasses.replace(plan, lora=None)
