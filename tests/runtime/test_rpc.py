"""Models over several machines, here processes: the command line, and a server that is killed in the middle."""

import argparse
import socket
import subprocess
import sys

import pytest
from rpc_server import rpc_server, start_rpc_server

from alora_gguf import Model
from alora_gguf.cli import devices, main
from alora_gguf.errors import DecodeError, ModelLoadError


def test_a_server_that_is_killed_in_the_middle_is_an_error_and_comes_back(base_q4, answerability):
    options = {"n_ctx": 512, "n_gpu_layers": -1, "n_threads": 1}
    with rpc_server() as first:
        process, second = start_rpc_server()
        try:
            with Model(base_q4, rpc_servers=[first, second], **options) as model:
                model.load_adapter(answerability)
                before = model.logits([([1, 2, 3], None)])[0]
                chat = model.conversation()
                answer = chat.ask("Tell me a long story about a fox.", stream=True, temperature=0, max_tokens=400)
                next(answer)
                process.kill()
                lost = f"RPC server '{second}': expected it to go on"
                with pytest.raises(DecodeError, match=lost):
                    list(answer)
                for call in (lambda: model.logits([([1, 2, 3], None)]), lambda: chat.ask("Go on."), lambda: chat.invoke("answerability")):
                    with pytest.raises(DecodeError, match=lost):
                        call()
            with pytest.raises(ModelLoadError, match=f"RPC server '{second}'"):
                Model(base_q4, rpc_servers=[first, second], **options)
            process.wait()
            process, second = start_rpc_server(int(second.rpartition(":")[2]))
            with Model(base_q4, rpc_servers=[first, second], **options) as model:
                assert (model.logits([([1, 2, 3], None)])[0] == before).all()
            with Model(base_q4, n_ctx=512, n_gpu_layers=-1) as model:  # no server of another model's is a device of this one
                process.kill()
                assert model.conversation().ask("Hello", max_tokens=2).tokens
        finally:
            process.kill()
            process.wait()


def test_a_chat_over_two_servers(answerability):
    with rpc_server() as first, rpc_server() as second:
        done = subprocess.run(
            [sys.executable, "-m", "alora_gguf.cli", "chat", "--rpc", f"{first},{second}", "--adapter", str(answerability), "--prompt", ("The ferry "
             "leaves at nine. When does it leave?"), "--no-answer", "--invoke", "answerability", "--ctx", "512"],
            capture_output=True, check=False, text=True)  # fmt: skip
    assert done.stderr == "" and done.stdout in ("answerability: answerable\n", "answerability: unanswerable\n")


@pytest.mark.parametrize("given, n_gpu_layers, servers", [
    ("", 0, []), ("--gpu-layers 3", 3, []), ("--rpc a:1", -1, ["a:1"]), ("--rpc a:1,b:2 --gpu-layers 7", 7, ["a:1", "b:2"]),
])  # fmt: skip
def test_options(given, n_gpu_layers, servers):
    parser = argparse.ArgumentParser()
    devices.add_options(parser)
    assert devices.options(parser.parse_args(given.split())) == {"n_gpu_layers": n_gpu_layers, "rpc_servers": servers}


@pytest.mark.parametrize("command", [["chat", "--prompt", "Hello"], ["serve", "--port", "0"]], ids=lambda c: c[0])
@pytest.mark.parametrize("given", ["127.0.0.1:1", "", "127.0.0.1"])
def test_a_server_that_is_not_there_is_one_line(command, given, capfd):
    assert main([*command, "--rpc", given]) == 2
    assert capfd.readouterr().err.startswith(f"alora: error: RPC server {given!r}: expected one that answers at host:port and is free, got: ")


@pytest.mark.parametrize("endpoint", ["nowhere", "127.0.0.1", "127.0.0.1:many", "127.0.0.1:99999", "192.0.2.1:50052", "taken"])
def test_where_nothing_can_be_served_is_one_line(endpoint, capfd):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        if endpoint == "taken":
            endpoint = "{}:{}".format(*taken.getsockname())
        assert main(["rpc", endpoint]) == 2
    out, err = capfd.readouterr()
    assert err.startswith(f"alora: error: alora rpc {endpoint}: expected host:port of this machine that is free, got: ") and err.count("\n") == 1
