"""What fails while a batch is computed is a status and a line in the log: no entry of the C surface lets an exception out."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# Each in a child that gets no more memory, and whose heap has hardly any free, where an exception that is not caught ends the process.
ENDS = """
import ctypes, os, re, resource, sys
from native_runtime import Runtime, llama_cpp, prompt
from alora_gguf.runtime.library import take_error

tokens = (llama_cpp.llama_token * 20)(*prompt(1, 20))
batch = llama_cpp.llama_batch_get_one(tokens, len(tokens))
libc = ctypes.CDLL(None)
libc.malloc.argtypes, libc.malloc.restype, libc.free.argtypes = [ctypes.c_size_t], ctypes.c_void_p, [ctypes.c_void_p]
blocks = [None] * 100_000

def fill():
    n, size = 0, 1 << 24
    while size >= 1 << 10:
        blocks[n] = libc.malloc(size)
        if blocks[n] is None:
            size >>= 1
        else:
            n += 1
    return n

for name, reserves in [(name, reserves) for name in ("llama_encode", "llama_decode") for reserves in (False, True)]:
    call = getattr(llama_cpp, name)
    child = os.fork()
    if not child:
        with Runtime(sys.argv[1], n_ctx=256) as runtime:
            if reserves:  # before it computes
                llama_cpp.llama_set_adapter_cvec(runtime.ctx, None, 0, 0, 0, 0)
            has = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1])
            before = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (has << 10, before[1]))
            take_error()
            n_blocks = fill()
            status = call(runtime.ctx, batch)
            for block in blocks[:n_blocks]:
                libc.free(block)
            resource.setrlimit(resource.RLIMIT_AS, before)
            print(name, status, take_error(), flush=True)
            again = call(runtime.ctx, batch)
        os._exit(3 if again == 0 else 1)
    assert os.waitpid(child, 0)[1] == 3 << 8, name
"""


@pytest.mark.skipif(sys.platform != "linux", reason="sizes by /proc")
def test_memory_that_ends_is_a_status_of_encode_and_decode(zoo):
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", ENDS, zoo.base("encoder")], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines()]
    assert [name for name, *_ in lines] == ["llama_encode"] * 2 + ["llama_decode"] * 2
    # whoever finds no memory says so first, C++ or ggml, as the heap has it; the status is that of memory all the same
    assert all(int(status) == -2 and re.search("expected memory to compute in, got: |insufficient memory", line) for _, status, line in lines), lines


def test_nothing_of_ours_aborts(repo):
    """What cannot be is thrown, and caught where a batch is computed: another model's graph may have it after all."""
    sources = [path for path in (repo / "native").iterdir() if path.suffix in (".cpp", ".h")]
    assert len(sources) > 10
    assert not [path.name for path in sources if re.search(r"\b(GGML_ASSERT|GGML_ABORT|assert|abort|terminate|exit)\(", path.read_text())]
