"""`alora show`."""

import argparse

from ..text import printable_json


def add_parser(commands) -> None:
    parser = commands.add_parser("show", help="what is in an adapter file", description="Prints what is in a GGUF adapter.")
    parser.add_argument("file", help="GGUF adapter")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--diffable", action="store_true", help="a line for every key and tensor, with hashes, for diff")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..convert import describe, render, render_diffable

    if args.diffable:
        print(render_diffable(args.file))
        return 0
    description = describe(args.file)
    print(printable_json(description) if args.json else render(description))
    return 0
