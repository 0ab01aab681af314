"""What is odd about an io.yaml, on the embedded model's vocabulary."""

import pytest
import yaml
from published import ANSWERABILITY, ATTRIBUTION, CITATIONS, RELEVANCE, REQUIREMENT, REWRITE, STUB

from alora_gguf.prompt.io_yaml import IntrinsicIO
from alora_gguf.prompt.problems import problems
from alora_gguf.runtime.vocab import load_vocab

PLAIN = {"model": None, "response_format": None, "transformations": None}


@pytest.fixture(scope="module")
def vocab(base_q4):
    with load_vocab(base_q4) as vocab:
        yield vocab


@pytest.fixture
def said(vocab):
    def said(config, invocation="<check>"):
        io = IntrinsicIO.read(config if isinstance(config, str) else yaml.safe_dump(PLAIN | config), "x.io.yaml")
        return problems(io, vocab.tokenize(invocation) if invocation else [], vocab)

    return said


@pytest.mark.parametrize("config", [STUB, ANSWERABILITY, REQUIREMENT, RELEVANCE, REWRITE], ids=range(5))
def test_nothing_is_odd(said, config):
    assert said(config) == said(config, "") == []


@pytest.mark.parametrize(("instruction", "shown"), [
    ("<check>. Is it so?", "['<', 'check', '>.']"),
    ("Well, <check>.{claim}", "[' <', 'check', '>.']"),
    ("<check>=", "['<', 'check', '>=']"),
], ids=range(3))  # fmt: skip
def test_an_invocation_that_is_tokenised_as_something_else(said, vocab, instruction, shown):
    [line] = said({"instruction": instruction})
    got = f"got '<check>' as {shown}; its own tokens are put there; another engine would answer without the adapter"
    assert line == f"x.io.yaml: instruction: expected the tokens {vocab.tokenize('<check>')} of its invocation '<check>', {got}"


@pytest.mark.parametrize("instruction", ["<check> Is it so?", "<check>\n{claim}", "{claim}", "Is it so?", "<check>.\n<check> "])
def test_one_that_has_its_tokens_or_stands_elsewhere(said, instruction):
    assert said({"instruction": instruction}) == []


def likelihood(*labels, path=()):
    values = {label: float(i) for i, label in enumerate(labels)}
    return {"transformations": [{"type": "likelihood", "input_path": list(path), "categories_to_values": values}]}


def test_labels(said):
    assert said(likelihood("yes", "no", path=["score"])) == said(likelihood("yes", "no")) == said(likelihood(*range(10))) == []
    [line] = said(likelihood("yes please", "yes indeed"))
    assert line == (
        "x.io.yaml: transformations: expected labels whose first tokens differ, got 'yes indeed' and 'yes please'; "
        "the likelihood takes one for the other"
    )


def test_a_label_that_is_joined_to_the_quote(said):
    [line] = said(likelihood("./a", "b"))
    assert line.startswith("x.io.yaml: transformations: expected labels that begin a token, as './a' does not in \"./a\", got one that is joined")


def test_keys(said):
    schema = {"response_format": {"type": "object", "properties": {"score": {"type": "string"}}}}
    assert said(schema | {"instruction": 'Answer {{"score": "yes"}}.'}) == []
    [line] = said(schema | {"instruction": 'Answer {{"label": "yes"}}.'})
    assert line == "x.io.yaml: instruction: expected the keys of response_format, score, got label; the grammar allows the first"


@pytest.mark.parametrize(("config", "sources"), [(CITATIONS, "documents"), (ATTRIBUTION, "documents, all_but_last_message")])
def test_a_history_that_is_rewritten(said, config, sources):
    [line] = said(config, "")
    assert line == f"x.io.yaml: sentence_boundaries: expected the conversation as it is, got numbers in {sources}; what is cached is not used again"
