"""ggml's RPC backend: layers on other machines, as devices of this one.

    python -m alora_gguf.rpc 127.0.0.1:50052

serves this machine's CPU. The protocol has neither encryption nor passwords: only for networks
that are trusted.
"""

import argparse
import ctypes
import socket
from collections.abc import Sequence

from ._library import library
from .errors import ModelLoadError

_servers: set[str] = set()


def add_rpc_servers(endpoints: Sequence[str]) -> None:
    """Registers the devices of each "host:port" with ggml, once. Raises ModelLoadError."""
    for endpoint in endpoints:
        if endpoint in _servers:
            continue
        host, _, port = endpoint.rpartition(":")
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
        except (OSError, ValueError) as e:
            raise ModelLoadError(f"RPC server {endpoint!r}: expected one that answers at host:port, got: {e}; start it there") from e
        rpc, ggml = library("ggml-rpc"), library("ggml")
        rpc.ggml_backend_rpc_add_server.restype = ctypes.c_void_p
        registry = rpc.ggml_backend_rpc_add_server(endpoint.encode())
        if not registry:
            raise ModelLoadError(f"RPC server {endpoint!r}: expected a ggml-rpc server of this version, got another; update it")
        ggml.ggml_backend_register(ctypes.c_void_p(registry))
        _servers.add(endpoint)


def serve(endpoint: str, n_threads: int) -> None:
    """Serves the CPU at "host:port" until the process ends."""
    rpc, ggml = library("ggml-rpc"), library("ggml")
    ggml.ggml_backend_dev_by_type.restype = ctypes.c_void_p
    cpu = ggml.ggml_backend_dev_by_type(0)  # GGML_BACKEND_DEVICE_TYPE_CPU
    devices = (ctypes.c_void_p * 1)(cpu)
    rpc.ggml_backend_rpc_start_server(
        endpoint.encode(), None, ctypes.c_size_t(n_threads), ctypes.c_size_t(1), devices)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m alora_gguf.rpc", description="Serve this machine's CPU over ggml's RPC.")
    parser.add_argument("endpoint", help="host:port, for example 127.0.0.1:50052")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    serve(args.endpoint, args.threads)
