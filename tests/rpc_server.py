"""An RPC server of ours on the loopback interface, as a process of its own."""

import contextlib
import socket
import subprocess
import sys
import time


def start_rpc_server(port: int = 0) -> tuple[subprocess.Popen, str]:
    """The process, and its "host:port"; it listens."""
    if not port:
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "alora_gguf.cli", "rpc", f"127.0.0.1:{port}", "--threads", "1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            break
        time.sleep(0.1)
    return process, f"127.0.0.1:{port}"


@contextlib.contextmanager
def rpc_server():
    """Yields its "host:port"."""
    process, endpoint = start_rpc_server()
    try:
        yield endpoint
    finally:
        process.kill()
        process.wait()
