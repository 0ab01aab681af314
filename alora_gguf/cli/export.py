"""`alora export`."""

import argparse


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "export",
        help="an adapter file back to a PEFT folder",
        description=("Writes a GGUF adapter as a folder that PEFT loads, with the very values that the file holds."),
    )
    parser.add_argument("file", help="GGUF adapter")
    parser.add_argument("folder", help="folder to write; must be new or empty")
    parser.add_argument("--base", metavar="GGUF", required=True, help="base model that the adapter was made for")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..convert import export

    print(f"wrote {export(args.file, args.folder, args.base)}")
    return 0
