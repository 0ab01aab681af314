"""The process: it listens, answers, and drains when it is told to end."""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Sequence

import uvicorn

from ..errors import ServeError
from .app import make_app
from .guard import is_loopback
from .service import Service

_LAST_WORDS = 5  # seconds for the responses of what was ended


def serve(
    service: Service,
    *,
    host: str,
    port: int,
    keys: Sequence[str],
    drain_seconds: int,
    on_listening: Callable[[str], None],
    origins: Sequence[str] = (),
) -> None:
    """Answers until SIGINT or SIGTERM, then lets requests under way end for `drain_seconds`. Raises ServeError.

    `on_listening` gets the server's address; with port 0 that is one that was free.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as e:
        raise ServeError(f"{host}:{port}: expected an address that can be listened on, got: {e.strerror}; give another --host or --port") from e
    app = make_app(service, keys=keys, loopback_only=is_loopback(host), origins=origins)
    config = uvicorn.Config(
        app, log_config=None, access_log=False, server_header=False, lifespan="off", timeout_graceful_shutdown=drain_seconds + _LAST_WORDS
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # uvicorn raises it again when it has drained
    with listener:
        on_listening(f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}")
        _Server(config, service, drain_seconds).run(sockets=[listener])


class _Server(uvicorn.Server):
    """Stops listening, waits, and then ends what has not ended; clients are told."""

    def __init__(self, config: uvicorn.Config, service: Service, drain_seconds: int):
        super().__init__(config)
        self._service, self._drain_seconds = service, drain_seconds

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().call_later(self._drain_seconds, self._service.end_all)
        await super().shutdown(sockets)
