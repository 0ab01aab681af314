"""`alora pull`."""

import argparse

from ..text import printable_json
from . import hub


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "pull",
        help="fetch models and adapters from the hub",
        description=(
            "Fetches base models and adapters from the Hugging Face hub, as far as they are not here, and prints their paths. "
            "Other commands fetch what is named too. HF_TOKEN, HF_ENDPOINT and HF_HOME are as huggingface_hub has them."
        ),
    )
    parser.add_argument(
        "names", metavar="NAME", nargs="+", help="hf:owner/repo[:QUANT][@revision] of a base, hf:owner/repo/name[@revision] of an adapter"
    )
    parser.add_argument(
        "--base",
        help="what the adapters are for: a GGUF file, hf:owner/repo or what the library calls it (default: the base that is fetched too, or the only one)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    hub.add_option(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from ..hub.pull import pull

    pulled = pull(args.names, args.base)
    print(printable_json([one.as_dict() for one in pulled]) if args.json else "\n".join(str(one.path) for one in pulled))
    return 0
