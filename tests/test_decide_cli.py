"""`alora decide` and /decide: what they read, and what they print."""

import io
import json
import re

import pytest

QUESTIONS = {
    "refund": {"type": "noul", "instructions": "The customer wants the money back."},
    "team": {"type": "choice", "instructions": "Who should take it?", "criteria": {"billing": "Payments.", "technical": None}},
    "anger": {"type": "score", "instructions": "How angry?", "criteria": ["calm", "furious"]},
}


@pytest.fixture
def files(tmp_path):
    def files(state="I was charged twice.", questions=QUESTIONS, name="state.txt"):
        (tmp_path / name).write_text(state)
        (tmp_path / "questions.json").write_text(questions if isinstance(questions, str) else json.dumps(questions))
        return "decide", "--state", tmp_path / name, "--questions", tmp_path / "questions.json", "--threads", 1

    return files


def test_a_line_for_each(alora, files):
    code, out, err = alora(*files())
    assert (code, err) == (0, "")
    assert [line.partition(":")[0] for line in out.splitlines()] == list(QUESTIONS)


def test_json_of_messages(alora, files):
    messages = [{"role": "user", "content": "I was charged twice."}, {"role": "assistant", "content": "I am sorry."}]
    code, out, _ = alora(*files(json.dumps(messages), name="state.json"), "--json", "--orders", 2)
    found = json.loads(out)
    assert code == 0
    assert [one["kind"] for one in found["decisions"].values()] == ["predicate", "choice", "score"]
    for one in found["decisions"].values():
        assert sum(share["probability"] for share in one["probabilities"]) == pytest.approx(1)
    assert found["usage"]["completion_tokens"] == 0


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
    monkeypatch.setattr("sys.stdin", io.StringIO("/decide The sky is blue.\n/decide Which? this | that\n/decide\n"))
    code, out, err = alora("chat", "--threads", 1)
    lines = out.splitlines()
    assert any(line.startswith(("yes, 0.", "no, 0.", "yes, 1.", "no, 1.")) for line in lines), out
    assert any(line.startswith(("this 0.", "that 0.", "this 1.", "that 1.")) for line in lines), out
    assert "/decide: expected a statement" in out + err


def test_the_blocks_of_the_page_run(repo, capfd):
    page = (repo / "docs" / "decisions.md").read_text(encoding="utf-8")
    names: dict = {}
    try:
        for block in re.findall(r"```python\n(.*?)```", page, re.S):
            exec(block, names)
    finally:
        names["model"].close()
    assert "refund 0." in capfd.readouterr().out
