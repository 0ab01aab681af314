"""Memory that ends while a batch is computed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from native_models import write_adapter

ENDING_MEMORY = """
import resource, sys
from gguf import GGMLQuantizationType as Types
from native_runtime import Runtime, llama_cpp, prompt

with Runtime(sys.argv[1], n_ctx=1024, flash=Types.F16) as runtime:
    llama_cpp.llama_set_n_threads(runtime.ctx, 2, 2)
    runtime.activate(1, runtime.load(sys.argv[2]))
    runtime.logits((0, prompt(1, 500), 0), outputs="last")  # the threads are there
    pages = int(open("/proc/self/statm").read().split()[0])
    statuses = []
    for extra in range(0, 64 << 20, 256 << 10):
        resource.setrlimit(resource.RLIMIT_AS, (pages*resource.getpagesize() + extra, -1))
        status = runtime.decode((1, prompt(2, 500), 0), outputs="last")
        resource.setrlimit(resource.RLIMIT_AS, (-1, -1))
        statuses.append(status)
        if status == 0:
            break
        runtime.clear()
        runtime.activate(1, runtime.load(sys.argv[2]))
    print(statuses)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory")
def test_memory_that_ends_is_an_error(zoo):
    """Whoever asks for it: what the threads need is there before they begin."""
    adapter = write_adapter(zoo.path(), "llama", zoo.adapter("dense"))
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", ENDING_MEMORY, zoo.base("dense"), adapter],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path, "MALLOC_ARENA_MAX": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    statuses = json.loads(done.stdout)
    assert statuses[-1] == 0 and any(status < 0 for status in statuses)
