"""`alora rpc`."""

import argparse

from ..runtime.cores import usable_cores


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "rpc",
        help="compute layers for another machine",
        description=(
            "Lets another machine's `alora chat --rpc` or `alora serve --rpc` compute layers here: on this machine's GPUs, or its CPU "
            "if it has none. One at a time. There is neither encryption nor a password: only for networks that are trusted."
        ),
    )
    parser.add_argument("endpoint", metavar="HOST:PORT", help="address to listen on, as 192.168.1.7:50052")
    parser.add_argument("--threads", metavar="N", type=int, default=usable_cores(), help="default: the cores that it may use")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..runtime.rpc import serve

    serve(args.endpoint, args.threads)
    return 0
