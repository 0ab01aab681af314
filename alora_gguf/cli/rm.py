"""`alora rm`."""

import argparse

from ..text import human_bytes, printable


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "rm",
        help="remove what was fetched or converted",
        description="Removes base models and adapters from the cache, and adapters that were converted. What others of the cache share stays.",
    )
    parser.add_argument("names", metavar="NAME", nargs="+", help="as alora list has it; hf:owner/repo: all of a repository")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..hub.here import remove

    for name in args.names:
        print(f"removed {printable(name)}, {human_bytes(remove(name))}")
    return 0
