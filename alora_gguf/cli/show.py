"""`alora show`."""

import argparse
from functools import cache

from ..text import printable_json
from . import hub


def add_parser(commands) -> None:
    parser = commands.add_parser("show", help="what is in an adapter file", description="Prints what is in an adapter.")
    parser.add_argument("file", metavar="ADAPTER", help=hub.ADAPTER)
    parser.add_argument("--base", help=f"base model that what is no GGUF is converted for: {hub.MODEL} (default: the embedded SmolLM2-135M-Instruct)")
    hub.add_option(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--diffable", action="store_true", help="a line for every key and tensor, with hashes, for diff")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from .. import bundled_adapters, default_model
    from ..convert import describe, render, render_diffable
    from ..hub.bases import base_file
    from ..hub.names import adapter_file

    file = adapter_file(args.file, cache(lambda: base_file(args.base or default_model())), bundled_adapters)
    if args.diffable:
        print(render_diffable(file))
        return 0
    description = describe(file)
    print(printable_json(description) if args.json else render(description))
    return 0
