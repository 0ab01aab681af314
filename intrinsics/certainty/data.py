"""Makes the certainty data: conversations that end with the base model's own answer, and whether it is right.

    python intrinsics/certainty/data.py --out DIR      writes train.jsonl, valid.jsonl and test.jsonl

The answers are those of DIR/answers.jsonl, which answers.py makes. No entity is in two splits, and every split has its
own wordings.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from answers import TEMPERATURES
from checker import is_right
from facts import SPLITS
from questions import questions_of
from voice import SEED, assistant, read_jsonl, write_jsonl


def examples_of(split: str, answers: dict[tuple, str], seed: int = SEED) -> list[dict]:
    """The examples of a split; `answers` maps (split, number of the question, temperature) to the base model's text.

    Beside "messages" and "output", "right" or "wrong", an example has the `kind` of question, the `place` of the answer, the
    `temperature` and the `group` that shares what stands before the question.
    """
    examples, said = [], set()
    for number, question in enumerate(questions_of(split, seed=seed)):
        for temperature in TEMPERATURES:
            text = answers.get((split, number, temperature))
            right = is_right(question.check, question.messages[-1]["content"], text) if text else None
            messages = question.messages + [assistant(text or "")]
            if right is None or json.dumps(messages) in said:
                continue
            said.add(json.dumps(messages))
            examples.append(
                {
                    "messages": messages,
                    "output": "right" if right else "wrong",
                    "kind": question.kind,
                    "place": question.place,
                    "temperature": temperature,
                    "group": question.group,
                }
            )
    return examples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder with answers.jsonl, for train.jsonl, valid.jsonl and test.jsonl")
    parser.add_argument("--seed", type=int, default=SEED)
    arguments = parser.parse_args()
    answers = {(a["split"], a["number"], a["temperature"]): a["text"] for a in read_jsonl(arguments.out / "answers.jsonl")}
    for split in SPLITS:
        examples = examples_of(split, answers, arguments.seed)
        write_jsonl(arguments.out / f"{split}.jsonl", examples)
        right = sum(e["output"] == "right" for e in examples)
        print(f"{split}: {len(examples)} examples, {right} right")


if __name__ == "__main__":
    main()
