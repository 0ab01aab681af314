"""Adapters that come and go while the server runs, from allowed folders only."""

import shutil

import pytest


def load(server, name, path):
    return server.call("POST", "/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)})


def unload(server, name):
    return server.call("POST", "/v1/unload_lora_adapter", {"lora_name": name})


def names(server):
    return {model["id"] for model in server.call("GET", "/v1/models")[2]["data"]}


def test_an_adapter_is_loaded_used_and_unloaded(server):
    ask = lambda: server.call("POST", "/v1/completions", {"model": "late", "prompt": [5, 904], "max_tokens": 2})[0]
    assert load(server, "late", server.files["more"] / "late.gguf")[0] == 200
    assert "late" in names(server) and ask() == 200
    status, _, again = load(server, "late", server.files["more"] / "late.gguf")
    assert status == 400 and "has already been loaded" in again["error"]["message"]
    assert unload(server, "late")[0] == 200
    assert "late" not in names(server) and ask() == 404
    assert unload(server, "late")[0] == 404


@pytest.mark.parametrize(
    "path", ["{more}/../first.gguf", "{more}/linked.gguf", "{more}/linked/first.gguf", "/etc/passwd", "/nowhere/at/all", "first.gguf"]
)
def test_nothing_is_loaded_from_elsewhere(server, path):
    more = server.files["more"]
    for link, target in (("linked.gguf", server.files["first"]), ("linked", server.files["first"].parent)):
        if not (more / link).exists():
            (more / link).symlink_to(target)
    before = names(server)
    status, _, answer = load(server, "sneaked", path.format(more=more))
    assert status == 403 and "expected a path in a folder that the server may load" in answer["error"]["message"]
    assert names(server) == before


def test_a_folder_with_a_link_to_elsewhere_is_refused(server, repo):
    folder = server.files["more"] / "peft"
    folder.mkdir()
    shutil.copy(repo / "tests" / "adapters" / "answerability" / "adapter_config.json", folder)
    (folder / "adapter_model.safetensors").symlink_to(repo / "tests" / "adapters" / "answerability" / "adapter_model.safetensors")
    assert load(server, "sneaked", folder)[0] == 403


def test_the_io_yaml_beside_a_file_is_no_way_out(server, tmp_path):
    (tmp_path / "secret").write_text("a secret\n: [")
    shutil.copy(server.files["more"] / "late.gguf", server.files["more"] / "beside.gguf")
    (server.files["more"] / "beside.io.yaml").symlink_to(tmp_path / "secret")
    status, _, answer = load(server, "sneaked", server.files["more"] / "beside.gguf")
    assert status == 403 and "a secret" not in answer["error"]["message"]


@pytest.mark.parametrize("path", ["{more}/a\0b", "{more}/" + "x" * 300, "{more}/circle/a.gguf", ""])
def test_what_is_no_path_is_refused(server, path):
    more = server.files["more"]
    if not (more / "circle").is_symlink():
        (more / "circle").symlink_to(more / "circle")
    status, _, answer = load(server, "sneaked", path.format(more=more))
    assert status in (400, 403) and "lora_path" in answer["error"]["message"]


def test_the_page_s_folder_has_no_way_out(server):
    """As they are, without a client's own tidying up."""
    import socket

    host, port = server.url.removeprefix("http://").split(":")
    for path in (
        "/../app.py",
        "/../../../../../../../etc/passwd",
        "/%2e%2e/app.py",
        "/..%2fapp.py",
        "//etc/passwd",
        "/%2fetc/passwd",
        "/%00",
        "/" + "x" * 5000,
    ):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
        assert answer.split(b" ", 2)[1] in (b"404", b"400"), (path, answer[:200])


@pytest.mark.parametrize(("name", "content"), [("text.gguf", b"no adapter"), ("none.gguf", None)])
def test_a_file_that_is_no_adapter_is_refused(server, name, content):
    path = server.files["more"] / name
    if content is not None:
        path.write_bytes(content)
    status, _, answer = load(server, "bad", path)
    assert status == 400 and name in answer["error"]["message"]
    assert "bad" not in names(server)


def test_the_base_s_name_is_no_adapter_s(server):
    assert load(server, "tiny", server.files["more"] / "late.gguf")[0] == 400


def test_peft_s_own_folder_is_converted(demo):
    """As Mellea up to 0.3.1 gives it."""
    folder = demo.files["more"] / "adapter"
    shutil.copytree(demo.files["judge"], folder)
    assert load(demo, "mine", folder)[0] == 200
    body = {"messages": [{"role": "user", "content": "My dog is brown. What colour is my dog?"}]}
    mine, theirs = (
        demo.call("POST", "/v1/chat/completions", {**body, "model": model})[2]["choices"][0]["message"]["content"] for model in ("mine", "judge")
    )
    assert mine == theirs
    assert unload(demo, "mine")[0] == 200
