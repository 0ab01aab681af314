"""The pack's data: what is committed is what the scripts make, splits share nothing, and the rules hold."""

import importlib
import json
import shutil
import subprocess
import sys

import jsonschema
import pytest
import yaml
from granite_common import IntrinsicsResultProcessor, IntrinsicsRewriter

NAMES = ("answerability", "certainty", "query-rewrite")
ENDS = {"answerability": "user", "certainty": "assistant", "query-rewrite": "user"}


@pytest.fixture(scope="module")
def pack(repo):
    return repo / "intrinsics"


@pytest.fixture(scope="module")
def imported(pack):
    """A module of the pack by its path, with its folder and the pack's on the search path meanwhile."""

    def load(path):
        folders = [(pack / path).parent, pack]
        names = {file.stem for folder in folders for file in folder.glob("*.py")}
        others = {name: sys.modules.pop(name) for name in names & set(sys.modules)}  # the tests have a reference.py too
        sys.path[:0] = map(str, folders)
        try:
            return importlib.import_module((pack / path).stem)
        finally:
            del sys.path[: len(folders)]
            for name in names:
                sys.modules.pop(name, None)
            sys.modules.update(others)

    return load


def read(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("name", NAMES)
def test_data_is_made_again_as_it_is_committed_and_splits_share_no_conversation(name, pack, tmp_path):
    if name == "certainty":  # the base model's answers take long to make
        shutil.copy(pack / name / "answers.jsonl", tmp_path)
    subprocess.run([sys.executable, str(pack / name / "data.py"), "--out", str(tmp_path)], check=True, stdout=subprocess.DEVNULL)
    assert (tmp_path / "test.jsonl").read_bytes() == (pack / name / "test.jsonl").read_bytes()
    splits = ("train", "valid", "test")
    key = lambda e: (
        json.dumps([e["documents"], e["messages"]]) if name == "answerability" else [m["content"] for m in e["messages"] if m["role"] == "user"][-1]
    )
    asked = {s: {key(e) for e in read(tmp_path / f"{s}.jsonl")} for s in splits}
    assert not asked["train"] & asked["test"] and not asked["valid"] & asked["test"]


def test_no_entity_is_in_two_splits(imported):
    facts = imported("facts.py")
    of = {s: {e.name for es in facts.entities_of(s).values() for e in es} for s in facts.SPLITS}
    assert not of["train"] & of["test"] and not of["train"] & of["valid"] and not of["valid"] & of["test"]


@pytest.mark.parametrize("name", NAMES)
def test_examples_end_with_what_is_judged_and_none_is_there_twice(name, pack):
    for path in (p for p in (pack / name / f"{test}.jsonl" for test in ("test", "everyday", "others")) if p.exists()):
        examples = read(path)
        said = [json.dumps([e["messages"], e.get("documents")]) for e in examples]
        assert len(set(said)) == len(said), path.name
        assert all(e["messages"][-1]["role"] == ENDS[name] and e["output"] for e in examples), path.name


@pytest.mark.parametrize("name", NAMES)
def test_io_yaml_restates_the_last_message_behind_the_invocation(name, pack):
    example = read(pack / name / "test.jsonl")[0]
    request = {"messages": example["messages"], "extra_body": {"documents": example.get("documents", [])}}
    last = IntrinsicsRewriter(config_file=pack / name / "io.yaml").transform(request).messages[-1]
    assert (last.role, last.content) == ("user", f"<{name}> {example['messages'][-1]['content']}")
    schema = json.loads(yaml.safe_load((pack / name / "io.yaml").read_text())["response_format"])
    jsonschema.validate(example["output"], schema)


def test_io_yaml_makes_a_record_of_a_rewritten_question(pack):
    processor = IntrinsicsResultProcessor(config_file=pack / "query-rewrite" / "io.yaml")
    choice = {"index": 0, "message": {"role": "assistant", "content": '"What is the capital of Chad?"'}}
    result = processor.transform({"choices": [choice]})
    assert json.loads(result.choices[0].message.content) == {"rewritten_question": "What is the capital of Chad?"}


@pytest.mark.parametrize(
    "template, which, asked, rewritten",
    (
        ("What is the capital of {e}?", "it", "What is its capital?", "What is Chad's capital?"),
        ("When was {e} born?", "she", "When was she born?", "When was Chad born?"),
        ("What is {e} known for?", "he", "What is he known for?", "What is Chad known for?"),
        ("Who taught {e}?", "he", "Who taught him?", "Who taught Chad?"),
        ("Which city is {e}'s capital?", "it", "Which city is its capital?", "Which city is Chad's capital?"),
    ),
)
def test_what_refers_is_replaced_by_the_name_and_the_rest_is_kept(template, which, asked, rewritten, imported):
    reference = imported("query-rewrite/reference.py")
    template = reference.with_possessive(template)
    assert reference.with_pronoun(template, which) == asked
    assert reference.named(template, "Chad") == rewritten


@pytest.mark.parametrize(
    "mode, accepted, among, question, answer, right",
    (
        ("name", ("Lima",), ("Quito", "Cusco"), "What is the capital of Peru?", "The capital of Peru is Lima.", True),
        ("name", ("Lima",), ("Quito", "Cusco"), "What is the capital of Peru?", "It is Cusco, not Lima.", False),
        ("name", ("Lima",), ("Quito", "Cusco"), "What is the capital of Peru?", "A large city.", False),
        ("name", ("Lima",), ("Quito",), "What is the capital of Peru?", "I'm sorry, I cannot say.", None),
        ("number", ("12",), (), "What is 7 plus 5?", "7 plus 5 is 12.", True),
        ("number", ("12",), (), "What is 7 plus 5?", "It is 13, or 12.", False),
        ("number", ("1200",), (), "How many are there?", "There are 1,200.", True),
        ("time", ("19:15",), (), "When does it close?", "At 7:15 pm.", True),
        ("time", ("9:15",), (), "When does it open?", "At 9:45.", False),
        ("letters", ("He",), (), "What is the symbol of Helium?", "It is He.", True),
        ("letters", ("TD",), (), "What is the code of Chad?", "The code is TCD.", False),
        ("choice", ("Peru",), ("Chad",), "Which has more people, Peru or Chad?", "Peru has more people than Chad.", True),
        ("choice", ("Peru",), ("Chad",), "Which has more people, Peru or Chad?", "Chad.", False),
        ("choice", ("Peru",), ("Chad",), "Which has more people, Peru or Chad?", "Both Chad and Peru have people.", None),
        ("yes", ("no",), (), "Is Lima in Chad?", "No, it is in Peru.", True),
        ("yes", ("no",), (), "Is Lima in Chad?", "Yes.", False),
    ),
)
def test_answers_are_checked_strictly(mode, accepted, among, question, answer, right, imported):
    checker = imported("certainty/checker.py")
    assert checker.is_right(checker.Check(mode, accepted, among), question, answer) is right


@pytest.fixture(scope="module")
def model(pack, base_q4, tmp_path_factory):
    """With the adapters of NAMES."""
    from alora_gguf import Model
    from alora_gguf.convert import convert

    folder = tmp_path_factory.mktemp("pack")
    with Model(base_q4, n_ctx=2048) as model:
        for name in NAMES:
            convert(pack / name / "adapter", folder / f"{name}.gguf", base=base_q4)
            model.load_adapter(folder / f"{name}.gguf")
        yield model


@pytest.mark.rare
@pytest.mark.parametrize("file, share, least", (("test.jsonl", 0.7, 0.7), ("everyday.jsonl", 0.7, 0.7), ("others.jsonl", 0.5, 0.65)))
def test_what_a_text_holds_is_answerable(file, share, least, model, pack):
    """The share on the right side of one half and the AUROC, on every few of the examples; the card has more, and what the base gets."""
    from alora_gguf.eval.metrics import auroc

    examples = read(pack / "answerability" / file)
    labels = [e["output"]["answerability"] == "answerable" for e in examples]
    assert 2 * sum(labels) == len(examples)
    step = 2 * (len(examples) // 49) + 1
    likelihoods = [
        model.conversation(messages=e["messages"]).invoke("answerability", documents=e["documents"]).result["answerability_likelihood"]
        for e in examples[::step]
    ]
    assert sum((x > 0.5) == label for x, label in zip(likelihoods, labels[::step], strict=True)) >= share * len(likelihoods)
    assert auroc(likelihoods, labels[::step]) >= least


@pytest.mark.rare
@pytest.mark.parametrize("file, least", (("test.jsonl", 0.6), ("others.jsonl", 0.7)))
def test_right_answers_are_more_certain_than_wrong_ones(file, least, model, pack):
    """AUROC on every few of the examples; the card has more."""
    from alora_gguf.eval.metrics import auroc

    examples = read(pack / "certainty" / file)
    examples = examples[:: len(examples) // 40]
    certainties = [model.conversation(messages=e["messages"]).invoke("certainty").result["certainty"] for e in examples]
    assert auroc(certainties, [e["output"] == "right" for e in examples]) >= least


@pytest.mark.rare
@pytest.mark.parametrize("file, share", (("test.jsonl", 0.6), ("others.jsonl", 0.4)))
def test_questions_are_rewritten_letter_by_letter(file, share, model, pack):
    """On every few of the examples; the card has more, and what the base gets: 16% and 33%."""
    examples = read(pack / "query-rewrite" / file)
    examples = examples[:: len(examples) // 14]
    got = [model.conversation(messages=e["messages"]).invoke("query-rewrite").result for e in examples]
    right = sum(g == {"rewritten_question": e["output"]} for g, e in zip(got, examples))
    assert right >= share * len(examples)


def test_the_last_question_is_rewritten_though_it_is_answered(model):
    chat = model.conversation(
        messages=[
            {"role": "user", "content": "When was Isaac Newton born?"},
            {"role": "assistant", "content": "Isaac Newton was born in 1643."},
            {"role": "user", "content": "Where was he born?"},
            {"role": "assistant", "content": "In Woolsthorpe."},
        ]
    )
    assert chat.invoke("query-rewrite").result == {"rewritten_question": "Where was Isaac Newton born?"}


def test_no_sentence_of_the_prose_is_in_a_test(pack):
    folder = pack / "answerability"
    [_, *blocks] = (folder / "prose.txt").read_text(encoding="utf-8").split("\n\n")
    sentences = {
        part.strip() for block in blocks for line in block.split("\n") for part in line.split(" | ")[0].lstrip("+- ").split(". ") if part.strip()
    }
    for test in ("test", "everyday", "others"):
        said = "\n".join(
            m["content"] for e in read(folder / f"{test}.jsonl") for m in [*e["messages"], *({"content": d["text"]} for d in e["documents"])]
        )
        assert not [sentence for sentence in sentences if sentence in said]
