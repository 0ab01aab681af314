"""A real server on a real port: `alora serve` in a process of its own."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

CLI = [sys.executable, "-c", "from alora_gguf.cli import main; raise SystemExit(main())", "serve", "--port", "0", "--threads", "1"]


class Running:
    """One server: `url` is its address, `process` its process, `files` what it was given."""

    def __init__(self, process: subprocess.Popen, url: str, **files):
        self.process, self.url, self.files = process, url, files

    def client(self, **options):
        import openai

        return openai.OpenAI(**{"base_url": f"{self.url}/v1", "api_key": "none", "max_retries": 0, "timeout": 120, **options})

    def call(self, method: str, path: str, body=None, **headers):
        """(status, headers, parsed JSON or text) of one request."""
        import httpx

        kind = {"content": body} if isinstance(body, bytes) else {"json": body} if body is not None else {}
        response = httpx.request(method, self.url + path, headers=headers, timeout=120, **kind)
        return response.status_code, response.headers, response.json() if "json" in response.headers.get("content-type", "") else response.text


@contextmanager
def running(log: Path, *args: object, **files):
    env = {k: v for k, v in os.environ.items() if k != "ALORA_API_KEY"}
    with open(log, "w+") as err:
        process = subprocess.Popen([*CLI, *map(str, args)], stderr=err, stdout=subprocess.DEVNULL, env=env)
        try:
            while not (listening := re.search(r"listening on (\S+)", log.read_text())):
                assert process.poll() is None, log.read_text()
                time.sleep(0.02)
            yield Running(process, listening[1], **files)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(60)
                finally:
                    process.kill()
