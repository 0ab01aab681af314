"""What a server refuses, how long it waits, and how it ends."""

import json
import signal
import socket
import threading
import time

import httpx
import openai
import pytest
from live import running

LONG = {"messages": [{"role": "user", "content": "Go on and on."}], "temperature": 0, "max_tokens": 1500}


def metric(server, name):
    lines = server.call("GET", "/metrics", **getattr(server, "auth", {}))[2].splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name) and line[len(name)] in " {")


def wait_until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.fixture(scope="module")
def busy(tiny_base, tmp_path_factory):
    """One answer at once, one request that waits, and a key."""
    with running(
        tmp_path_factory.mktemp("busy") / "log",
        "--model",
        tiny_base,
        "--ctx",
        2048,
        "--parallel",
        1,
        "--queue",
        1,
        "--max-body",
        1,
        "--api-key",
        "secret",
        "--api-key",
        "other",
    ) as server:
        server.auth = {"Authorization": "Bearer secret"}
        yield server


def test_a_client_that_hangs_up_stops_its_stream(server):
    before = metric(server, "alora_generations_total")
    tokens = metric(server, "alora_completion_tokens_total")
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json={**LONG, "stream": True}, timeout=60) as response:
        lines = response.iter_lines()
        next(lines)
        assert metric(server, "alora_generations_running") == 1
    wait_until(lambda: metric(server, "alora_generations_running") == 0)
    assert metric(server, "alora_generations_total") == before + 1
    assert metric(server, "alora_completion_tokens_total") - tokens < 1500


def test_a_client_that_hangs_up_stops_an_answer_that_it_waits_for(server):
    tokens = metric(server, "alora_completion_tokens_total")
    body = json.dumps(LONG).encode()
    address = server.url.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1]))) as connection:
        connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        wait_until(lambda: metric(server, "alora_generations_running") == 1)
    wait_until(lambda: metric(server, "alora_generations_running") == 0)
    wait_until(lambda: metric(server, "alora_completion_tokens_total") > tokens)
    assert metric(server, "alora_completion_tokens_total") - tokens < 1500


def test_too_many_requests_are_told_to_come_again(busy):
    answers = []
    ask = lambda: answers.append(busy.call("POST", "/v1/chat/completions", {**LONG, "max_tokens": 2}, **busy.auth))
    with httpx.stream(
        "POST", f"{busy.url}/v1/chat/completions", json={**LONG, "stream": True, "logprobs": True, "top_logprobs": 100}, headers=busy.auth, timeout=60
    ) as running_one:
        lines = running_one.iter_lines()
        next(lines)
        waiting = threading.Thread(target=ask)
        waiting.start()
        wait_until(lambda: metric(busy, "alora_requests_waiting") == 1)
        status, headers, answer = busy.call("POST", "/v1/chat/completions", LONG, **busy.auth)
    waiting.join(60)
    assert status == 429 and int(headers["Retry-After"]) >= 1 and answer["error"]["code"] == "rate_limit_exceeded"
    assert answers[0][0] == 200  # who waited had its turn


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused(busy, chunked):
    body = b" " * (1 << 20) + b"{}"
    content = iter([body]) if chunked else body
    response = httpx.post(f"{busy.url}/v1/chat/completions", content=content, headers=busy.auth, timeout=60)
    assert response.status_code == 413 and "expected at most 1048576 bytes" in response.json()["error"]["message"]


def test_an_answer_that_takes_too_long_is_ended(tiny_base, tmp_path):
    with running(tmp_path / "log", "--model", tiny_base, "--ctx", 2048, "--timeout", 0.05) as server:
        status, _, answer = server.call("POST", "/v1/chat/completions", LONG)
        assert status == 504 and "expected it within 0.05 s" in answer["error"]["message"]
        with server.client() as client, pytest.raises(openai.APIError, match="expected it within"):
            list(client.chat.completions.create(model="tiny", stream=True, **LONG))
        wait_until(lambda: metric(server, "alora_generations_running") == 0)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "secret"}, 401),
        ({"Authorization": "Bearer \xe4"}, 401),
        ({"Authorization": "Bearer secret"}, 200),
        ({"Authorization": "bearer other"}, 200),
    ],
)
def test_a_key_is_needed(busy, headers, status):
    headers = {k: v.encode("latin-1") for k, v in headers.items()}
    for path in ("/v1/models", "/metrics"):
        assert busy.call("GET", path, **headers)[0] == status
    for path in ("/tokenize", "/apply-template", "/detokenize"):
        body = {"content": "x"} if path == "/tokenize" else {"tokens": [1]} if path == "/detokenize" else {"messages": LONG["messages"]}
        assert busy.call("POST", path, body, **headers)[0] == status
    assert busy.call("GET", "/health")[0] == 200


def test_keys_share_no_prefix(busy):
    """What one has asked is neither found in the cache nor known as text by another."""

    def ask(key, messages):
        answer = busy.call("POST", "/v1/chat/completions", {"messages": messages, "temperature": 0, "max_tokens": 8}, Authorization=f"Bearer {key}")[
            2
        ]
        return answer["choices"][0]["message"]["content"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]

    question = [{"role": "user", "content": "Nobody else may know of it: the ferry leaves at nine."}]
    said, _ = ask("secret", question)
    more = [*question, {"role": "assistant", "content": said}, {"role": "user", "content": "Why?"}]
    (_, n), (then, m) = ask("secret", question), ask("secret", more)
    assert 20 < n < m
    assert ask("other", question) == (said, 0)
    assert ask("other", more)[0] == then


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "evil.example", "Origin": "http://evil.example"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "http://a\u2100b".encode()}, 403),
        ({"Origin": ""}, 403),
        ({"Host": "["}, 400),
        ({"Host": "[::1"}, 400),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:1"}, 200),
        ({"Host": "localhost:1", "Origin": "http://localhost:1"}, 200),
    ],
)
def test_pages_of_other_servers_may_not_ask(server, headers, status):
    assert server.call("POST", "/v1/completions", {"prompt": "x", "max_tokens": 1}, **headers)[0] == status


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/nothing", None, 404),
        ("POST", "/v1/nothing", {}, 404),
        ("POST", "/nothing", {}, 404),
        ("DELETE", "/v2/chat", None, 404),
        ("OPTIONS", "/nothing", None, 404),
        ("GET", "/nothing", None, 404),
        ("GET", "/v1/chat/completions", None, 405),
        ("GET", "/tokenize", None, 405),
        ("DELETE", "/v1/models/tiny", None, 405),
        ("POST", "/", {}, 405),
        ("POST", "/index.html", {}, 405),
        ("GET", "/v1/models/nobody", None, 404),
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/chat/completions", b"\xff\xfe", 400),
        ("POST", "/v1/chat/completions", b"[]", 400),
        ("POST", "/v1/completions", b'{"prompt": "\\ud800"}', 400),
        ("POST", "/v1/completions", b'{"prompt": []}', 400),
        ("POST", "/v1/completions", b'{"prompt": [99999999]}', 400),
        ("POST", "/v1/chat/completions", b"[" * 100000, 400),
    ],
)
def test_nonsense_is_refused_in_openai_s_shape(server, method, path, body, status):
    got, _, answer = server.call(method, path, body)
    assert got == status and answer["error"].keys() == {"message", "type", "param", "code"} and answer["error"]["message"]


def test_sigterm_lets_answers_end(tiny_base, tmp_path):
    with running(tmp_path / "log", "--model", tiny_base, "--ctx", 2048) as server:
        body = {**LONG, "max_tokens": 600, "stream": True}
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=body, timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]" and json.loads(rest[-2][6:])["choices"][0]["finish_reason"] == "length"
        assert server.process.wait(60) == 0


def test_it_ends_when_it_has_drained_long_enough(tiny_base, tmp_path):
    with running(tmp_path / "log", "--model", tiny_base, "--ctx", 2048, "--drain", 0) as server:
        with httpx.stream("POST", f"{server.url}/v1/chat/completions", json={**LONG, "stream": True}, timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            server.process.send_signal(signal.SIGINT)
            assert "is going down" in [line for line in lines if line][-2]
        assert server.process.wait(60) == 130
        assert "Traceback" not in (tmp_path / "log").read_text()


def test_a_port_that_is_taken_is_one_line(server, tiny_base, capfd):
    from alora_gguf.cli import main

    port = server.url.rpartition(":")[2]
    assert main(["serve", "--model", str(tiny_base), "--port", port, "--threads", "1"]) == 2
    assert capfd.readouterr().err.strip().splitlines()[-1].startswith(f"alora: error: 127.0.0.1:{port}: expected an address")


@pytest.mark.parametrize(
    "args", [["--parallel", "0"], ["--port", "-1"], ["--adapters-from", "/nowhere"], ["--api-key", ""], ["--adapter", "/nowhere.gguf"]]
)
def test_what_cannot_be_served_is_one_line(tiny_base, args, capfd):
    from alora_gguf.cli import main

    assert main(["serve", "--model", str(tiny_base), "--port", "0", "--threads", "1", *args]) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("alora: error: ") and args[0].strip("-").split("-")[0] in lines[0] + "adapter"


def test_the_oldest_turns_of_a_long_chat_are_left_out_where_the_server_is_told_so(tiny_base, tmp_path):
    """A client sends all of it each time: what was left out stays so, and the rest is found in the cache."""
    with running(tmp_path / "log", "--model", tiny_base, "--ctx", 512, "--on-full", "drop-oldest") as server:
        messages = [{"role": "system", "content": "Be brief."}]
        n_prompt = n_cached = 0
        warned = set()
        while n_prompt - n_cached < 3 * 512:
            messages.append({"role": "user", "content": f"Tell me all that you know of the ship with the number {len(messages)}."})
            status, _, answer = server.call("POST", "/v1/chat/completions", {"messages": messages, "temperature": 0, "max_tokens": 24})
            assert status == 200, answer
            usage = answer["usage"]
            assert usage["total_tokens"] <= 512
            n_prompt, n_cached = n_prompt + usage["prompt_tokens"], n_cached + usage["prompt_tokens_details"]["cached_tokens"]
            warned |= {*answer.get("warnings", ())}
            messages.append({"role": "assistant", "content": answer["choices"][0]["message"]["content"]})
        assert len(warned) >= 3 and all("oldest" in line for line in warned) and n_cached > 0.6 * n_prompt
        status, _, answer = server.call("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "so " * 600}]})
        assert status == 400 and "in the last turn" in answer["error"]["message"]
        status, _, answer = server.call("POST", "/v1/chat/completions", {"messages": messages, "on_full": "error"})
        assert status == 400 and answer["error"]["code"] == "context_length_exceeded"


TALK = [{"role": role, "content": f"{i} is a ship. " * 50} for i in range(8) for role in ("user", "assistant")] + [
    {"role": "user", "content": "Which?"}
]
QUESTION = {"type": "predicate", "instructions": "Is it?"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": TALK, "max_tokens": 2}),
        ("/v1/chat/completions", {"model": "first", "messages": TALK}),
        ("/v1/responses", {"model": "tiny", "input": TALK, "max_output_tokens": 2}),
        ("/v1/messages", {"model": "tiny", "messages": TALK, "max_tokens": 2}),
        ("/v1/decisions", {"model": "tiny", "input": TALK, "questions": [QUESTION]}),
    ],
    ids=["chat", "intrinsic", "responses", "messages", "decisions"],
)
def test_a_request_says_itself_what_a_full_context_is(server, path, body):
    status, _, refused = server.call("POST", path, body)  # as the server was started
    assert status == 400 and "expected at most 2048 tokens" in refused["error"]["message"]
    status, _, answer = server.call("POST", path, {**body, "on_full": "drop-oldest"})
    assert status == 200, answer
    assert "oldest" in answer["warnings"][0]
    used = answer["usage"]
    assert used.get("prompt_tokens", used.get("input_tokens", 0) + used.get("cache_read_input_tokens", 0)) <= 2048
    status, _, refused = server.call("POST", path, {**body, "on_full": "drop"})
    assert status == 400 and "on_full" in refused["error"]["message"]
    if path == "/v1/responses":  # as its clients call it
        status, _, named = server.call("POST", path, {**body, "truncation": "auto"})
        assert status == 200 and named["truncation"] == "auto" and named["warnings"] == answer["warnings"]


def test_tokens_cannot_be_left_out(server):
    told = {"messages": TALK, "prompt_token_ids": [1, 2, 3], "on_full": "drop-oldest", "max_tokens": 2}
    status, _, refused = server.call("POST", "/v1/chat/completions", told)
    assert status == 400 and refused["error"]["param"] == "on_full"
