"""Tensors of a training that are freed leave no memory behind."""

import os
import subprocess
import sys

import pytest

# every second block is freed, so that each hole has a block on both sides, wherever the first of them is
SCRIPT = """
import torch
from alora_gguf.train.heap import return_large_blocks

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20

if {returned}:
    return_large_blocks()
torch.ones(31 << 18)  # 31 MiB: from here on, all that follows comes out of glibc's heap
before, blocks = resident(), [torch.ones(24 << 18) for _ in range(14)]
blocks = blocks[1::2]
print(resident() - before - 24 * len(blocks))
"""


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="glibc's heap")
def test_memory_of_large_tensors_goes_back():
    def grown(returned: bool) -> int:
        ran = subprocess.run([sys.executable, "-c", SCRIPT.format(returned=returned)], capture_output=True, text=True, check=True)
        return int(ran.stdout)

    assert grown(False) > 100  # MiB: what this is for
    assert grown(True) < 20
