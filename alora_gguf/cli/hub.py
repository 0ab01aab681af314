"""What every command says of models and adapters: where they may come from, and --offline."""

import argparse
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ..text import printable

MODEL = "a GGUF file, or hf:owner/repo[:QUANT][@revision]"
ADAPTER = "a GGUF file, a PEFT folder, hf:owner/repo/name[@revision], or the name of one that comes with this package"


LIBRARY = "hf:owner/repo[@revision], or a folder of adapters"


def add_intrinsics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--intrinsics", metavar="LIBRARY", action="append", default=[], help=f"all adapters for the base of a library: {LIBRARY}; may be repeated"
    )


def load_intrinsics(args: argparse.Namespace, model, taken: Iterable[str]) -> None:
    """Raises AloraError."""
    for library in args.intrinsics:
        model.load_intrinsics(library, taken={*model.adapters, *taken})


@contextmanager
def telling() -> Iterator[None]:
    """Within it, what the hub has to say is a line on standard error."""
    logger = logging.getLogger("alora_gguf.hub")
    handler = _Lines()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(f"alora: {printable(record.getMessage(), limit=2000)}", file=sys.stderr, flush=True)


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--offline", action=_Offline, nargs=0, default=False, help="fetch nothing: hf: names are what is here of them")


class _Offline(argparse.Action):
    """Said to huggingface_hub, which reads it when it is imported."""

    def __call__(self, parser, namespace, values, option_string=None):
        os.environ["HF_HUB_OFFLINE"] = "1"
        setattr(namespace, self.dest, True)
