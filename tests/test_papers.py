"""What the papers say: code that runs as pasted and prints what stands below it, commands that there are."""

import re
import subprocess
import sys

import pytest

BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)


def blocks(path, language: str) -> list[tuple[str, str]]:
    """(code, what stands in the block after it) of a page."""
    found = BLOCK.findall(path.read_text())
    return [(code, found[i + 1][1] if i + 1 < len(found) and not found[i + 1][0] else "") for i, (kind, code) in enumerate(found) if kind == language]


def test_the_readmes_python_runs_as_pasted(repo):
    """The words are greedy, and those of a processor whose kernels round as here; the numbers are what matters."""
    [(code, printed)] = blocks(repo / "README.md", "python")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    got, said = done.stdout.splitlines(), printed.splitlines()
    assert len(got) == len(said)
    assert "14" in got[0] and got[1].split()[0] == said[1].split()[0] and got[2] == said[2]


@pytest.mark.parametrize("command", [["commands.py", "--check"], ["fields.py", "--check"], ["pictures.py"]])
def test_what_programs_make_of_the_code_is_not_old(repo, command):
    done = subprocess.run([sys.executable, repo / "docs" / command[0], *command[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
