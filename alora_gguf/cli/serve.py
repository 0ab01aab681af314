"""`alora serve`."""

import argparse
import sys

from ..convert.text import printable
from ..errors import ServeError
from . import devices


def add_parser(commands) -> None:
    parser = commands.add_parser("serve", help="an OpenAI-compatible HTTP server", description=(
        "Serves a base model and its adapters to programs that speak OpenAI's API. An adapter is chosen by its name, as `model`. "
        "SIGTERM lets the requests under way end. Needs the extra [serve]."))
    parser.add_argument("--model", metavar="GGUF", help="base model (default: the embedded SmolLM2-135M-Instruct)")
    parser.add_argument("--demo", action="store_true", help="with the adapters that come with this package")
    parser.add_argument("--adapter", metavar="[NAME=]PATH", action="append", default=[], help="GGUF adapter or PEFT folder; may be repeated")
    parser.add_argument("--adapters-from", metavar="DIR", action="append", default=[],
                       help="folder that clients may load adapters from; may be repeated (default: they load none)")
    parser.add_argument("--name", action="append", default=[], help="what clients call the base model; may be repeated (default: the file's name)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine alone)")
    parser.add_argument("--port", metavar="N", type=int, default=8080, help="0 for any that is free (default: %(default)s)")
    parser.add_argument("--api-key", metavar="KEY", action="append", help="that clients have to give; may be repeated (default: ALORA_API_KEY)")
    parser.add_argument("--ctx", metavar="N", type=int, default=16384, help="cells of the KV cache, for all together (default: %(default)s)")
    parser.add_argument("--parallel", metavar="N", type=int, default=64, help="most answers at once (default: %(default)s)")
    parser.add_argument("--queue", metavar="N", type=int, default=256, help="most requests that wait; others get 429 (default: %(default)s)")
    parser.add_argument("--max-tokens", metavar="N", type=int, default=4096, help="most of one answer (default: %(default)s)")
    parser.add_argument("--max-body", metavar="MIB", type=int, default=8, help="most of one request (default: %(default)s)")
    parser.add_argument("--timeout", metavar="S", type=float, default=600, help="most seconds of one answer (default: %(default)s)")
    parser.add_argument("--drain", metavar="S", type=int, default=30, help="seconds that requests have to end in after SIGTERM (default: %(default)s)")
    parser.add_argument("--adapter-memory", metavar="MIB", type=int, help="most of adapters in memory at once (default: no limit)")
    parser.add_argument("--parse-special", action="store_true", help="names of control tokens in messages and documents become these tokens")
    devices.add_options(parser)
    parser.add_argument("--threads", metavar="N", type=int, help="default: the cores that it may use")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    try:
        from ..serve import command
    except ModuleNotFoundError as e:
        raise ServeError(f"alora serve: expected the package {e.name}, got none; pip install 'alora_gguf[serve]'") from e
    command.run(args, lambda line: print(printable(line, limit=2000), file=sys.stderr, flush=True))
    return 0
