"""What was computed of files, kept until one of them is another."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from .folders import cache_folder

_TICK = 50_000_000  # ns: a file that changed less ago can change again without looking different
_COARSE_TICK = 2_000_000_000  # the same where times are whole seconds


def remembered(what: str, files: Iterable[Path], compute: Callable[[], str]) -> str:
    """`compute()`, or what it gave when all of these files had their names, sizes, and times of the last change.

    what: names it, with the folder of the files. Its errors are the caller's, and remembered by nobody; a cache that cannot be read or written is none.
    """
    stats = [(str(file), os.stat(file)) for file in sorted(files)]
    state = [[name, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino] for name, stat in stats]
    path = cache_folder() / "unchanged" / f"{hashlib.sha256(what.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"
    try:
        kept = json.loads(path.read_bytes())
        if kept["state"] == state and isinstance(kept["value"], str):
            return kept["value"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    wait = _settled([stat for _, stat in stats]) - time.time_ns()
    if 0 < wait <= _TICK:
        time.sleep(wait / 1e9)
    value = compute()
    if wait <= _TICK:
        _keep(path, json.dumps({"state": state, "value": value}))
    return value


def _settled(stats: Iterable[os.stat_result]) -> int:
    """The time, in ns, from which on every change of these files shows."""
    changed = ((max(stat.st_mtime_ns, stat.st_ctime_ns), stat.st_mtime_ns % 1_000_000_000 == 0) for stat in stats)
    return max((time + (_COARSE_TICK if is_coarse else _TICK) for time, is_coarse in changed), default=0)


def _keep(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(text)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
