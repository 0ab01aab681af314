"""The options that say where layers are computed."""

import argparse
from typing import Any


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--gpu-layers", metavar="N", type=int, help="layers on a GPU or on --rpc's machines, -1 for all (default: 0, with --rpc -1)")
    parser.add_argument("--rpc", metavar="HOST:PORT,...", help="machines that run `alora rpc`, which the layers are divided among")


def options(args: argparse.Namespace) -> dict[str, Any]:
    """Model's arguments of these options."""
    servers = args.rpc.split(",") if args.rpc is not None else []
    n_layers = args.gpu_layers if args.gpu_layers is not None else -1 if servers else 0
    return {"n_gpu_layers": n_layers, "rpc_servers": servers}
