"""What a newcomer is shown first is right, with room to spare, whichever kernels compute it: the demo, the recording, README, the guides, the page."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.builds

CPU = Path("/proc/cpuinfo")
HAS_MORE = CPU.exists() and " avx512f " in CPU.read_text()  # than AVX2, which is what ggml builds for any x86-64

# whether the documents and texts that are shown hold the answer
ANSWERS = {
    "What does a ticket cost?": True,
    "And when does it arrive?": True,
    "What is the captain's name?": False,
    "Is there a restaurant on board?": False,
}
ASK = """
import json, sys
from alora_gguf import Model, bundled_adapters, default_model

found = []
with Model(default_model(), n_ctx=4096) as model:
    for name, folder in bundled_adapters().items():
        model.load_adapter(folder, name)
    for document, questions in json.load(sys.stdin):
        chat = model.conversation()
        chat.attach(document)
        for question in questions:
            chat.ask(question, temperature=0, max_tokens=60)
            names = [name for name, adapter in model.adapters.items() if adapter.is_intrinsic]
            one = {name: reply.result for name, reply in chat.invoke_all(names).items()}
            found.append([question, one["answerability"]["answerability_likelihood"], one["query-rewrite"]["rewritten_question"]])
print(json.dumps(found))
"""


def shown(repo: Path) -> list[tuple[str, list[str]]]:
    """(the document, the questions) of each."""
    read = lambda path: (repo / path).read_text(encoding="utf-8")
    ferry = read("examples/documents/ferry.txt")
    is_question = lambda line: line.endswith("?")
    demo = [line for line in read("examples/demo.txt").splitlines() if is_question(line)]
    recording = re.findall(r'\(READY, "(.*\?)"\)', read("docs/demo.py"))
    readme = read("README.md")
    typed = [line for line in re.search(r"```\n(/doc .*?)```", readme, re.DOTALL)[1].splitlines() if is_question(line)]
    in_python = [
        (re.search(r'chat\.attach\("(.*)"\)', text)[1], [re.search(r'chat\.ask\("(.*?)"', text)[1]]) for text in (readme, read("docs/python.md"))
    ]
    return [(ferry, demo), (ferry, recording), (ferry, typed), *in_python]


@pytest.mark.parametrize("build", ["native", "baseline"])
def test_it_is_right(repo, build):
    path = Path(os.environ.get(f"ALORA_{build.upper()}_LIB", repo / "build" / build / "bin"))
    if not path.exists():
        pytest.skip(f"{path}: no library; run `make test`")
    env = {**os.environ, "ALORA_LIB_PATH": str(path)}
    given = shown(repo)
    done = subprocess.run([sys.executable, "-c", ASK], env=env, input=json.dumps(given), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert len(found) == sum(len(questions) for _, questions in given) >= 8
    print(*found, sep="\n")
    for question, likelihood, rewritten in found:
        assert likelihood > 0.8 if ANSWERS[question] else likelihood < 0.05, (question, likelihood)
        assert rewritten.endswith("?")
    assert any("ferry" in rewritten for question, _, rewritten in found if question.startswith("And"))


@pytest.mark.skipif(not HAS_MORE, reason="this processor has what the baseline has, so the two are one")
def test_the_two_kernels_are_two(repo):
    """Else the test above says nothing of another processor: their logits differ in their last digits."""
    said = set()
    for build in ("native", "baseline"):
        path = Path(os.environ.get(f"ALORA_{build.upper()}_LIB", repo / "build" / build / "bin"))
        if not path.exists():
            pytest.skip(f"{path}: no library; run `make test`")
        code = "import hashlib; from alora_gguf import Model, default_model; m = Model(default_model(), n_ctx=256); print(hashlib.sha256(m.logits([(list(range(50)), None)])[0]).hexdigest())"
        env = {**os.environ, "ALORA_LIB_PATH": str(path)}
        said.add(subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout)
    assert len(said) == 2
