"""Words: token texts, names and cards."""

import json
from pathlib import Path

import pytest

from alora_gguf.convert.base.vocabulary import Vocabulary
from alora_gguf.convert.peft.card import front_matter, name_from_path
from alora_gguf.text import complaint, human_bytes, printable, printable_json


def test_byte_level_tokens():
    tokens = ["<|im_start|>", "\u0120caf\u00c3\u00a9", "\u010a", "\u00c3"]
    vocabulary = Vocabulary("gpt2", [t.encode() for t in tokens], [3, 1, 1, 1])
    assert vocabulary.text([0, 1, 2]) == "<|im_start|> caf\u00e9\n"
    assert vocabulary.text([3]) == "\ufffd"


def test_every_byte_has_a_character():
    from alora_gguf.convert.base.vocabulary import _byte_of_character

    assert sorted(_byte_of_character().values()) == list(range(256))


def test_sentencepiece_tokens():
    vocabulary = Vocabulary("llama", [b"<s>", "\u2581a".encode(), b"<0x0A>", b"<0xC3>", b"<0xA9>"], [3, 1, 6, 6, 6])
    assert vocabulary.text([0, 1, 2, 3, 4]) == "<s> a\n\u00e9"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/x/answerability", "answerability"),
        ("/x/answerability/granite-3.2-8b/alora", "answerability"),
        ("/x/answerability/lora/granite-3.2-8b", "answerability"),
        ("/c/models--who--certainty/snapshots/abc", "certainty"),
        ("/", "adapter"),
    ],
)
def test_name_from_path(path, name):
    assert name_from_path(Path(path)) == name


def test_front_matter():
    card = "---\nlicense: mit\ndescription: 'one: two'\nbase_model:\n- a/b\ntags: [a]\nx: |\n  y\n---\ntext\nlicense: other\n"
    assert front_matter(card) == {"license": "mit", "description": "one: two"}
    assert front_matter("no card") == front_matter("") == {}


def test_complaints_are_one_line():
    assert complaint("f", "o", "X", "Y", "do") == "f: o: expected X, got Y; do"
    assert complaint("f", "o", "X", "a\nb\x1b", "do") == "f: o: expected X, got a\\nb\\x1b; do"
    assert len(printable("x" * 5000)) == 200


@pytest.mark.parametrize(("n", "text"), [(0, "0 B"), (999, "999 B"), (19_600_000, "19.6 MB"), (7 * 10**12, "7000.0 GB")])
def test_human_bytes(n, text):
    assert human_bytes(n) == text


def test_json_for_terminals():
    value = {"a\x9b": ["caf\u00e9\x1b[2J", "\u202e\U0001f469\u200d\U0001f52c \U000e0001\n"], "n": 1.5}
    text = printable_json(value)
    assert json.loads(text) == value and "caf\u00e9" in text and text.count("\n") > 3
    assert all(c.isprintable() or c == "\n" for c in text)
