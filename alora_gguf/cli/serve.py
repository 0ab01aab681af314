"""`alora serve`."""

import argparse
import os
import sys
from pathlib import Path

from ..errors import ServeError
from ..prompt.window import ON_FULL
from ..text import printable
from . import devices, hub


def add_parser(commands) -> None:
    parser = commands.add_parser(
        "serve",
        help="an OpenAI-compatible HTTP server",
        description=(
            "Serves a base model and its adapters to programs that speak OpenAI's API. An adapter is chosen by its name, as `model`. "
            "SIGTERM lets the requests under way end."
        ),
    )
    parser.add_argument("--model", help=f"base model: {hub.MODEL} (default: the embedded SmolLM2-135M-Instruct)")
    hub.add_option(parser)
    parser.add_argument("--demo", action="store_true", help="with the adapters that come with this package")
    parser.add_argument("--adapter", metavar="[NAME=]ADAPTER", action="append", default=[], help=f"{hub.ADAPTER}; may be repeated")
    hub.add_intrinsics(parser)
    parser.add_argument(
        "--adapters-from",
        metavar="DIR",
        action="append",
        default=[],
        help="folder that clients may load adapters from; may be repeated (default: they load none)",
    )
    parser.add_argument("--name", action="append", default=[], help="what clients call the base model; may be repeated (default: the file's name)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine alone)")
    parser.add_argument("--port", metavar="N", type=int, default=8080, help="0 for any that is free (default: %(default)s)")
    parser.add_argument("--api-key", metavar="KEY", action="append", help="that clients have to give; may be repeated (default: ALORA_API_KEY)")
    parser.add_argument(
        "--cors", metavar="ORIGIN", action="append", default=[], help="whose web pages may ask, as https://example.org, or *; may be repeated"
    )
    parser.add_argument("--ctx", metavar="N", type=int, default=16384, help="cells of the KV cache, for all together (default: %(default)s)")
    parser.add_argument(
        "--on-full",
        choices=ON_FULL,
        default="error",
        help="what happens to a chat that is longer than the context: 400, or its oldest turns are left out (default: %(default)s)",
    )
    parser.add_argument("--parallel", metavar="N", type=int, default=64, help="most answers at once (default: %(default)s)")
    parser.add_argument("--queue", metavar="N", type=int, default=256, help="most requests that wait; others get 429 (default: %(default)s)")
    parser.add_argument("--max-tokens", metavar="N", type=int, default=4096, help="most of one answer (default: %(default)s)")
    parser.add_argument("--max-body", metavar="MIB", type=int, default=8, help="most of one request (default: %(default)s)")
    parser.add_argument("--timeout", metavar="S", type=float, default=600, help="most seconds of one answer (default: %(default)s)")
    parser.add_argument(
        "--drain", metavar="S", type=int, default=30, help="seconds that requests have to end in after SIGTERM (default: %(default)s)"
    )
    parser.add_argument("--adapter-memory", metavar="MIB", type=int, help="most of adapters in memory at once (default: no limit)")
    parser.add_argument("--parse-special", action="store_true", help="names of control tokens in messages and documents become these tokens")
    devices.add_options(parser)
    parser.add_argument("--threads", metavar="N", type=int, help="default: the cores that it may use")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from .. import Model, bundled_adapters, default_model

    try:
        from ..serve.adapter_files import AdapterFiles
        from ..serve.guard import is_loopback, is_origin
        from ..serve.server import serve
        from ..serve.service import Limits, Service
    except ModuleNotFoundError as e:
        raise ServeError(f"alora serve: expected the package {e.name}, got none; pip install alora_gguf") from e
    for name, least in (("port", 0), ("parallel", 1), ("queue", 0), ("max_tokens", 1), ("max_body", 1), ("timeout", 0), ("drain", 0)):
        if getattr(args, name) < least:
            raise ServeError(f"--{name.replace('_', '-')}: expected a number from {least} on, got {getattr(args, name)}")
    if args.port > 65535:
        raise ServeError(f"--port: expected a number from 0 to 65535, got {args.port}")
    for folder in args.adapters_from:
        if not Path(folder).is_dir():
            raise ServeError(f"--adapters-from {folder}: expected a folder, got {'a file' if Path(folder).exists() else 'nothing'}")
    for origin in args.cors:
        if origin != "*" and not is_origin(origin):
            raise ServeError(f"--cors {origin}: expected an origin as https://example.org or http://localhost:3000, or *, got another; correct it")
    keys = args.api_key or [key for key in [os.environ.get("ALORA_API_KEY")] if key]
    if not all(keys):
        raise ServeError("--api-key: expected a key, got nothing")
    with Model(
        args.model or default_model(),
        n_ctx=args.ctx,
        n_threads=args.threads,
        adapter_memory=args.adapter_memory and args.adapter_memory << 20,
        parse_special=args.parse_special,
        **devices.options(args),
    ) as model:
        names = args.name or [model.path.stem]
        for name, path in [*(bundled_adapters().items() if args.demo else ()), *map(_named, args.adapter)]:
            adapter = model.load_adapter(path, name)
            if adapter.name in names:
                raise ServeError(
                    f"--adapter {path}: expected a name of its own, got {adapter.name!r}, which the base model has; give one as NAME=PATH"
                )
        hub.load_intrinsics(args, model, names)
        limits = Limits(
            n_running=min(args.parallel, model.engine.context.n_seq_max),
            n_waiting=args.queue,
            n_tokens=min(args.max_tokens, model.engine.context.n_ctx),
            seconds=args.timeout,
            body_bytes=args.max_body << 20,
        )
        if not keys and not is_loopback(args.host):
            _say(f"alora: warning: {args.host} can be reached from other machines, and there is no --api-key")
        service = Service(model, names, limits, AdapterFiles(model, [Path(folder) for folder in args.adapters_from]), on_full=args.on_full)
        about = f"{names[0]}; {', '.join(model.adapters) or 'no adapters'}"

        def on_listening(url: str) -> None:
            _say(f"alora: serving {about}")
            _say(f"alora: listening on {url}")

        serve(service, host=args.host, port=args.port, keys=keys, drain_seconds=args.drain, on_listening=on_listening, origins=args.cors)
    return 0


def _say(line: str) -> None:
    print(printable(line, limit=2000), file=sys.stderr, flush=True)


def _named(given: str) -> tuple[str | None, str]:
    """NAME=PATH or PATH."""
    name, equals, path = given.partition("=")
    return (name, path) if equals and name and not Path(given).exists() else (None, given)
