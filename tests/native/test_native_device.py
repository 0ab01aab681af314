"""The script that checks a device, on one that every machine has: a server on the loopback interface."""

import subprocess
import sys
from pathlib import Path

from rpc_server import rpc_server

SCRIPT = Path(__file__).with_name("device_parity.py")


def test_every_way_to_build_a_graph_on_a_device():
    with rpc_server() as endpoint:
        done = subprocess.run([sys.executable, str(SCRIPT), "--rpc", endpoint], capture_output=True, check=False, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    *cases, result = done.stdout.splitlines()
    assert len(cases) == 34 and f"{len(cases)} of {len(cases)} cases passed" in result and result.startswith("device-parity RPC0")


def test_a_device_that_is_not_there_is_named():
    done = subprocess.run([sys.executable, str(SCRIPT), "Nothing7"], capture_output=True, check=False, text=True)
    assert done.returncode == 1 and done.stderr.startswith("device 'Nothing7': expected one of CPU")
