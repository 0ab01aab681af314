"""The way to an RPC server: what ggml's client would end the process for is an error here.

ggml-rpc's client aborts when its server is lost, or answers what it does not expect. So the client of this
process talks to a relay on the loopback interface. The relay hands every message on, and answers in the
place of a server that is lost; whoever computes with its devices asks `lost` before a result is used.

The protocol (ggml/src/ggml-rpc/ggml-rpc.cpp): a request is a byte that says which, the size of what follows
in 8 bytes, and that; an answer is its size and what follows, and not every request has one.
"""

import contextlib
import socket
import struct
import threading
from collections.abc import Sequence

from ..errors import AloraError, ModelLoadError

VERSION = 7, 0
_HELLO, _GET_TENSOR = 14, 8
_ANSWERS = {  # to each request that has an answer of a known size: that of a server with no memory at all
    0: bytes(16),  # ALLOC_BUFFER: no buffer
    1: struct.pack("<Q", 64),  # GET_ALIGNMENT
    2: struct.pack("<Q", 1 << 62),  # GET_MAX_SIZE
    3: struct.pack("<Q", 1 << 32),  # BUFFER_GET_BASE: of null, ggml aborts
    7: bytes(1),  # SET_TENSOR_HASH: not known
    9: bytes(1),  # COPY_TENSOR: not done
    11: bytes(16),  # GET_DEVICE_MEMORY
    13: bytes(8),  # GET_ALLOC_SIZE
    _HELLO: struct.pack("<28B", *VERSION, *bytes(26)),  # the relay's own answer: TCP, no RDMA
    15: struct.pack("<I", 1),  # DEVICE_COUNT
}
_REQUEST = struct.Struct("<BQ")
_SIZE = struct.Struct("<Q")
_CHUNK = 1 << 20
_TIMEOUT = 5  # seconds to connect and to be greeted in
_KEEPALIVE = {"TCP_KEEPIDLE": 10, "TCP_KEEPALIVE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 300_000}


def address_of(endpoint: str) -> tuple[str, int]:
    """Host and port. Raises ValueError."""
    host, _, port = endpoint.rpartition(":")
    if not (host and port.isdecimal() and int(port) < 2**16):
        raise ValueError("no name or address with a port up to 65535 behind a colon")
    return host.strip("[]"), int(port)


class Relay:
    """Listens at `local`, a "host:port", in the place of the server at `endpoint`, which serves one client at a time.

    lost   None, or what became of the server, as an error's text; it does not come back
    Raises ModelLoadError if no free server of this version answers there.
    """

    def __init__(self, endpoint: str):
        self.endpoint = endpoint
        self.lost: str | None = None
        try:
            self._address = address_of(endpoint)
            self.connect().close()
        except (OSError, ValueError) as e:
            raise ModelLoadError(
                f"RPC server {endpoint!r}: expected one that answers at host:port and is free, got: {e}; start `alora rpc` there, of the same version"
            ) from e
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.local = "{}:{}".format(*self._listener.getsockname())
        threading.Thread(target=self._listen, name=f"alora_gguf relay {endpoint}", daemon=True).start()

    def connect(self) -> socket.socket:
        """The server, greeted. Raises OSError."""
        server = socket.create_connection(self._address, timeout=_TIMEOUT)
        try:
            server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a machine that is switched off says nothing
            for name, value in _KEEPALIVE.items():
                if hasattr(socket, name):
                    server.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
            server.sendall(_REQUEST.pack(_HELLO, 24) + bytes(24))
            (size,) = _SIZE.unpack(_read(server, _SIZE.size))
            if size != len(_ANSWERS[_HELLO]):
                raise ConnectionError("something else than ggml's RPC")
            major, minor = _read(server, size)[:2]
            if major != VERSION[0] or minor > VERSION[1]:
                raise ConnectionError(f"version {major}.{minor} of ggml's RPC, not {VERSION[0]}.{VERSION[1]}")
            server.settimeout(None)
        except BaseException:
            server.close()
            raise
        return server

    def lose(self, why: OSError) -> None:
        self.lost = self.lost or (f"RPC server {self.endpoint!r}: expected it to go on, got: {why}; start it again and load the model anew")

    def _listen(self) -> None:
        while True:
            client, _ = self._listener.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_Connection(self, client).run, name=f"alora_gguf relay {self.endpoint}", daemon=True).start()


def check_servers(relays: Sequence[Relay], error: type[AloraError]) -> None:
    """Raises `error` if one of the servers is lost: what was computed since is worth nothing."""
    for relay in relays:
        if relay.lost:
            raise error(relay.lost)


class _Connection:
    """What one client asks, handed on and answered until it goes."""

    def __init__(self, relay: Relay, client: socket.socket):
        self._relay = relay
        self._client = client
        self._server: socket.socket | None = None  # None: lost

    def run(self) -> None:
        if not self._relay.lost:
            try:
                self._server = self._relay.connect()
            except OSError as e:
                self._lose(e)
        with self._client, contextlib.suppress(OSError):  # of the client: it is gone
            while True:
                self._one()
        if self._server:
            self._server.close()

    def _one(self) -> None:
        head = _read(self._client, _REQUEST.size)
        command, size = _REQUEST.unpack(head)
        if command == _HELLO:  # the server was greeted already
            _read(self._client, size)
            self._client.sendall(_SIZE.pack(len(_ANSWERS[_HELLO])) + _ANSWERS[_HELLO])
            return
        part = b""
        while head or size:
            part = _read(self._client, min(size, _CHUNK))
            self._hand_on(head + part)
            head = b""
            size -= len(part)
        if command == _GET_TENSOR:
            (size,) = _SIZE.unpack(part[-8:])
            self._answer(size, b"")
        elif command in _ANSWERS:
            self._answer(len(_ANSWERS[command]), _ANSWERS[command])

    def _hand_on(self, data: bytes) -> None:
        if self._server:
            try:
                self._server.sendall(data)
            except OSError as e:
                self._lose(e)

    def _answer(self, size: int, stand_in: bytes) -> None:
        """Gives the client the server's answer; from where the server was lost, `stand_in` and zeros."""
        head = _SIZE.pack(size)
        if self._server and (got := self._from_server(_SIZE.size)) not in (head, None):
            self._lose(ConnectionError(f"an answer of {_SIZE.unpack(got)[0]} bytes, not {size}"))
        done = 0
        while done < size:
            n = min(size - done, _CHUNK)
            part = self._from_server(n) or stand_in[done : done + n].ljust(n, b"\0")
            self._client.sendall(head + part)
            head = b""
            done += n

    def _from_server(self, n: int) -> bytes | None:
        if self._server:
            try:
                return _read(self._server, n)
            except OSError as e:
                self._lose(e)
        return None

    def _lose(self, why: OSError) -> None:
        self._relay.lose(why)
        if self._server:
            self._server.close()
            self._server = None


def _read(sock: socket.socket, n: int) -> bytes:
    """Exactly `n` bytes. Raises OSError if the other side ends before."""
    data = bytearray(n)
    rest = memoryview(data)
    while rest:
        got = sock.recv_into(rest)
        if not got:
            raise ConnectionError("the connection was closed")
        rest = rest[got:]
    return bytes(data)
