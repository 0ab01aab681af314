"""`alora decide` and /decide: what they read, and what they print."""

import io
import json
import re

import pytest

from alora_gguf.reply import Decision, Usage
from alora_gguf.terminal.summary import decided

QUESTIONS = {
    "refund": {"type": "noul", "instructions": "The customer wants the money back."},
    "team": {"type": "choice", "instructions": "Who should take it?", "criteria": {"billing": "Payments.", "technical": None}},
    "anger": {"type": "score", "instructions": "How angry?", "criteria": ["calm", "furious"]},
}


@pytest.fixture
def files(tmp_path):
    def files(state="I was charged twice.", questions=QUESTIONS, name="state.txt"):
        (tmp_path / name).write_text(state, encoding="utf-8")
        (tmp_path / "questions.json").write_text(questions if isinstance(questions, str) else json.dumps(questions), encoding="utf-8")
        return "decide", "--state", tmp_path / name, "--questions", tmp_path / "questions.json", "--threads", 1

    return files


def test_a_line_for_each(alora, files):
    code, out, err = alora(*files())
    assert (code, err) == (0, "")
    assert [line.partition(":")[0] for line in out.splitlines()] == list(QUESTIONS)


def test_options_are_written_as_in_json():
    decision = Decision("choice", {True: 0.25, "maybe": 0.625, None: 0.125}, Usage(0, 0, 0, 0, 0))
    assert decided(decision) == "maybe 0.62, true 0.25, null 0.12"


def test_json_of_messages(alora, files):
    messages = [{"role": "user", "content": "I was charged twice."}, {"role": "assistant", "content": "I am sorry."}]
    code, out, _ = alora(*files(json.dumps(messages), name="state.json"), "--json", "--orders", 2)
    found = json.loads(out)
    assert code == 0
    assert [one["kind"] for one in found["decisions"].values()] == ["predicate", "choice", "score"]
    for one in found["decisions"].values():
        assert sum(share["probability"] for share in one["probabilities"]) == pytest.approx(1)
    assert found["usage"]["completion_tokens"] == 0


def test_standard_input_and_a_byte_order_mark(alora, files, monkeypatch):
    """The same state is the same state, wherever it comes from."""

    def probabilities(*argv):
        code, out, err = alora(*argv, "--json")
        assert code == 0, err
        return [one["probabilities"] for one in json.loads(out)["decisions"].values()]

    def piped(text):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode()), encoding="utf-8"))
        return probabilities(*files()[:2], "-", *files()[3:])

    text = probabilities(*files())
    assert probabilities(*files("\ufeffI was charged twice.", "\ufeff" + json.dumps(QUESTIONS))) == text
    assert piped("I was charged twice.") == piped("\ufeffI was charged twice.") == text
    messages = '[{"role": "user", "content": "I was charged twice."}, {"role": "assistant", "content": "I am sorry."}]'
    assert piped(messages) == probabilities(*files(messages, name="state.JSON")) != probabilities(*files(messages))
    monkeypatch.setattr("sys.stdin", None)  # of a process that has none
    assert alora(*files()[:2], "-", *files()[3:])[2].startswith("alora: error: -: state: expected text")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"questions": "{"}, "questions.json: expected JSON"),
        ({"questions": {}}, "expected an object with a question"),
        ({"questions": {"q": {"type": "box"}}}, "q.type: expected predicate"),
        ({"questions": {"q": "nobody"}}, "questions['q']: adapter 'nobody'"),
        ({"questions": '{"q": {"type": "noul", "instructions": "x"}, "q": "nobody"}'}, "questions.json: expected each name once"),
        ({"questions": []}, "questions.json: expected an object with a question"),
        ({"questions": {"q": {"type": "choice", "instructions": "x", "criteria": ["a", ""]}}}, "q.criteria: expected texts or booleans, got ''"),
        ({"state": " "}, "state.txt: state: expected text"),
        ({"state": '[{"role": "user"}]', "name": "state.json"}, "state.json: messages[0]: expected a role and content"),
        ({"state": "[", "name": "state.json"}, "state.json: expected JSON"),
    ],
)
def test_errors_are_one_line(alora, files, given, said):
    code, out, err = alora(*files(**given))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err


def test_in_the_chat(alora, monkeypatch, capfd):
    monkeypatch.setattr("sys.stdin", io.StringIO(f"/decide The sky is blue.\n/decide Which? this | that\n/decide\n/decide {'very ' * 900}\n"))
    code, out, err = alora("chat", "--threads", 1, "--ctx", 512)
    lines = out.splitlines()
    assert any(line.startswith(("yes, 0.", "no, 0.", "yes, 1.", "no, 1.")) for line in lines), out
    assert any(line.startswith(("this 0.", "that 0.", "this 1.", "that 1.")) for line in lines), out
    assert "/decide: expected a statement" in out + err
    assert "context: expected at most 512 tokens" in (out + err).splitlines()[-1]  # and nothing of what it took


def test_the_blocks_of_the_page_run(repo, capfd):
    page = (repo / "docs" / "decisions.md").read_text(encoding="utf-8")
    names: dict = {}
    try:
        for block in re.findall(r"```python\n(.*?)```", page, re.S):
            exec(block, names)
    finally:
        names["model"].close()
    assert "refund 0." in capfd.readouterr().out
