"""The tutorial's commands, as they stand there, at small size."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tutorial(repo: Path, tmp_path_factory) -> Path:
    """A folder in which every file of the tutorial lies and its first two commands were run."""
    folder = tmp_path_factory.mktemp("tutorial")
    text = (repo / "docs" / "tutorial.md").read_text(encoding="utf-8")
    (folder / "examples").mkdir()
    shutil.copy(repo / "examples" / "sentiment.py", folder / "examples")
    for kind, name in (("yaml", "prompted.yaml"), ("toml", "eval.toml"), ("python", "use.py")):
        (folder / name).write_text(re.search(rf"```{kind}\n(.*?)```", text, re.S)[1], encoding="utf-8")
    (folder / "by-hand.jsonl").write_text(re.search(r"```json\n(.*?)```", text, re.S)[1] * 2, encoding="utf-8")
    (folder / "commands").write_text("\n".join(re.findall(r"```sh\n(.*?)```", text, re.S)), encoding="utf-8")
    run(folder, "python examples/sentiment.py")
    run(folder, "alora train", "--epochs 2", "--epochs 0.06 --n-evals 1 --eval-share 0.02 --threads 1")
    return folder


def run(folder: Path, begin: str, *swap: str) -> str:
    """Runs the command that begins so; `swap` puts one text in place of another. Its output."""
    [command] = [line for line in (folder / "commands").read_text().splitlines() if line.startswith(begin)]
    if swap:
        assert swap[0] in command
        command = command.replace(*swap)
    command = (
        command.replace("python ", f"{sys.executable} ", 1)
        if command.startswith("python")
        else command.replace("alora ", f"{sys.executable} -m alora_gguf.cli ", 1)
    )
    done = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_training_makes_a_folder_and_an_adapter(tutorial):
    assert (tutorial / "sentiment" / "adapter_config.json").exists() and (tutorial / "sentiment" / "io.yaml").exists()
    assert (tutorial / "sentiment.gguf").stat().st_size > 1_000_000


def test_it_is_a_command_of_the_chat(tutorial):
    assert "sentiment: " in run(tutorial, "alora chat")


def test_it_runs_in_python(tutorial):
    done = subprocess.run([sys.executable, "use.py"], cwd=tutorial, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def test_it_is_measured(tutorial):
    said = run(tutorial, "alora eval")
    assert "| by hand | base, prompted | 2 |" in said and "| by hand | aLoRA | 2 |" in said
