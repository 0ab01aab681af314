"""Lines of data: what is wrong is named with its line."""

import json

import pytest

from alora_gguf.errors import TrainError
from alora_gguf.train.data import read_lines, split

GOOD = {"messages": [{"role": "user", "content": "hello"}], "output": "glad", "note": "left alone"}


def write(path, *lines):
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_reads_what_is_there(tmp_path):
    documents = [{"text": "a text", "doc_id": "7"}]
    lines = read_lines(write(tmp_path / "data.jsonl", GOOD, "", {**GOOD, "documents": documents, "arguments": {"x": "y"}, "output": [1]}))
    assert [line.output for line in lines] == ["glad", [1]]
    assert lines[1].documents == documents and lines[1].arguments == {"x": "y"}
    assert lines[1].where.endswith("data.jsonl: line 3")


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("{", "JSON object"),
        ("[]", "JSON object"),
        ({"output": "x"}, "messages"),
        ({**GOOD, "messages": []}, "messages"),
        ({**GOOD, "messages": ["hello"]}, "messages[0]"),
        ({**GOOD, "messages": [{"role": "user"}]}, "messages[0]"),
        ({"messages": GOOD["messages"]}, "output"),
        ({**GOOD, "documents": ["text"]}, "documents"),
        ({**GOOD, "arguments": {"x": 1}}, "arguments"),
        ("[" * 100000, "JSON object"),
    ],
)
def test_names_the_line_and_what_is_wrong_with_it(tmp_path, line, wanted):
    with pytest.raises(TrainError) as error:
        read_lines(write(tmp_path / "data.jsonl", GOOD, line))
    assert "data.jsonl: line 2" in str(error.value) and wanted in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"\xff\xfe"])
def test_refuses_a_file_without_examples(tmp_path, content):
    (tmp_path / "data.jsonl").write_bytes(content)
    with pytest.raises(TrainError, match="data.jsonl"):
        read_lines(tmp_path / "data.jsonl")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TrainError, match="nowhere.jsonl"):
        read_lines(tmp_path / "nowhere.jsonl")


def test_a_conversation_is_held_out_whole(tmp_path):
    lines = [{**GOOD, "messages": [{"role": "user", "content": str(i // 2)}], "output": str(i)} for i in range(40)]
    train, held = split(read_lines(write(tmp_path / "data.jsonl", *lines)), 0.2, seed=1)
    assert (len(train), len(held)) == (32, 8)
    assert not {line.messages[0]["content"] for line in train} & {line.messages[0]["content"] for line in held}


def test_one_conversation_cannot_be_split(tmp_path):
    with pytest.raises(TrainError, match="--eval"):
        split(read_lines(write(tmp_path / "data.jsonl", GOOD, GOOD)), 0.1, seed=0)
