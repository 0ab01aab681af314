"""What every command says of models and adapters: where they may come from, and --offline."""

import argparse
import os

MODEL = "a GGUF file, or hf:owner/repo[:QUANT][@revision]"
ADAPTER = "a GGUF file, a PEFT folder, hf:owner/repo/name[@revision], or the name of one that comes with this package"


def add_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--offline", action=_Offline, nargs=0, default=False, help="fetch nothing: hf: names are what is here of them")


class _Offline(argparse.Action):
    """Said to huggingface_hub, which reads it when it is imported."""

    def __call__(self, parser, namespace, values, option_string=None):
        os.environ["HF_HUB_OFFLINE"] = "1"
        setattr(namespace, self.dest, True)
