"""The process that reads documents of strangers: started without a shell, with few variables, ended when its time is over."""

import contextlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from ..errors import DocumentError
from .limits import SECONDS, TEXT_BYTES

_FOLDER = str(Path(__file__).resolve().parents[2])  # the package's
_START = "import json, sys; given = json.loads(sys.argv[1]); sys.path[:] = given['path']; from alora_gguf.documents.worker import main; main(given)"
_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "LANG", "LC_ALL")
_MOST_JSON = 6 * TEXT_BYTES + (1 << 16)  # a character is six bytes of JSON at most


def read_apart(data: bytes, kind: str, pages: str | None, stop: threading.Event) -> dict[str, Any]:
    """What `worker` says of a document. `stop` ends it from another thread. Raises DocumentError."""
    given = json.dumps({"path": _path(), "kind": kind, "pages": pages})
    environment = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    # -I: neither the current folder nor variables say what is imported
    command = [sys.executable, "-I", "-B", "-c", _START, given]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, start_new_session=True
    ) as process:
        late = False

        def watch() -> None:
            nonlocal late
            late = not stop.wait(SECONDS)
            process.kill()

        def give() -> None:
            try:
                with process.stdin:  # type: ignore[union-attr]
                    process.stdin.write(data)  # type: ignore[union-attr]
            except OSError:  # it has ended
                pass

        threads = [threading.Thread(target=run, daemon=True) for run in (watch, give)]
        try:
            for thread in threads:
                thread.start()
            said = process.stdout.read(_MOST_JSON)  # type: ignore[union-attr]
        finally:
            was_stopped = stop.is_set()
            stop.set()
            process.kill()
            for thread in threads:
                thread.join()
    with contextlib.suppress(ValueError):
        answer: dict[str, Any] = json.loads(said)
        return answer
    if was_stopped:
        raise DocumentError("expected time to read it, got none: it was stopped; try again")
    if late:
        raise DocumentError(f"expected a document that can be read in {SECONDS} s, got one that takes longer; attach a part of it")
    raise DocumentError("expected a document that can be read, got one that ends the process that reads it; save it anew, or attach a part of it")


def _path() -> list[str]:
    """Where modules are, in this process's order, without what depends on the current folder."""
    path = [entry for entry in sys.path if os.path.isabs(entry)]
    return path if _FOLDER in path else [*path, _FOLDER]
