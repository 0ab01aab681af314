"""`alora eval` on a few examples, with an ordinary LoRA beside the aLoRA and without one."""

import json

import pytest

from alora_gguf.cli import main

EXAMPLES = [
    {"messages": [{"role": "user", "content": f"{text} {question}"}], "output": output}
    for text, question, output in (
        ("The shop opens at nine.", "When does it open?", "answerable"),
        ("The shop opens at nine.", "Who owns it?", "unanswerable"),
        ("Oslo lies in Norway.", "Where is Oslo?", "answerable"),
    )
]
PROMPTED = 'model: ~\nresponse_format: \'{"type": "string", "enum": ["answerable", "unanswerable"]}\'\ntransformations: ~\ninstruction: "Is it answerable?"\n'


@pytest.fixture
def plan(variants, tmp_path):
    """Of the repository's adapter and the same as an ordinary LoRA."""
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(e) + "\n" for e in EXAMPLES))
    (tmp_path / "prompted.yaml").write_text(PROMPTED)
    path = tmp_path / "eval.toml"
    path.write_text(
        f"name = 'answerability'\nalora = '{variants['answerability']}'\nlora = '{variants['plain']}'\nprompted = 'prompted.yaml'\n"
        "tests = { a = 'test.jsonl' }\n"
    )
    return path


def test_the_lead_is_over_the_base_and_the_lora_on_the_same_examples(plan, capsys):
    assert main(["eval", str(plan), "--threads", "1", "--out", str(plan.parent / "docs")]) == 0
    rows = {row["way"]: row for row in json.loads((plan.parent / "docs" / "intrinsics.json").read_text())["answerability"]["rows"]}
    assert list(rows) == ["base, prompted", "LoRA", "aLoRA"]
    for way in ("base, prompted", "LoRA"):
        assert rows[way]["lead"] == pytest.approx(rows["aLoRA"]["accuracy"] - rows[way]["accuracy"])
        low, high = rows[way]["lead_interval"]
        assert low <= rows[way]["lead"] <= high
    assert "lead" not in rows["aLoRA"] and rows["LoRA"]["tokens"] > rows["aLoRA"]["tokens"]  # the LoRA finds nothing in the cache
    assert "aLoRA's lead, points" in capsys.readouterr().out


def test_the_page_keeps_what_other_runs_measured(plan, capsys):
    docs = plan.parent / "docs"
    for name in ("answerability", "another"):
        plan.write_text(plan.read_text().replace("answerability'\nalora", f"{name}'\nalora"))
        assert main(["eval", str(plan), "--threads", "1", "--limit", "1", "--out", str(docs)]) == 0
    page = (docs / "intrinsics.md").read_text()
    assert page.index("## another") < page.index("## answerability") and page.count("| aLoRA |") == 2
    (docs / "intrinsics.json").write_text('{"answerability": {}}')
    assert main(["eval", str(plan), "--threads", "1", "--limit", "1", "--out", str(docs)]) != 0
    assert "intrinsics.json: expected what `alora eval --out` wrote" in capsys.readouterr().err


def test_the_output_of_an_enum_is_the_likeliest_of_its_own():
    torch = pytest.importorskip("torch")
    from alora_gguf.eval.peft_model import _is_said

    logits = torch.zeros(3, 10)
    logits[:, 9] = 5.0  # no output has this one
    logits[1, 3], logits[1, 4] = 1.0, 2.0
    enum = [[1, 3, 2], [1, 4, 5, 2]]
    assert not _is_said(logits, [1, 3, 2], enum) and _is_said(torch.cat([logits, logits[:1]]), [1, 4, 5, 2], enum)


def test_without_the_lora_its_rows_are_left_out_and_that_is_said(plan, capsys):
    plan.write_text(plan.read_text().replace("plain.gguf", "none.gguf"))
    assert main(["eval", str(plan), "--threads", "1", "--limit", "1"]) == 0
    said = capsys.readouterr()
    [line] = [line for line in said.err.splitlines() if "none.gguf" in line]
    assert "left out" in line and "| LoRA |" not in said.out and "| aLoRA |" in said.out
