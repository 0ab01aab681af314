"""`alora export`."""

import argparse

from . import hub


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "export",
        help="an adapter file back to a PEFT folder",
        description=("Writes a GGUF adapter as a folder that PEFT loads, with the very values that the file holds."),
    )
    parser.add_argument("file", metavar="ADAPTER", help=hub.ADAPTER)
    parser.add_argument("folder", help="folder to write; must be new or empty")
    parser.add_argument("--base", required=True, help=f"base model that the adapter was made for: {hub.MODEL}")
    hub.add_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from .. import bundled_adapters
    from ..convert import export
    from ..hub.bases import base_file
    from ..hub.names import adapter_file

    base = base_file(args.base)
    print(f"wrote {export(adapter_file(args.file, lambda: base, bundled_adapters), args.folder, base)}")
    return 0
