"""Web pages of others, where the server was told whose."""

import pytest
from live import running

PAGE, OTHER = "https://page.example", "http://localhost:3000"


@pytest.fixture(scope="module")
def open_to(tiny_base, tmp_path_factory):
    args = "--model", tiny_base, "--ctx", 256, "--api-key", "secret", "--cors", PAGE, "--cors", OTHER
    with running(tmp_path_factory.mktemp("cors") / "log", *args) as server:
        yield server


def preflight(server, origin, method="POST"):
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "authorization, content-type"}
    return server.call("OPTIONS", "/v1/completions", Origin=origin, **asked)


def ask(server, origin, **headers):
    return server.call("POST", "/v1/completions", {"prompt": "x", "max_tokens": 1}, Origin=origin, **headers)


@pytest.mark.parametrize("origin", [PAGE, OTHER])
def test_a_page_that_was_named_may_ask(open_to, origin):
    status, headers, _ = preflight(open_to, origin)
    assert status == 200 and headers["access-control-allow-origin"] == origin
    assert "authorization" in headers["access-control-allow-headers"].lower() and "POST" in headers["access-control-allow-methods"]
    status, headers, _ = ask(open_to, origin, Authorization="Bearer secret")
    assert status == 200 and headers["access-control-allow-origin"] == origin and "access-control-allow-credentials" not in headers
    status, headers, _ = ask(open_to, origin)  # a key is needed all the same, and the page may read that it is
    assert status == 401 and headers["access-control-allow-origin"] == origin


@pytest.mark.parametrize("origin", ["https://evil.example", "http://page.example", f"{PAGE}.evil.example", f"{PAGE}:1", "null"])
def test_no_other_page_may(open_to, origin):
    assert preflight(open_to, origin)[0] == 400
    status, headers, _ = ask(open_to, origin, Authorization="Bearer secret")
    assert status == 403 and "access-control-allow-origin" not in headers


def test_without_it_no_page_may(server):
    status, headers, _ = preflight(server, PAGE)
    assert status == 403 and "access-control-allow-origin" not in headers
    assert ask(server, PAGE)[0] == 403


def test_any_page(tiny_base, tmp_path):
    """But not by a name that it gave this machine: that no key protects."""
    with running(tmp_path / "log", "--model", tiny_base, "--ctx", 256, "--cors", "*") as server:
        status, headers, _ = ask(server, "https://anybody.example")
        assert status == 200 and headers["access-control-allow-origin"] == "*"
        assert ask(server, "http://evil.example", Host="evil.example")[0] == 403


@pytest.mark.parametrize("origin", ["page.example", f"{PAGE}/", f"{PAGE}/path", "HTTPS://page.example", "https://", "http://[", "http://a:b", ""])
def test_what_no_page_has_as_its_origin_is_refused(origin, tiny_base, capfd):
    from alora_gguf.cli import main

    assert main(["serve", "--model", str(tiny_base), "--port", "0", "--threads", "1", "--cors", origin]) == 2
    assert capfd.readouterr().err.startswith(f"alora: error: --cors {origin}: expected an origin")


def test_no_more_tokens_are_promised_than_the_model_knows(tiny_base, tmp_path):
    from alora_gguf import Model

    with Model(tiny_base, n_ctx=64, n_threads=1) as model:
        trained = model.vocab.n_trained
    for n_ctx in (trained // 2, trained + 1024):
        with running(tmp_path / f"log{n_ctx}", "--model", tiny_base, "--ctx", n_ctx) as server:
            assert server.call("GET", "/v1/models")[2]["data"][0]["max_model_len"] == min(n_ctx, trained)
