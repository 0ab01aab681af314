"""`alora doctor`."""

import argparse

from ..text import printable_json


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "doctor",
        help="what is installed, and what is wrong",
        description=(
            "Says what was built, which devices and which abilities of the processor are used, what else is installed, and what is wrong. "
            "Computes a few tokens with the embedded model and each adapter of the package. Exit code 1 if anything is wrong."
        ),
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..doctor.report import examine, render

    report = examine()
    print(printable_json(report) if args.json else render(report))
    return 1 if report["problems"] else 0
