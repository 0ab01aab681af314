"""docs/granite.md: each of its commands, on a hub with tiny Granites of random weights. Compared is what does not depend on weights."""

import json
import re
import shlex
import subprocess
import sys

import pytest
import torch  # noqa: F401  these tests need it
from hub_server import Hub, command, environment
from tiny_granite import GRANITES, INTRINSICS

FOUR = "answerability", "query_rewrite", "query_clarification", "uncertainty"
BASE = "granite-4.1-3b"
MODEL = f"hf:{GRANITES[BASE].repo}:Q4_K_M"


@pytest.fixture(scope="module")
def blocks(repo):
    """The page's blocks by kind."""
    found = {}
    for kind, text in re.findall(r"^```(\w*)\n(.*?)^```$", (repo / "docs" / "granite.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        found.setdefault(kind, []).append(text)
    return found


@pytest.fixture(scope="module")
def commands(blocks):
    """Those of its shell: one a line, but for curl's, which has lines of its own."""
    return [line for text in blocks["sh"] for line in ([text] if text.startswith("curl") else text.splitlines())]


@pytest.fixture(scope="module")
def hub(granites, tmp_path_factory):
    """In place of that of the other tests."""
    root = tmp_path_factory.mktemp("served")
    for granite in granites.values():
        granite.publish(root)
    with Hub(root) as hub:
        yield hub


@pytest.fixture(scope="module")
def home(hub, repo, tmp_path_factory):
    """Where the commands are run, one after another: a checkout's examples, and nothing fetched."""
    home = tmp_path_factory.mktemp("home")
    (home / "examples").symlink_to(repo / "examples")
    return home


@pytest.fixture(scope="module")
def run(hub, home, commands):
    """Runs the page's command that begins so: exit code, standard output, standard error."""

    def run(begin, *more, said=None, **env):
        [line] = [line for line in commands if line.startswith(begin)]
        argv = command(*shlex.split(line)[1:], *more)
        done = subprocess.run(argv, env={**environment(hub, home), **env}, cwd=home, input=said, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    return run


def test_every_command_of_the_page_is_run_below(commands, blocks):
    assert [line.split()[:2] for line in commands] == [["alora", name] for name in ("pull", "list", "chat", "serve")] + [
        ["curl", f"http://127.0.0.1:8080/v1/{path}"] for path in ("models", "chat/completions", "chat/completions")
    ]
    assert {kind: len(texts) for kind, texts in blocks.items() if kind != "sh"} == {"": 1, "text": 1, "python": 1, "json": 1}
    assert [blocks[""][0]] == ["pip install .\n"]  # of docs/install.md; the tests run what it installs


def test_in_one_go_from_nothing(hub, run, commands, blocks, tmp_path, repo):
    """The chat's command alone, as the page says that fetching before can be left out; and again without a network."""
    [line] = [line for line in commands if line.startswith("alora chat")]
    (tmp_path / "examples").symlink_to(repo / "examples")
    said = {}
    for argv in ([], ["--offline"]):
        asked = len(hub.asked)
        done = subprocess.run(
            command(*shlex.split(line)[1:], "--temperature", "0", *argv), env=environment(hub, tmp_path), cwd=tmp_path, input=blocks["text"][0], capture_output=True, text=True
        )  # fmt: skip
        has_failed = "\nerror: " in done.stderr  # with random weights, whose JSON may not end
        assert done.returncode == (2 if has_failed else 0), done.stderr
        said[not argv] = (
            re.sub(r"\d+ ms, \d+% of the context", "ms", done.stdout),
            {re.sub(r"\d+ of \d+", "{} of {}", line) for line in done.stderr.splitlines()},
        )
        assert (len(hub.asked) > asked) == (not argv)
    steps = {
        f"alora: hf:{i.library}: {name}, {{}} of {{}}: {what}"
        for name, i in INTRINSICS.items()
        if BASE in (*i.alora, *i.lora)
        for what in ("fetching", "converting")
    }
    assert said[True][0] == said[False][0] and said[True][1] - said[False][1] == steps
    lines = said[True][0].splitlines()
    assert lines[0].startswith("document 1: ferry.txt, ") and sum(line.endswith("decoded, ms") for line in lines) == 6
    assert any(line in ("answerable", "unanswerable") for line in lines)
    assert any(re.fullmatch(r"certainty 0\.\d\d", line) or re.search(r"certainty 0\.\d\d$", line) for line in lines)
    assert not any("no such command" in line or "expected its" in line for line in (*lines, *said[True][1]))


def test_pull_and_list(hub, run, home):
    code, out, err = run("alora pull")
    wanted = {f"{name}/{BASE}/{'alora' if BASE in i.alora else 'lora'}" for name, i in INTRINSICS.items() if BASE in (*i.alora, *i.lora)}
    paths = out.splitlines()
    told = {f"alora: hf:{i.library}: {name}, {{}} of {{}}: fetching" for name, i in INTRINSICS.items() if BASE in (*i.alora, *i.lora)}
    assert (code, {re.sub(r"\d+ of \d+", "{} of {}", line) for line in err.splitlines()}) == (0, told)
    assert paths[0].endswith(f"{BASE}-Q4_K_M.gguf") and {"/".join(path.split("/")[-3:]) for path in paths[1:]} == wanted
    code, out, err = run("alora list", "--json")
    assert {entry["name"] for entry in json.loads(out)} == {MODEL} | {
        i.hub_name for name, i in INTRINSICS.items() if any(name in one for one in wanted)
    }
    assert run("alora list")[0] == 0


def test_python(hub, home, blocks):
    done = subprocess.run([sys.executable, "-c", blocks["python"][0]], env=environment(hub, home), cwd=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [re.findall(r"'(.*?)'", line) for line in lines[:2]] == [["answerability", "citations", "query_clarification", "query_rewrite"], ["requirement-check", "uncertainty"]]  # fmt: skip
    said = lines[-8:]
    assert [line.split()[0] for line in said[::2]] == list(FOUR)
    assert said[0] in [f"answerability {{'answerability': '{answer}'}}" for answer in ("answerable", "unanswerable")]
    assert 0.05 <= float(re.fullmatch(r"uncertainty {'certainty': (.*)}", said[6])[1]) <= 0.95
    *questions, answer = [tuple(map(int, re.fullmatch(r"(\d+) of (\d+) tokens from the cache", line).groups())) for line in said[1::2]]
    assert all(prompt - 3 <= cached < prompt for cached, prompt in questions)  # all but the generation prompt
    assert questions[0][0] <= answer[0] < answer[1]  # the answer of random weights has control tokens, which are not said again


def test_what_the_page_shows_of_results_has_their_form(blocks):
    from alora_gguf.prompt.io_yaml import IntrinsicIO

    for name, line in zip(FOUR, blocks["json"][0].splitlines(), strict=True):
        io = IntrinsicIO.read(INTRINSICS[name].io, name)
        [key] = json.loads(line)
        assert key == {"uncertainty": "certainty"}.get(name) or key in json.dumps(io.schema) or key == "answerability"


def test_over_http(hub, home, commands):
    [line] = [line for line in commands if line.startswith("alora serve")]
    process = subprocess.Popen(
        command(*shlex.split(line)[1:], "--port", "0"), env=environment(hub, home), cwd=home, stderr=subprocess.PIPE, text=True
    )
    try:
        lines = []
        while not (lines and "listening on" in lines[-1]):
            lines.append(process.stderr.readline())
            assert lines[-1], lines
        url = lines[-1].split()[-1]
        models, base, judged = [
            json.loads(subprocess.run(shlex.split(line.replace("http://127.0.0.1:8080", url)), capture_output=True, text=True, check=True).stdout)
            for line in commands
            if line.startswith("curl")
        ]
    finally:
        process.terminate()
        process.communicate()
    assert {model["id"] for model in models["data"]} >= {"granite-4.1-3b", *FOUR}
    assert base["choices"][0]["finish_reason"] in ("stop", "length") and base["usage"]["completion_tokens"] <= 100
    assert judged["choices"][0]["result"]["answerability"] in ("answerable", "unanswerable")
    usage = judged["usage"]
    assert usage["prompt_tokens_details"]["cached_tokens"] >= usage["prompt_tokens"] - 3
