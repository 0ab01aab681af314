"""The adapters in the repository: their cards say what their data and files say, and they do better than the base."""

import importlib.util
import json
import re
import sys

import pytest

from alora_gguf import Model


@pytest.fixture(scope="module")
def folder(repo):
    return repo / "intrinsics" / "answerability"


@pytest.fixture(scope="module")
def evaluate(folder):
    """intrinsics/answerability/evaluate.py as a module."""
    sys.path.insert(0, str(folder))
    spec = importlib.util.spec_from_file_location("answerability_evaluate", folder / "evaluate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.path.remove(str(folder))


def test_the_invocation_is_the_cards_and_the_models(folder, evaluate, shared):
    tokens = shared.adapter("answerability").invocation_tokens
    assert tokens == shared.tokenize(evaluate.INVOCATION)
    assert str(tokens) in (folder / "adapter" / "README.md").read_text()


def test_the_cards_figures_are_consistent(folder, evaluate):
    card = (folder / "adapter" / "README.md").read_text()
    rows = re.findall(r"^\| (.+?) \|(?: [^|]+ \|)? (\d+)/(\d+) \| ([\d.]+)% \| ([\d.]+)% to ([\d.]+)% \|$", card, re.MULTILINE)
    assert len(rows) >= 6
    for title, right, total, *shares in rows:
        right, total = int(right), int(total)
        want = [right / total, *evaluate.wilson(right, total)]
        assert [f"{100 * x:.1f}" for x in want] == shares, title
        if title.startswith(("held-out", "everyday")):
            assert total == len(evaluate.read_jsonl(folder / ("test.jsonl" if title.startswith("held-out") else "everyday.jsonl"))), title


def test_test_and_everyday_examples_are_balanced_and_apart(folder, evaluate):
    for name in ("test.jsonl", "everyday.jsonl"):
        examples = evaluate.read_jsonl(folder / name)
        labels = [e["label"] for e in examples]
        assert labels.count("answerable") == labels.count("unanswerable")
        said = [json.dumps(e["messages"]) for e in examples]
        assert len(set(said)) == len(said)


def test_it_is_better_than_the_base(folder, evaluate, base_q4, answerability):
    """On every 30th example of the held-out test; the card has the whole."""
    engine = evaluate.Runtime(base_q4, answerability, threads=2)
    examples = evaluate.read_jsonl(folder / "test.jsonl")[7::30]
    labels = [e["label"] for e in examples]
    right = sum(engine.said(e["messages"]).strip() == label for e, label in zip(examples, labels))
    base = sum(engine.preferred(e["messages"], False) == label for e, label in zip(examples, labels))
    assert isinstance(engine.model, Model)
    assert right >= base + 3
