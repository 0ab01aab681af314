"""A server that is killed, and clients that read nothing."""

import json
import signal
import socket
import time

import anyio
import httpx
import pytest
from live import running

from alora_gguf.serve.incoming import Incoming

ENDLESS = {
    "messages": [{"role": "user", "content": "Go on and on."}],
    "temperature": 0,
    "max_tokens": 500,
    "stream": True,
    "logprobs": True,
    "top_logprobs": 100,
}  # some 6 MB
SHORT = {"messages": [{"role": "user", "content": "Hello."}], "temperature": 0, "max_tokens": 8}


def text(server):
    return server.call("POST", "/v1/chat/completions", SHORT)[2]["choices"][0]["message"]["content"]


def test_clients_that_read_nothing_and_a_kill(tiny_base, tmp_path):
    """Others are served meanwhile; killed, it can be started again at once, in the same place."""
    args = "--model", tiny_base, "--ctx", 4096, "--parallel", 2
    with running(tmp_path / "log", *args) as server:
        said = text(server)
        port = int(server.url.rpartition(":")[2])
        body = json.dumps(ENDLESS).encode()
        deaf = []
        for _ in range(2):
            client = socket.create_connection(("127.0.0.1", port))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            deaf.append(client)
        end = time.monotonic() + 60
        while "alora_generations_running 2.0" not in server.call("GET", "/metrics")[2]:
            assert time.monotonic() < end
        assert text(server) == said  # the answers that nobody reads have ended, or it had waited for them
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=ENDLESS, timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGKILL)
            with pytest.raises(httpx.TransportError):
                list(lines)
        server.process.wait(60)
        for client in deaf:
            client.close()
    with running(tmp_path / "log2", *args, "--port", port) as server:
        assert text(server) == said
    assert "Traceback" not in (tmp_path / "log").read_text() + (tmp_path / "log2").read_text()


@pytest.mark.parametrize("reads", [True, False])
def test_an_answer_that_is_not_taken_is_given_up(reads):
    got, state = [], []

    async def app(scope, receive, send):
        try:
            await receive()
            for i in range(3):
                await send({"type": "http.response.body", "body": b"%d" % i, "more_body": i < 2})
            state.append("whole")
        finally:
            state.append("ended")

    async def receive(first=iter([{"type": "http.request", "body": b"{}"}])):
        for message in first:
            return message
        return await anyio.sleep_forever()

    async def send(message):
        got.append(message["body"])
        if not reads and len(got) == 2:
            await anyio.sleep_forever()

    async def ask():
        with anyio.fail_after(60):
            await Incoming(app, n_bytes=100, seconds=0.05)({"type": "http", "headers": []}, receive, send)

    anyio.run(ask)
    assert (got, state) == (([b"0", b"1", b"2"], ["whole", "ended"]) if reads else ([b"0", b"1"], ["ended"]))
