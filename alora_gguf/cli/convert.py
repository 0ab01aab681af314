"""`alora-convert`: the converter's own command, and names beside paths."""

import argparse

from ..convert import Conversion, cli
from ..errors import HubError
from . import hub


def main(argv: list[str] | None = None) -> int:
    with hub.telling():
        return cli.main(argv, find=find, look=look, add_options=hub.add_option)


def look(done: Conversion) -> list[str]:
    """What is odd about its io.yaml on the base's vocabulary."""
    if done.io_yaml is None:
        return []
    from ..doctor.oddities import look_at

    return look_at(done.io_yaml, "io.yaml", done.invocation_tokens, done.invoked_after, None if done.base.is_dir() else done.base)


def find(args: argparse.Namespace) -> None:
    """Fetches what is on the hub. Raises HubError, AdapterFileError."""
    from .. import bundled_adapters
    from ..hub.bases import base_file
    from ..hub.names import adapter_source

    def base():
        if args.base is None:
            raise HubError("--base: expected the base model with an adapter of the hub, which has one for each, got none; name it")
        return args.base

    args.base = args.base and base_file(args.base)
    args.adapter = [adapter_source(given, base, bundled_adapters) for given in args.adapter]
