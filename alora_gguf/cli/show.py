"""`alora show`."""

import argparse
from pathlib import Path

from ..text import printable_json


def add_parser(commands) -> None:
    parser = commands.add_parser("show", help="what is in an adapter file", description="Prints what is in an adapter.")
    parser.add_argument("file", metavar="ADAPTER", help="GGUF file, PEFT folder, or name of an adapter that comes with this package")
    parser.add_argument("--base", metavar="GGUF", help="base model that a PEFT folder is converted for (default: the embedded SmolLM2-135M-Instruct)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print JSON")
    form.add_argument("--diffable", action="store_true", help="a line for every key and tensor, with hashes, for diff")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from .. import bundled_adapters, default_model
    from ..convert import describe, render, render_diffable
    from ..hub.names import adapter_file

    file = adapter_file(args.file, lambda: Path(args.base) if args.base else default_model(), bundled_adapters)
    if args.diffable:
        print(render_diffable(file))
        return 0
    description = describe(file)
    print(printable_json(description) if args.json else render(description))
    return 0
