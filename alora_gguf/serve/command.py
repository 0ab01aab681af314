"""What `alora serve` is asked for, made into a server."""

import argparse
import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from .. import Model, default_model
from ..cli import devices
from ..errors import ServeError
from .adapter_files import AdapterFiles
from .demo import pack
from .guard import is_loopback
from .server import serve
from .service import Limits, Service


def run(args: argparse.Namespace, say: Callable[[str], None]) -> None:
    """Serves until it is told to end. `say` gets lines for whoever started it. Raises AloraError."""
    for name, least in (("port", 0), ("parallel", 1), ("queue", 0), ("max_tokens", 1), ("max_body", 1), ("timeout", 0), ("drain", 0)):
        if getattr(args, name) < least:
            raise ServeError(f"--{name.replace('_', '-')}: expected a number from {least} on, got {getattr(args, name)}")
    for folder in args.adapters_from:
        if not Path(folder).is_dir():
            raise ServeError(f"--adapters-from {folder}: expected a folder, got {'a file' if Path(folder).exists() else 'nothing'}")
    keys = args.api_key or [key for key in [os.environ.get("ALORA_API_KEY")] if key]
    if not all(keys):
        raise ServeError("--api-key: expected a key, got nothing")
    with Model(
        args.model or default_model(), n_ctx=args.ctx, n_threads=args.threads, adapter_memory=args.adapter_memory and args.adapter_memory << 20,
        parse_special=args.parse_special, **devices.options(args),
    ) as model, closing(AdapterFiles(model, [Path(folder) for folder in args.adapters_from])) as files:
        names = args.name or [model.path.stem]
        for name, path in [*(pack().items() if args.demo else ()), *map(_named, args.adapter)]:
            adapter = files.load(path, name)
            if adapter.name in names:
                raise ServeError(f"--adapter {path}: expected a name of its own, got {adapter.name!r}, which the base model has; give one as NAME=PATH")
        limits = Limits(
            n_running=min(args.parallel, model.context.n_seq_max), n_waiting=args.queue,
            n_tokens=min(args.max_tokens, model.context.n_ctx), seconds=args.timeout, body_bytes=args.max_body << 20)
        if not keys and not is_loopback(args.host):
            say(f"alora: warning: {args.host} can be reached from other machines, and there is no --api-key")
        service = Service(model, names, limits, files)
        about = f"{names[0]}; {', '.join(model.adapters) or 'no adapters'}"
        serve(service, host=args.host, port=args.port, keys=keys, drain_seconds=args.drain,
              on_listening=lambda url: (say(f"alora: serving {about}"), say(f"alora: listening on {url}")))


def _named(given: str) -> tuple[str | None, Path]:
    """NAME=PATH or PATH."""
    name, equals, path = given.partition("=")
    return (name, Path(path)) if equals and name and not Path(given).exists() else (None, Path(given))
