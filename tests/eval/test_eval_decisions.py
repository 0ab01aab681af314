"""`alora eval` on rows of decisions: the figures are those of the answers."""

import json

import pytest

from alora_gguf.cli import main
from alora_gguf.eval import metrics

ROWS = [
    {
        "state": text,
        "questions": {
            "wet": {"type": "predicate", "instructions": "It is wet outside."},
            "what": {"type": "choice", "instructions": "What is the weather?", "criteria": ["rain", "sun", "snow"]},
            "much": {"type": "score", "instructions": "How much rain?", "criteria": ["none", "some", "much"]},
        },
        "right": {"wet": what == "rain", "what": what, "much": 2 if what == "rain" else 0},
        "kind": what,
    }
    for text, what in (("It pours.", "rain"), ("Not a cloud.", "sun"), ("All is white.", "snow"))
]


@pytest.fixture
def plan(variants, tmp_path):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    path = tmp_path / "eval.toml"
    path.write_text(
        f"name = 'plain'\ndecisions = true\nlora = '{variants['plain']}'\ntests = {{ weather = 'rows.jsonl' }}\nby = ['type', 'kind', 'task']\n"
    )
    return path


def test_every_question_counts_once_whoever_answers(plan, capsys):
    assert main(["eval", str(plan), "--threads", "1", "--out", str(plan.parent / "docs")]) == 0
    rows = json.loads((plan.parent / "docs" / "intrinsics.json").read_text())["plain"]["rows"]
    assert [row["way"] for row in rows] == ["base, prompted", "LoRA"]
    for row in rows:
        assert row["n"] == 9 and 0 <= row["ece"] <= 1 and 0 <= row["brier"] <= 2 and 0 < row["moved"] < 1
        assert sum(right for right, _ in row["parts"]["type"].values()) == pytest.approx(9 * row["accuracy"])
        assert {of for _, of in row["parts"]["kind"].values()} == {3}
        assert "task" not in row["parts"]  # which no row has
        chance = 3 * (1 / 2 + 1 / 3 + 1 / 3)
        assert row["corrected"] == pytest.approx((9 * row["accuracy"] - chance) / (9 - chance))
    said = capsys.readouterr().out
    assert "less chance" in said and "moved" in said and "| weather | LoRA | 9 |" in said


def test_less_chance_is_nothing_for_a_guesser_and_one_for_the_right():
    assert metrics.chance_corrected([1, 0, 0, 1], [0.5, 0.25, 0.75, 0.5]) == 0
    assert metrics.chance_corrected([1, 1], [0.5, 0.1]) == 1
    assert metrics.chance_corrected([0, 0], [0.5, 0.5]) == -1


def test_how_far_probabilities_move_is_between_the_two_orders(base_q4):
    """Against the two orders asked one by one."""
    from alora_gguf import Choice, Model
    from alora_gguf.eval.decisions import answers
    from alora_gguf.train.decisions import DecisionLine, RightOf

    options = ["rain", "sun"]
    messages = [{"role": "user", "content": "It pours."}]
    line = DecisionLine("here", messages, [RightOf("here", Choice("What is the weather?", options), (1.0, 0.0))])
    with Model(base_q4, n_ctx=512, n_threads=1) as model:
        [answer] = answers(model, line, None)
        one, other = (model.decide(messages, {"q": Choice("What is the weather?", order)})["q"].probabilities for order in (options, options[::-1]))
    assert answer.shares.tolist() == pytest.approx([one["rain"], one["sun"]], abs=1e-6)
    assert answer.moved == pytest.approx(abs(one["rain"] - other["rain"]), abs=1e-5) and answer.moved > 0


def test_a_plan_of_outputs_needs_to_know_how_the_base_is_asked(plan, capsys):
    plan.write_text(plan.read_text().replace("decisions = true\n", ""))
    assert main(["eval", str(plan)]) == 2
    assert "expected prompted" in capsys.readouterr().err
