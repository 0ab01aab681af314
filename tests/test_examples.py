"""The examples, as examples/README.md has them: its commands are run, and say what it says they do.

The base's own answers are only known to be there: in 4 bits they are another processor's to choose.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alora_gguf.convert import convert

ANSWERABLE, UNANSWERABLE = "What does a ticket cost?", "What is the captain's name?"


@pytest.fixture(scope="module")
def checkout(repo, base_q4, tmp_path_factory) -> Path:
    """What the commands need: the examples, and the adapters that `make demo` converts."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(repo / "examples", folder / "examples")
    (folder / "build" / "adapters").mkdir(parents=True)
    for name in ("answerability", "decide"):
        convert(repo / "intrinsics" / name / "adapter", folder / "build" / "adapters" / f"{name}.gguf", base=base_q4)
    return folder


@pytest.fixture(scope="module")
def example(checkout):
    """(the output of the example's command, the one that is printed for it), as lines."""
    blocks = re.findall(r"```\n(.*?)```", (checkout / "examples" / "README.md").read_text(encoding="utf-8"), re.S)

    def run(name: str) -> tuple[list[str], list[str]]:
        [block] = [block for block in blocks if f"examples/{name}" in block]
        commands = re.findall(r"^\$ (.*)\n", block, re.M)
        said = "".join(shell(checkout, command) for command in commands)
        return said.splitlines(), [line for line in block.splitlines() if not line.startswith("$ ")]

    return run


def shell(folder: Path, command: str) -> str:
    env = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}
    done = subprocess.run(command, shell=True, cwd=folder, env=env, capture_output=True, text=True, encoding="utf-8", timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


NUMBER = re.compile(r"\b[01]\.\d\d?\b")


def agree(said: str, printed: str) -> bool:
    """Whether two lines are the same but for what was found, and probabilities near each other: in 4 bits they are another processor's."""
    one, other = (re.sub(r", found: .*, after", ", after", line) for line in (said, printed))
    near = all(alike(float(a), float(b)) for a, b in zip(NUMBER.findall(one), NUMBER.findall(other)))
    return near and NUMBER.sub("", one) == NUMBER.sub("", other)


def alike(said: float, printed: float) -> bool:
    return abs(said - printed) < 0.35 and (said > 0.5) == (printed > 0.5)


def test_script(example):
    (first, answer, second), printed = example("script.py")
    assert agree(first, printed[0]) and agree(second, printed[2])
    assert [float(NUMBER.search(line)[0]) > 0.5 for line in (first, second)] == [True, False]
    cached, prompt = map(int, re.search(r"\S  (\d+) of (\d+) tokens from the cache$", answer).groups())
    assert cached == prompt - 3  # of the generation prompt, in whose place the message with the invocation was


def test_documents(example, checkout):
    said, printed = example("documents.py")
    assert said == printed
    assert [line.split()[1:] for line in said if ".txt" in line] == [["yes" if i == j else "-" for j in range(4)] for i in range(3)]
    (checkout / "long").mkdir()
    (checkout / "long" / "a.txt").write_text("so it was " * 4000)
    shutil.copy(checkout / "examples" / "documents" / "ferry.txt", checkout / "long" / "b.txt")
    rows = shell(
        checkout, 'python examples/documents.py build/adapters/answerability.gguf long "What does the night ferry to Saint Maren cost?"'
    ).splitlines()
    assert "expected at most 4013 tokens" in rows[-4] and rows[-3].split() == ["b.txt", "yes"]


def test_conversations(example, checkout):
    said, printed = ([json.loads(line) for line in lines] for lines in example("conversations.py"))
    questions = [json.loads(line)["messages"][-1]["content"] for line in open(checkout / "examples" / "conversations.jsonl")]
    assert [line["question"] for line in said] == [question.splitlines()[-1] for question in questions]
    assert all(alike(a["answerable"], b["answerable"]) for a, b in zip(said, printed, strict=True))
    assert all(bool(line["answer"]) == (line["answerable"] > 0.5) for line in said)


def test_tasks(example):
    said, printed = example("tasks.py")
    for question in (ANSWERABLE, UNANSWERABLE):
        *chunks, verdict = [line for line in said if line.startswith(question)]
        assert any(agree(verdict, line) for line in printed) and len(chunks) == 6 and all(re.search(r"  ['\"].+['\"]$", chunk) for chunk in chunks)
    assert len(said) == 14


def test_tools(example):
    """What is called, and with what, is the base's to say; that nothing runs which is not wanted, or on what nobody said, is not."""
    said, printed = ([re.sub(r"\d+ computed, \d+ ms$", "", line) for line in lines] for lines in example("tools.py"))
    assert len(said) == len(printed) == 12
    for i in range(0, 12, 4):
        (_, wanted, argument, result), (_, *theirs) = said[i : i + 4], printed[i : i + 4]
        assert NUMBER.sub("", wanted) == NUMBER.sub("", theirs[0])
        assert abs(float(NUMBER.search(wanted)[0]) - float(NUMBER.search(theirs[0])[0])) < 0.2  # which is the likeliest of three
        assert agree(argument, theirs[1]) and result == theirs[2]
    assert [line.split(":")[0].strip() for line in said[3::4]] == ["noted", "not run", "not run"]


def test_drop_in(example):
    said, printed = example("drop_in.py")
    assert (said[0], said[2]) == (printed[0], printed[2])
    assert len(said) == 4 and all(line.strip() for line in said)


@pytest.fixture(scope="module")
def intrinsic(example, checkout) -> Path:
    """The C program, built as its first lines say."""
    said, printed = example("intrinsic.c")
    assert [json.loads(line)["answerability"] for lines in (said, printed) for line in lines] == ["answerable"] * 2
    return checkout / "intrinsic"


def test_c(intrinsic, checkout, base_q4, variants, model):
    built = re.search(r"cc examples/intrinsic.c.*", (checkout / "examples" / "README.md").read_text())[0]
    assert built in " ".join((checkout / "examples" / "intrinsic.c").read_text().replace("\\\n", " ").split())

    model.load_adapter(variants["other"])
    for name, question in (("answerability", ANSWERABLE), ("other", UNANSWERABLE)):
        text = f"{(checkout / 'examples' / 'documents' / 'ferry.txt').read_text()} {question}"
        done = subprocess.run([intrinsic, base_q4, variants[name], text], capture_output=True, text=True)
        chat = model.conversation(system="You are a helpful assistant.", messages=[{"role": "user", "content": text}])
        assert (done.returncode, done.stderr, done.stdout) == (0, "", chat.invoke(name).text + "\n")


@pytest.mark.parametrize(
    "base, adapter, text, said",
    [
        ("nothing.gguf", "answerability", "x", "nothing.gguf: expected a GGUF model"),
        ("base", "nothing.gguf", "x", "nothing.gguf: expected a GGUF file, got: No such file or directory"),
        ("base", "base", "x", "this is not a LoRA adapter"),
        ("base", "plain", "x", "expected invocation tokens, got an ordinary LoRA"),
        ("base", "answerability", "so " * 2000, "text: expected at most 1920 tokens, got"),
        ("base", "answerability", "so " * 40000, "expected a known chat template, and a shorter text"),
    ],
    ids=range(6),
)
def test_c_says_what_is_wrong(intrinsic, base_q4, variants, base, adapter, text, said):
    files = {"base": base_q4, **variants}
    done = subprocess.run([intrinsic, files.get(base, base), files.get(adapter, adapter), text], capture_output=True, text=True)
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, done.stdout) == (1, "") and last.startswith("intrinsic: error: ") and said in last
