"""A hub on the loopback interface: a folder `owner/repo/files`, served as huggingface_hub asks for it."""

import contextlib
import hashlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

LIBRARY, BASE, SMOL = "acme/library-r1.0", "acme/tiny-1b-GGUF", "acme/smol-GGUF"


def command(*argv) -> list[str]:
    """`alora` in a process of its own."""
    return [sys.executable, "-c", "from alora_gguf.cli import main; raise SystemExit(main())", *map(str, argv)]


def environment(hub: "Hub", home: Path) -> dict[str, str]:
    """Of a process whose hub that is, with caches of its own in `home`."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING", "TRANSFORMERS_OFFLINE"))}
    folders = {"HF_HOME": str(home / "hf"), "XDG_CACHE_HOME": str(home / "cache"), "HOME": str(home)}
    quiet = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {**inherited, **folders, **quiet, "HF_ENDPOINT": hub.url}


def run_python(env: dict[str, str], code: str, *argv, **more: str):
    """Runs code in a process of its own; returns what it gave to `out`, or the text of the AloraError that it raised."""
    indented = "\n".join(f"    {line}" for line in code.strip().splitlines())
    whole = f"import json, sys\nfrom alora_gguf.errors import AloraError\nout = lambda x: print(json.dumps(x, default=str))\ntry:\n{indented}\nexcept AloraError as e:\n    out(f'{{type(e).__name__}}: {{e}}')\n"
    done = subprocess.run([sys.executable, "-c", whole, *map(str, argv)], env={**env, **more}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def run_alora(env: dict[str, str], *argv, **more: str) -> tuple[int, str, str]:
    """Runs the command in a process of its own: exit code, standard output, standard error."""
    done = subprocess.run(command(*argv), env={**env, **more}, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


class Hub:
    """Serves `root` while it is open.

    asked      every request, as `GET /path`
    info       changes what is said of a repository, a dict as huggingface_hub reads it
    cut        bytes of a file after which the connection is cut, by its name
    etag       in place of a file's own, by its name
    changed    what is sent of a file instead of what it has, by its name
    broken     status of every answer, while it is set
    """

    def __init__(self, root: Path):
        self.root = root
        self.asked: list[str] = []
        self.info: Callable[[dict], dict] = lambda info: info
        self.cut: dict[str, int] = {}
        self.etag: dict[str, str] = {}
        self.changed: dict[str, bytes] = {}
        self.broken = 0

    def commit(self, repo: str) -> str:
        """Of what the repository has now."""
        digest = hashlib.sha1(repo.encode())
        for file in self.files(repo):
            digest.update(f"{file.name} {file.stat().st_size}\n".encode())
        return digest.hexdigest()

    def files(self, repo: str) -> list[Path]:
        return sorted(file for file in (self.root / repo).rglob("*") if file.is_file())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def fetched(self) -> list[str]:
        """The files whose contents were asked for."""
        return [
            request.partition("/resolve/")[2].partition("/")[2] for request in self.asked if request.startswith("GET ") and "/resolve/" in request
        ]

    def __enter__(self):
        hub = self

        class Handler(_Handler):
            of = hub

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    of: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        path = unquote(urlsplit(self.path).path)
        self.of.asked.append(f"{self.command} {path}")
        if self.of.broken:
            return self._answer(self.of.broken, b"")
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            return self._info(found[1], found[2] or "main")
        if found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._file(*found.groups())
        self._answer(404, b"")

    def _info(self, repo, revision):
        if not (self.of.root / repo).is_dir():
            return self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        if revision not in ("main", "v1", self.of.commit(repo)):
            return self._answer(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        siblings = []
        for file in self.of.files(repo):
            data = file.read_bytes()
            large = {"lfs": {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "pointerSize": 130}} if len(data) > 5000 else {}
            siblings.append({"rfilename": file.relative_to(self.of.root / repo).as_posix(), "size": len(data), "blobId": _sha1(data), **large})
        info = self.of.info({"id": repo, "modelId": repo, "sha": self.of.commit(repo), "private": False, "siblings": siblings})
        self._answer(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _file(self, repo, revision, name):
        path = self.of.root / repo / name
        if not path.is_file():
            return self._answer(404, b"", {"X-Error-Code": "EntryNotFound"})
        data = self.of.changed.get(name, path.read_bytes())
        etag = hashlib.sha256(path.read_bytes()).hexdigest() if len(data) > 5000 else _sha1(data)
        start = int(found[1]) if (found := re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))) else 0
        headers = {"ETag": f'"{self.of.etag.get(name, etag)}"', "X-Repo-Commit": self.of.commit(repo), "Accept-Ranges": "bytes"}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(data) - 1}/{len(data)}"
        self._answer(206 if start else 200, data[start:], headers, self.of.cut.get(name))

    def _answer(self, status, body, headers=(), cut=None):
        self.send_response(status)
        for key, value in {**dict(headers), "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            with contextlib.suppress(ConnectionError):  # whoever asked was killed
                self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True


def _sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
