"""`alora list`."""

import argparse

from ..text import human_bytes, printable, printable_json


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "list",
        help="what was fetched and converted",
        description="Lists the base models and adapters that were fetched from the hub, and the adapters that were converted and kept.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..hub.here import entries

    here = entries()
    if args.json:
        print(printable_json([entry.as_dict() for entry in here]))
        return 0
    rows = [(entry.kind, human_bytes(entry.n_bytes), printable(entry.name), f"for {printable(entry.base)}" if entry.base else "") for entry in here]
    widths = [max(map(len, column)) for column in zip(*rows)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())
    if not rows:
        print("nothing is here; alora pull NAME fetches something")
    return 0
