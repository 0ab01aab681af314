"""Layers on several servers; a server that is lost at any byte: an error or the right logits, and the process goes on; split weights."""

import json
import os
import subprocess
import sys
from contextlib import ExitStack

import pytest
from native_models import write_adapter
from rpc_server import rpc_server

# Argument: JSON of base, adapter, the servers, and how many bytes the last one lives, of requests and of answers.
LIVES = """
import json, socket, sys, threading
import numpy as np
from alora_gguf import Model
from alora_gguf.errors import AloraError

given = json.loads(sys.argv[1])
tokens = [3 + (i * i) % 250 for i in range(40)]

class Mortal:
    # hands on to the server until so many bytes went one of the ways; counts them
    def __init__(self, server, requests, answers):
        self.left, self.seen, self.sockets, self.dead = [requests, answers], [0, 0], [], False
        self.to = server.rpartition(":")
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.listen, daemon=True).start()
    def listen(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection((self.to[0], int(self.to[2])))
            self.sockets += [client, server]
            for way, (a, b) in enumerate([(client, server), (server, client)]):
                threading.Thread(target=self.pump, args=(way, a, b), daemon=True).start()
    def pump(self, way, a, b):
        try:
            while data := a.recv(1 << 16):
                data = data[: self.left[way]]
                self.left[way] -= len(data)
                self.seen[way] += len(data)
                b.sendall(data)
                if not self.left[way]:
                    self.die()
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
    def die(self):
        self.dead = True
        self.listener.close()
        for s in self.sockets:
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

def run(servers):
    with Model(given["base"], n_ctx=256, n_ubatch=16, n_gpu_layers=-1, rpc_servers=servers, type_k="f32", type_v="f32", flash_attn=False) as model:
        model.load_adapter(given["adapter"], "a", force=True)
        got = model.logits([(tokens, "a"), (tokens, None)])
        return np.concatenate(got), model.generate(tokens, max_tokens=4, temperature=0).tokens

*whole, last = given["servers"]
unharmed = Mortal(last, 1 << 60, 1 << 60)
expected = run([*whole, unharmed.endpoint])
n_errors = 0
for way in (0, 1):
    total = unharmed.seen[way]
    for i in range(given["n"]):
        mortal = Mortal(last, *(1 + total * i // given["n"] if w == way else 1 << 60 for w in (0, 1)))
        try:
            got = run([*whole, mortal.endpoint])
        except AloraError as e:
            assert mortal.dead and mortal.endpoint in str(e) and chr(10) not in str(e), e
            n_errors += 1
        else:
            assert np.array_equal(got[0], expected[0]) and got[1] == expected[1]
        mortal.die()
again = run([*whole, last])
assert np.array_equal(again[0], expected[0])
print(json.dumps({"errors": n_errors, "bytes": unharmed.seen}))
"""


@pytest.mark.parametrize("n_servers", [1, 2])
def test_a_server_that_is_lost_at_any_byte_gives_an_error_and_no_wrong_logit(zoo, n_servers):
    adapter = write_adapter(zoo.path(), zoo.model("dense").architecture, zoo.adapter("dense"))
    n = int(os.environ.get("ALORA_RPC_LOSSES", "6"))
    with ExitStack() as stack:
        servers = [stack.enter_context(rpc_server()) for _ in range(n_servers)]
        given = {"base": str(zoo.base("dense")), "adapter": str(adapter), "servers": servers, "n": n}
        done = subprocess.run([sys.executable, "-c", LIVES, json.dumps(given)], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout)["errors"] > n  # of 2 n losses most come before the last result


def test_weights_that_are_split_within_refuse_an_adapter_at_load(zoo):
    """ggml ends the process where it computes with one."""
    from alora_gguf import Model
    from alora_gguf.errors import AdapterMismatchError

    adapter = write_adapter(zoo.path(), zoo.model("dense").architecture, zoo.adapter("dense"))
    with (
        rpc_server() as first,
        rpc_server() as second,
        Model(zoo.base("dense"), n_ctx=256, n_gpu_layers=-1, rpc_servers=[first, second], split_mode=3, flash_attn=True) as model,
    ):
        before = model.logits([([3, 4, 5], None)])[0]
        with pytest.raises(
            AdapterMismatchError, match="expected a model of whole weights for an adapter, got .*LLAMA_SPLIT_MODE_TENSOR; load it with"
        ):
            model.load_adapter(adapter, "a", force=True)
        assert (model.logits([([3, 4, 5], None)])[0] == before).all()
