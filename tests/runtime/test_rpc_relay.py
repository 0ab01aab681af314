"""The relay to an RPC server: messages go through unchanged, and whoever asks a lost server is answered all the same."""

import contextlib
import re
import socket
import struct
import threading
import time

import pytest

from alora_gguf.errors import DecodeError, ModelLoadError
from alora_gguf.runtime.rpc_relay import _ANSWERS, VERSION, Relay, check_servers

HELLO, GET_TENSOR, SET_TENSOR, GET_ALIGNMENT, DEVICE_MEMORY = 14, 8, 6, 1, 11
GREETING = bytes([7, 0, 0, 0]) + bytes(24)


def request(command: int, data: bytes) -> bytes:
    return struct.pack("<BQ", command, len(data)) + data


def answer(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def read(sock: socket.socket, n: int) -> bytes:
    data = b""
    while len(data) < n and (got := sock.recv(n - len(data))):
        data += got
    return data


@contextlib.contextmanager
def server(*sessions):
    """Yields the "host:port" of a server that gives each connection to the next of `sessions`, and the last one to all that follow."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        left = list(sessions)
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client, contextlib.suppress(OSError):
                (left.pop(0) if len(left) > 1 else left[0])(client)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)  # what waits in accept() is told
        listener.close()


def greet(client, greeting=GREETING):
    read(client, 33)
    client.sendall(answer(greeting))


def client_of(relay: Relay) -> socket.socket:
    host, port = relay.local.split(":")
    client = socket.create_connection((host, int(port)), timeout=10)
    client.sendall(request(HELLO, bytes(24)))
    assert read(client, 36) == answer(GREETING)
    return client


def test_messages_of_any_size_go_through_unchanged():
    seen = []

    def session(client):
        greet(client)
        for message, said in zip(sent, (b"", b"", b"", tensor, bytes(range(8)))):
            seen.append(read(client, len(message)))
            client.sendall(said and answer(said))
        read(client, 1)

    tensor = bytes(range(256)) * 12345
    sent = [request(SET_TENSOR, data) for data in (b"", b"x", bytes(range(256)) * 9999)]
    sent += [request(GET_TENSOR, struct.pack("<296sQQ", bytes(296), 0, len(tensor))), request(GET_ALIGNMENT, b"1234")]
    with server(greet, session) as endpoint:
        relay = Relay(endpoint)
        with client_of(relay) as client:
            client.sendall(b"".join(sent))
            assert read(client, 8 + len(tensor)) == answer(tensor)
            assert read(client, 16) == answer(bytes(range(8)))
    assert seen == sent
    assert relay.lost is None


@pytest.mark.parametrize("n_sent", [0, 3, 8, 9, 1000, 1008])
def test_a_server_that_is_lost_in_its_answer_is_answered_for(n_sent):
    """With zeros; and every later request has an answer, of the size that belongs to it."""

    def session(client):
        greet(client)
        read(client, 9 + 312)
        client.sendall(answer(b"a" * 1000)[:n_sent])

    with server(greet, session) as endpoint:
        relay = Relay(endpoint)
        with client_of(relay) as client:
            client.sendall(request(GET_TENSOR, struct.pack("<296sQQ", bytes(296), 0, 1000)))
            assert read(client, 1008) == answer(b"a" * 1000 if n_sent == 1008 else bytes(1000))
            client.sendall(request(SET_TENSOR, bytes(5000)) + request(DEVICE_MEMORY, bytes(4)) + request(GET_ALIGNMENT, bytes(4)))
            assert read(client, 40) == answer(bytes(16)) + answer(struct.pack("<Q", 64))
        with pytest.raises(DecodeError, match=f"RPC server '{endpoint}': expected it to go on, got: .*; start it again and load the model anew"):
            check_servers([relay], DecodeError)
        with client_of(relay) as client:  # it stays lost
            client.sendall(request(DEVICE_MEMORY, bytes(4)))
            assert read(client, 24) == answer(bytes(16))


def test_an_answer_of_another_size_is_not_believed():
    def session(client):
        greet(client)
        read(client, 13)
        client.sendall(answer(bytes(1 << 20)))

    with server(greet, session) as endpoint:
        relay = Relay(endpoint)
        with client_of(relay) as client:
            client.sendall(request(DEVICE_MEMORY, bytes(4)))
            assert read(client, 24) == answer(bytes(16))
        assert "an answer of 1048576 bytes, not 16" in relay.lost


@pytest.mark.parametrize("session, said", [
    (lambda client: (read(client, 33), client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")), "something else than ggml's RPC"),
    (lambda client: greet(client, bytes([8, 1]) + bytes(26)), "version 8.1 of ggml's RPC, not 7.0"),
    (lambda client: read(client, 33), "the connection was closed"),
    (lambda client: time.sleep(1), "timed out"),  # it serves somebody else
])  # fmt: skip
def test_what_is_no_free_server_of_this_version_is_refused(session, said, monkeypatch):
    monkeypatch.setattr("alora_gguf.runtime.rpc_relay._TIMEOUT", 0.2)
    with server(session) as endpoint, pytest.raises(ModelLoadError, match=f"RPC server '{endpoint}'.*{said}; start `alora rpc` there"):
        Relay(endpoint)


@pytest.mark.parametrize("endpoint", ["nowhere", "", ":", "127.0.0.1:many", "127.0.0.1:99999", "127.0.0.1:-1", "127.0.0.1:1"])
def test_what_is_no_address_is_refused(endpoint):
    """In words, not in Python's of int() and bind()."""
    reason = "Connection refused" if endpoint.endswith(":1") else "no name or address with a port up to 65535"
    with pytest.raises(ModelLoadError, match=f"expected one that answers at host:port and is free, got: .*{reason}"):
        Relay(endpoint)


def test_it_knows_the_protocol_of_the_pinned_source(unpatched_lib):
    """Which requests are answered, and how long the answers are, as ggml-rpc.cpp has them."""
    ggml = unpatched_lib.parent / "llama.cpp" / "ggml"
    source, header = (ggml / "src/ggml-rpc/ggml-rpc.cpp").read_text(), (ggml / "include/ggml-rpc.h").read_text()
    assert tuple(int(re.search(rf"RPC_PROTO_{part}_VERSION +(\d+)", header)[1]) for part in ("MAJOR", "MINOR")) == VERSION
    names = re.findall(r"RPC_CMD_(\w+)", re.search(r"enum rpc_cmd \{(.*?)\}", source, re.S)[1])
    serve = source[source.index("static void rpc_serve_client") : source.index("void ggml_backend_rpc_start_server")]
    cases = re.findall(r"case RPC_CMD_(\w+): \{(.*?)\n            \}", serve, re.S)
    assert {name for name, _ in cases} == set(names) - {"NONE", "COUNT"}
    answered = {name for name, code in cases if "send_msg" in code} | {"HELLO"}
    assert {names.index(name) for name in answered} == {*_ANSWERS, GET_TENSOR}
    sizes = {"uint8_t": 1, "uint32_t": 4, "uint64_t": 8}
    for name in answered - {"GET_TENSOR"}:
        struct_of = re.search(rf"struct rpc_msg_{name.lower()}_rsp \{{(.*?)\}};", source, re.S)[1]
        fields = re.findall(r"(\w+) +\w+(\[RPC_CONN_CAPS_SIZE\])?;", struct_of)
        assert len(_ANSWERS[names.index(name)]) == sum(sizes[kind] * (24 if array else 1) for kind, array in fields)
