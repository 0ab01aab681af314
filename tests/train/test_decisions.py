"""Training on decisions: what the rows may hold, that packing changes nothing, and that what comes of it decides."""

import json
import random
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TARGETS
from peft import LoraConfig, get_peft_model
from test_passes import gradient

from alora_gguf.cli import main
from alora_gguf.errors import TrainError
from alora_gguf.runtime.vocab import load_vocab
from alora_gguf.train import decision_passes, passes
from alora_gguf.train.decision_prompts import Questions
from alora_gguf.train.decision_rows import DecisionRows, Drawn
from alora_gguf.train.decisions import read_decisions
from alora_gguf.train.prefixes import Prefixes
from alora_gguf.train.temperature import evaluate, fitted

PREDICATE = {"type": "predicate", "instructions": "It rains."}
CHOICE = {"type": "choice", "instructions": "Where?", "criteria": {"New York": "a city", "New York State": None, "Ohio": "a state"}}
SCORE = {"type": "score", "instructions": "How wet?", "criteria": ["dry", "damp", "soaked"]}
GOOD = {
    "state": "The streets of New York are wet.",
    "questions": {"a": PREDICATE, "b": CHOICE, "c": SCORE},
    "right": {"a": True, "b": "New York", "c": 2},
}


def write(path: Path, *rows) -> Path:
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows), encoding="utf-8")
    return path


def right_of(tmp_path: Path, question: dict, right: object) -> tuple[float, ...]:
    [line] = read_decisions(write(tmp_path / "rows.jsonl", {"state": "s", "questions": {"q": question}, "right": {"q": right}}))
    return line.questions[0].right


@pytest.mark.parametrize(
    ("question", "right", "shares"),
    [
        (PREDICATE, False, (0, 1)),
        (PREDICATE, 0.75, (0.75, 0.25)),
        (CHOICE, "Ohio", (0, 0, 1)),
        (CHOICE, {"Ohio": 1, "New York": 3}, (0.75, 0, 0.25)),
        ({**CHOICE, "criteria": [True, "true"]}, True, (1, 0)),
        ({**CHOICE, "criteria": [True, "true"]}, "true", (0, 1)),
        (SCORE, 1, (0, 1, 0)),
        (SCORE, "soaked", (0, 0, 1)),
        (SCORE, {"0": 1, "1": 1}, (0.5, 0.5, 0)),
    ],
)
def test_what_is_right_of_each_option(tmp_path, question, right, shares):
    assert right_of(tmp_path, question, right) == shares


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        ("{", "JSON object"),
        ("[1]", "JSON object"),
        ({k: v for k, v in GOOD.items() if k != "state"}, "state or messages"),
        ({**GOOD, "messages": [{"role": "user", "content": "x"}]}, "state or messages"),
        ({**GOOD, "state": " "}, "state"),
        ({**GOOD, "questions": {}}, "questions"),
        ({**GOOD, "right": None}, "right"),
        ({**GOOD, "right": {"a": True, "b": "Ohio"}}, "right: c"),
        ({**GOOD, "right": {**GOOD["right"], "d": 1}}, "questions: d"),
        ({**GOOD, "right": {**GOOD["right"], "b": "Iowa"}}, "b: right"),
        ({**GOOD, "right": {**GOOD["right"], "b": {"Iowa": 1}}}, "b: right"),
        ({**GOOD, "right": {**GOOD["right"], "b": {"Ohio": 0}}}, "b: right"),
        ({**GOOD, "right": {**GOOD["right"], "b": {"Ohio": float("inf")}}}, "b: right"),
        ({**GOOD, "right": {**GOOD["right"], "b": {"Ohio": 1e308, "New York": 1e308}}}, "b: right"),
        ({**GOOD, "right": {**GOOD["right"], "a": "yes"}}, "a: right"),
        ({**GOOD, "right": {**GOOD["right"], "a": 2}}, "a: right"),
        ({**GOOD, "right": {**GOOD["right"], "c": 3}}, "c: right"),
        ({**GOOD, "questions": {**GOOD["questions"], "a": {"type": "guess"}}}, "a.type"),
        ({**GOOD, "questions": {**GOOD["questions"], "a": "It rains."}}, "a: expected a question"),
    ],
)
def test_names_the_row_and_what_is_wrong_with_it(tmp_path, row, wanted):
    with pytest.raises(TrainError) as error:
        read_decisions(write(tmp_path / "rows.jsonl", GOOD, row))
    assert "rows.jsonl: line 2" in str(error.value) and wanted in str(error.value) and "\n" not in str(error.value)


@pytest.fixture(scope="session")
def vocab(tiny_base):
    with load_vocab(tiny_base) as vocab:
        yield vocab


@pytest.fixture
def questions(vocab, tiny_base, tmp_path) -> Questions:
    chat = {**GOOD, "messages": [{"role": "user", "content": "Hm."}, {"role": "assistant", "content": "Yes?"}]}
    lines = read_decisions(write(tmp_path / "rows.jsonl", GOOD, {k: v for k, v in chat.items() if k != "state"}))
    return Questions(vocab, tiny_base.name, vocab.tokenize("<decide>"), lines)


def test_options_that_are_the_same_as_texts_are_an_error_of_their_row(vocab, tiny_base, tmp_path):
    """Which the runtime would ask by letters, but training has no letters."""
    row = {"state": "s", "questions": {"q": {**CHOICE, "criteria": ["Ohio", " Ohio"]}}, "right": {"q": "Ohio"}}
    asked = Questions(vocab, tiny_base.name, vocab.tokenize("<decide>"), read_decisions(write(tmp_path / "rows.jsonl", GOOD, row)))
    with pytest.raises(TrainError, match="rows.jsonl: line 2: q: labels: expected values that differ as texts, got 'Ohio' twice"):
        asked.drawn(3, None)


def test_an_order_changes_neither_the_state_nor_what_is_right(questions):
    for i in range(len(questions)):
        drawn = [questions.drawn(i, random.Random(seed)) for seed in range(20)]
        assert len({tuple(d.order) for d in drawn}) == len({tuple(d.suffix) for d in drawn}) > 1
        assert len({(tuple(d.prefix), str(d.labels), str(d.right)) for d in drawn}) == 1


def test_what_is_trained_is_what_the_runtime_asks(questions, vocab):
    """The state and the question in the user's words, the invocation before the question."""
    d = questions.drawn(1, random.Random(3))
    asked = vocab.detokenize(d.suffix)
    assert vocab.detokenize(d.prefix).endswith("The streets of New York are wet.<|im_end|>\n<|im_start|>user\n")
    assert asked.startswith("<decide> Where?\n- ") and asked.endswith("assistant\n") and "- New York: a city\n" in asked
    assert [vocab.detokenize(label, special=False) for label in d.labels] == ["New York", "New York State", "Ohio"]
    assert len({label[-1] for label in d.labels}) == 1 and vocab.is_eog(d.labels[0][-1])  # as one begins another


def full_scores(model, drawn: Drawn, reference) -> torch.Tensor:
    """Log probabilities of a question's options by PEFT's plain forward, an option at a time."""
    sums = []
    for label in drawn.labels:
        tokens = torch.tensor([[*drawn.prefix, *drawn.suffix, *label[:-1]]])
        logits = model(input_ids=tokens, logits_to_keep=len(label)).logits[0].float().log_softmax(-1)
        sums.append(logits[torch.arange(len(label)), torch.tensor(label)].sum())
    return torch.stack(sums)


@pytest.mark.parametrize("n_questions", [1, 8])
def test_gradients_are_those_of_pefts_full_forward(tiny_peft, questions, vocab, n_questions):
    rows = DecisionRows(questions.drawn, len(questions), n_questions, 2000)
    drawn = [rows.drawn(i, random.Random(i)) for i in range(len(rows))]
    prefixes = Prefixes(tiny_peft, rows, 10**9, 0, dtype=torch.float32)
    prefixes.fill(lambda n: None)
    logits = passes.logits(tiny_peft, drawn, prefixes.of(range(len(rows))))
    sum(decision_passes.loss(of, row) for of, row in zip(logits, drawn, strict=True)).backward()
    packed = gradient(tiny_peft)
    assert sorted(i for row in drawn for i in row.examples) == list(range(len(questions)))

    state = {name: p.detach().clone() for name, p in tiny_peft.named_parameters() if p.requires_grad}
    config = LoraConfig(r=4, lora_alpha=8, target_modules=list(TARGETS), task_type="CAUSAL_LM", alora_invocation_tokens=vocab.tokenize("<decide>"))
    reference = get_peft_model(tiny_peft.unload(), config)
    with torch.no_grad():
        for name, p in reference.named_parameters():
            if p.requires_grad:
                p.copy_(state[name])
    for i, row in enumerate(drawn):
        chance = random.Random(i)
        for number, question in enumerate(row.examples):
            one = questions.drawn(question, chance)
            assert one.order == row.orders[number]
            scores = full_scores(reference, one, reference)
            mine = decision_passes.scores(logits[i], row)[number, : len(scores)]
            assert torch.allclose(mine, scores, atol=1e-3)
            (-(torch.tensor(one.right) * scores.log_softmax(-1)).sum()).backward()
    full = gradient(reference)
    assert full.norm() > 0.1
    assert (packed - full).norm() / full.norm() < 1e-4


def test_the_temperature_undoes_what_was_multiplied():
    rng = np.random.default_rng(0)
    scores, rights = [], []
    for _ in range(3000):
        honest = rng.normal(size=rng.integers(2, 6)) * 2
        p = np.exp(honest) / np.exp(honest).sum()
        right = np.zeros(len(p), np.float32)
        right[rng.choice(len(p), p=p)] = 1
        scores.append(torch.tensor(honest * 3, dtype=torch.float32))
        rights.append(torch.from_numpy(right))
    assert fitted(scores, rights) == pytest.approx(3, rel=0.1)


def test_checkpoints_are_judged_as_their_decisions_will_be(questions, vocab):
    """At temperatures: scores that are too sure cost nothing, and those that say nothing gain nothing."""

    class Said:
        rows = DecisionRows(questions.drawn, len(questions), 2, 2000)

        def __init__(self, sureness: float):
            self.sureness = sureness

        def logits(self, model, chosen):
            shape = lambda row: (int(row.at.max()) + 1, vocab.n_tokens)
            return [(self.rows[i], self.sureness * torch.randn(shape(self.rows[i]), generator=torch.Generator().manual_seed(i))) for i in chosen]

    def as_they_come(said: Said) -> tuple[float, float]:
        made = said.logits(None, range(len(said.rows)))
        right = [is_right for row, logits in made for is_right in decision_passes.said(logits, row)]
        return sum(decision_passes.loss(logits, row).item() for row, logits in made) / len(questions), sum(right) / len(right)

    for sureness in (0.0, 1.0, 20.0):
        said = Said(sureness)
        found = evaluate(None, said, 2, questions)
        loss, accuracy = as_they_come(said)
        assert found["accuracy"] == accuracy
        assert found["loss"] <= loss + 1e-6 and (found["loss"] < loss / 2 or sureness < 20), (found, loss)
        assert all(found[name] > 0 for name in ("predicate", "choice", "score"))


FRUIT, TOOLS = ["apple", "pear", "plum", "cherry", "grape", "melon"], ["hammer", "saw", "drill", "wrench", "file", "axe"]


@pytest.fixture(scope="session")
def rows(tmp_path_factory) -> Path:
    asked = [("fruit", FRUIT), ("tool", TOOLS)]
    lines = [
        {
            "state": f"I have bought {'an' if word[0] in 'aeiou' else 'a'} {word}.",
            "questions": {
                "kind": {"type": "choice", "instructions": "What was bought?", "criteria": ["fruit", "tool"]},
                "sweet": {"type": "predicate", "instructions": "It can be eaten."},
                "hard": {"type": "score", "instructions": "How hard is it?", "criteria": ["soft", "hard"]},
            },
            "right": {"kind": kind, "sweet": kind == "fruit", "hard": int(kind == "tool")},
        }
        for kind, words in asked
        for word in words
    ]
    return write(tmp_path_factory.mktemp("decisions") / "rows.jsonl", *lines)


def test_what_was_trained_decides(base_q4, rows, tmp_path, capsys):
    """On the embedded model: in PEFT's folder, in the GGUF, in what `alora show` says, and in what is decided."""
    from alora_gguf import Model
    from alora_gguf.convert import read_adapter_metadata

    folder, gguf = tmp_path / "shopping", tmp_path / "shopping.gguf"
    given = ["train", "--decisions", str(rows), "--eval", str(rows), "--base", str(base_q4), "-o", str(folder), "--gguf", str(gguf), "--rank", "4"]
    more = ["--epochs", "8", "--learning-rate", "3e-3", "--batch-size", "12", "--n-evals", "1", "--select", "loss", "--threads", "1"]
    assert main([*given, *more]) == 0
    assert "decisions right 100.0%" in capsys.readouterr().out
    saved = json.loads((folder / "decisions.json").read_text())
    trained = read_adapter_metadata(gguf).decisions
    assert saved["format"] == 1 and trained is not None and trained.temperature == pytest.approx(saved["temperature"], rel=1e-6)
    assert main(["show", str(gguf)]) == 0
    assert "alora.decisions.temperature.choice" in capsys.readouterr().out
    with Model(base_q4, n_ctx=512, n_threads=1) as model:
        model.load_adapter(gguf)
        right = []
        for line in read_decisions(rows):
            said = model.decide(line.fields["state"], {str(i): one.question for i, one in enumerate(line.questions)}, adapter="shopping")
            right += [
                max(range(len(one.right)), key=lambda j: list(d.probabilities.values())[j]) == one.right.index(1)
                for d, one in zip(said.values(), line.questions)
            ]
    assert np.mean(right) >= 0.95


def test_it_is_data_or_decisions(rows, tmp_path):
    for more in ([], [str(rows), "--decisions", str(rows)], ["--decisions", str(rows), "--instruction", "<x> {last_message}"]):
        assert main(["train", *more, "--invocation", "<x>", "-o", str(tmp_path / "x")]) == 2


def test_the_vocabulary_is_open_as_long_as_the_stack(tiny_base, rows, tmp_path):
    from alora_gguf.train.settings import Settings
    from alora_gguf.train.train import read_task

    with ExitStack() as stack:
        task = read_task(Settings(decisions=rows, eval=rows, base=tiny_base, out=tmp_path / "x"), stack)
        assert len(task.train) == 36 and task.train.drawn(0, None).labels


def test_the_rows_of_the_bundled_adapter_can_be_read_and_none_is_a_task_of_others(repo):
    held, others = (read_decisions(repo / "intrinsics" / "decide" / f"{name}.jsonl") for name in ("test", "others"))
    assert {line.fields["kind"] for line in held}.isdisjoint(line.fields["task"] for line in others)
    assert {one.type for line in held for one in line.questions} == {"predicate", "choice", "score"}
    assert "canary GUID" in others[0].fields["canary"] and len({line.fields["task"] for line in others}) == 20
    states = {json.dumps(line.messages) for line in others}
    assert not states & {json.dumps(line.messages) for line in held}
