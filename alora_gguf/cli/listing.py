"""`alora list`."""

import argparse
import contextlib

from ..errors import ModelLoadError
from ..text import human_bytes, printable, printable_json


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "list",
        help="what was fetched and converted",
        description=(
            "Lists the base models and adapters that were fetched from the hub, and the adapters that were converted and kept: what each "
            "is for, which bases here it fits, and where a converted one came from."
        ),
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from .. import default_model
    from ..hub.here import entries

    others = {}
    with contextlib.suppress(ModelLoadError):  # there is none
        others["the embedded model"] = default_model()
    here = entries(others)
    if args.json:
        print(printable_json([entry.as_dict() for entry in here]))
        return 0
    rows = [
        (
            entry.kind,
            human_bytes(entry.n_bytes),
            printable(entry.name),
            f"for {printable(entry.base)}" if entry.base else "",
            f"fits {printable(', '.join(entry.fits))}" if entry.fits else "",
            f"from {printable(entry.source)}" if entry.source else "",
        )
        for entry in here
    ]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    if not rows:
        print("nothing is here; alora pull NAME fetches something")
    return 0
