"""ggml's RPC backend: layers on other machines, as devices of this one.

The protocol has neither encryption nor passwords: only for networks that are trusted.
"""

import ctypes
import signal
import socket
from collections.abc import Sequence

from ..errors import ServeError
from .library import library
from .rpc_relay import Relay, address_of

_CPU, _GPU, _IGPU = range(3)  # ggml_backend_dev_type
_relays: dict[str, Relay] = {}


def relays_to(endpoints: Sequence[str]) -> list[Relay]:
    """The relays to the servers at each "host:port", shared by all models of this process. Raises ModelLoadError."""
    for endpoint in endpoints:
        if endpoint not in _relays or _relays[endpoint].lost:
            _relays[endpoint] = Relay(endpoint)
    return [_relays[endpoint] for endpoint in dict.fromkeys(endpoints)]


def devices(relays: Sequence[Relay]):
    """llama_model_params.devices: those of the servers, and after them this machine's. None if there are no servers."""
    if not relays:
        return None
    rpc, ggml = library("ggml-rpc"), library("ggml")
    rpc.ggml_backend_rpc_add_server.restype = ggml.ggml_backend_reg_dev_get.restype = ctypes.c_void_p
    ggml.ggml_backend_reg_dev_count.restype = ctypes.c_size_t
    found = []
    for relay in relays:
        registry = ctypes.c_void_p(rpc.ggml_backend_rpc_add_server(relay.local.encode()))
        if registry:
            found += [ggml.ggml_backend_reg_dev_get(registry, ctypes.c_size_t(i)) for i in range(ggml.ggml_backend_reg_dev_count(registry))]
    found += _gpus(ggml)
    return (ctypes.c_void_p * (len(found) + 1))(*found)


def serve(endpoint: str, n_threads: int) -> None:
    """Serves this machine's GPUs, or its CPU if it has none, at "host:port" until the process is ended. Raises ServeError."""
    try:
        host, port = address_of(endpoint)
        address = socket.gethostbyname(host), port
        socket.create_server(address).close()
    except (OSError, ValueError) as e:
        raise ServeError(f"alora rpc {endpoint}: expected host:port of this machine that is free, got: {e}; give another") from e
    rpc, ggml = library("ggml-rpc"), library("ggml")
    ggml.ggml_backend_dev_by_type.restype = ctypes.c_void_p
    served = _gpus(ggml) or [ggml.ggml_backend_dev_by_type(_CPU)]
    for ending in (signal.SIGINT, signal.SIGTERM):  # Python would see them after the call, which does not end
        signal.signal(ending, signal.SIG_DFL)
    rpc.ggml_backend_rpc_start_server(
        "{}:{}".format(*address).encode(), None, ctypes.c_size_t(n_threads), ctypes.c_size_t(len(served)), (ctypes.c_void_p * len(served))(*served)
    )
    raise ServeError(f"alora rpc {endpoint}: expected to serve there, got an error of ggml's; see above")


def _gpus(ggml: ctypes.CDLL) -> list[int]:
    """The ggml_backend_dev_t of this machine's GPUs; those that are part of the processor only where there are no others."""
    ggml.ggml_backend_dev_get.restype = ctypes.c_void_p
    ggml.ggml_backend_dev_count.restype = ctypes.c_size_t
    found: dict[int, list[int]] = {}
    for i in range(ggml.ggml_backend_dev_count()):
        device = ggml.ggml_backend_dev_get(ctypes.c_size_t(i))
        found.setdefault(ggml.ggml_backend_dev_type(ctypes.c_void_p(device)), []).append(device)
    return found.get(_GPU) or found.get(_IGPU) or []
