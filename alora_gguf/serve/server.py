"""The process: it listens, answers, and drains when it is told to end."""

import signal
import socket
import sys
from collections.abc import Callable, Sequence

import uvicorn

from ..errors import ServeError
from .app import make_app
from .guard import is_loopback
from .service import Service


def serve(
    service: Service, *, host: str, port: int, keys: Sequence[str], drain_seconds: int, on_listening: Callable[[str], None]
) -> None:
    """Answers until SIGINT or SIGTERM, then lets requests under way end for `drain_seconds`. Raises ServeError.

    `on_listening` gets the server's address; with port 0 that is one that was free.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as e:
        raise ServeError(f"{host}:{port}: expected an address that can be listened on, got: {e.strerror}; give another --host or --port") from e
    app = make_app(service, keys=keys, loopback_only=is_loopback(host))
    config = uvicorn.Config(app, log_config=None, access_log=False, server_header=False, lifespan="off",
                            timeout_graceful_shutdown=drain_seconds)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it again when it has drained
    with listener:
        on_listening(f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}")
        uvicorn.Server(config).run(sockets=[listener])
