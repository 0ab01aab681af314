"""Tensors of a training that are freed leave no memory behind."""

import os
import subprocess
import sys

import pytest

# blocks that grow, so that none fits where another was, each with a small one behind it that stays
SCRIPT = """
import torch
from alora_gguf.train.heap import return_large_blocks

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096 >> 20

if {returned}:
    return_large_blocks()
torch.ones(31 << 18)  # 31 MiB: from here on, all that follows comes out of glibc's heap
before, kept = resident(), []
for megabytes in range(5, 25):
    block = torch.ones(megabytes << 18)
    kept.append(torch.ones(1000))
    del block
print(resident() - before)
"""


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="glibc's heap")
def test_memory_of_large_tensors_goes_back():
    def grown(returned: bool) -> int:
        ran = subprocess.run([sys.executable, "-c", SCRIPT.format(returned=returned)], capture_output=True, text=True, check=True)
        return int(ran.stdout)

    assert grown(False) > 100  # MiB: what this is for
    assert grown(True) < 20
