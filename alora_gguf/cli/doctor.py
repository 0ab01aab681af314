"""`alora doctor`."""

import argparse
from functools import cache

from ..errors import PromptError
from ..text import printable_json
from . import hub


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "doctor",
        help="what is installed, and what is wrong",
        description=(
            "Says what was built, which devices and which abilities of the processor are used, what else is installed, and what is wrong. "
            "Computes a few tokens with the embedded model and each adapter of the package. Of an adapter that is named it says what is odd "
            "about it: zeros, another base, an io.yaml whose invocation, labels or keys do not fit. Exit code 1 if anything is wrong or odd."
        ),
    )
    parser.add_argument("adapter", metavar="ADAPTER", nargs="?", help=f"look at this one alone: {hub.ADAPTER}")
    parser.add_argument("--model", help=f"the base that it is for: {hub.MODEL} (default: the embedded SmolLM2-135M-Instruct, if it is for that)")
    hub.add_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.adapter is not None:
        return _run_adapter(args)
    if args.model is not None:
        raise PromptError("--model: expected the name of an adapter with it, got none; alora doctor ADAPTER --model MODEL")
    from ..doctor.report import examine, render

    report = examine()
    print(printable_json(report) if args.json else render(report))
    return 1 if report["problems"] else 0


def _run_adapter(args: argparse.Namespace) -> int:
    from ..bundled import bundled_adapters, default_model
    from ..doctor.adapter import examine_adapter, render_adapter
    from ..hub.bases import base_file
    from ..hub.names import adapter_file

    base = cache(lambda: base_file(args.model or default_model()))
    file = adapter_file(args.adapter, base, bundled_adapters)
    report = examine_adapter(file, base() if args.model else None)
    print(printable_json(report) if args.json else render_adapter(report))
    return 1 if report["problems"] else 0
