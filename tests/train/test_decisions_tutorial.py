"""The tutorial of a router, as it stands there, at small size."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "serve"))


@pytest.fixture(scope="module")
def tutorial(repo: Path, tmp_path_factory) -> Path:
    """A folder in which every file of it lies and its first two commands were run."""
    folder = tmp_path_factory.mktemp("router")
    text = (repo / "docs" / "decisions_tutorial.md").read_text(encoding="utf-8")
    (folder / "examples").mkdir()
    shutil.copy(repo / "examples" / "mails.py", folder / "examples")
    for kind, name in (("toml", "eval.toml"), ("python", "use.py")):
        (folder / name).write_text(re.search(rf"```{kind}\n(.*?)```", text, re.S)[1], encoding="utf-8")
    row, questions = re.findall(r"```json\n(.*?)```", text, re.S)
    (folder / "by-hand.jsonl").write_text(row * 2, encoding="utf-8")
    (folder / "questions.json").write_text(questions, encoding="utf-8")
    (folder / "commands").write_text("\n".join(re.findall(r"```sh\n(.*?)```", text, re.S)), encoding="utf-8")
    run(folder, "python examples/mails.py")
    run(folder, "alora train", "--epochs 2", "--epochs 0.06 --n-evals 1 --eval-share 0.03 --threads 1")
    return folder


def run(folder: Path, begin: str, *swap: str) -> str:
    """Runs the command that begins so; `swap` puts one text in place of another, what stands before a pipe is its input. Its output."""
    [command] = [line for line in (folder / "commands").read_text().splitlines() if line.startswith(begin)]
    if swap:
        assert swap[0] in command
        command = command.replace(*swap)
    said, _, command = command.rpartition(" | ")
    words, _, out = command.partition(" > ")
    program, *arguments = shlex.split(words)
    done = subprocess.run(
        [sys.executable, *([] if program == "python" else ["-m", "alora_gguf.cli"]), *arguments],
        cwd=folder,
        input="".join(shlex.split(said)[1:]),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    if out:
        (folder / out).write_text(done.stdout, encoding="utf-8")
    return done.stdout


def test_three_hundred_rows_become_an_adapter_with_temperatures(tutorial):
    assert len((tutorial / "mails.jsonl").read_text().splitlines()) == 300
    assert (tutorial / "router" / "decisions.json").exists() and (tutorial / "router.gguf").stat().st_size > 1_000_000


def test_it_decides_in_python(tutorial):
    done = subprocess.run([sys.executable, "use.py"], cwd=tutorial, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    team, *_ = done.stdout.split()
    assert team in ("workshop", "orders", "billing", "rental")


def test_it_decides_on_the_command_line(tutorial):
    assert re.match("team: (workshop|orders|billing|rental)", run(tutorial, "echo"))


def test_it_decides_over_http(tutorial, repo, tmp_path):
    """As on the command line."""
    from live import running

    text = (repo / "docs" / "decisions_tutorial.md").read_text(encoding="utf-8")
    path, body = re.search(r"curl http://127\.0\.0\.1:8080(/v1/\S+) .* -d '(.*)'", text).groups()
    with running(tmp_path / "log", "--adapter", tutorial / "router.gguf") as server:
        status, _, said = server.call("POST", path, body.encode(), **{"Content-Type": "application/json"})
    assert status == 200, said
    assert set(said["answers"]["team"]["probabilities"]) == {"workshop", "orders", "billing", "rental"}
    assert said["answers"]["team"]["choice"] in run(tutorial, "echo")


def test_it_is_measured(tutorial):
    said = run(tutorial, "alora eval")
    assert "| by hand | base, prompted | 4 |" in said and "| by hand | aLoRA | 4 |" in said
