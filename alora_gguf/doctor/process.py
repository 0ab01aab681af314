"""Processes of this package's own modules, for what can end the process that does it."""

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1]  # of the package


def run_module(name: str, *arguments: str, seconds: float, given: str = "") -> subprocess.CompletedProcess[str]:
    """`python -m name` in the folder of this package, so that it is the one that is imported. Raises subprocess.TimeoutExpired."""
    env = dict(os.environ)
    if "ALORA_LIB_PATH" in env:
        env["ALORA_LIB_PATH"] = os.path.abspath(env["ALORA_LIB_PATH"])
    command = [sys.executable, "-m", name, *arguments]
    return subprocess.run(command, cwd=FOLDER.parent, env=env, input=given, capture_output=True, text=True, timeout=seconds, check=False)
