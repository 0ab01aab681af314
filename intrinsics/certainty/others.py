"""Makes others.jsonl: questions by others with the base model's own answers, for evaluation only.

    pip download --no-deps --no-binary :all: bigbench==1.0.0
    python intrinsics/certainty/others.py bigbench-1.0.0.tar.gz

The facts are those of the task qa_wikidata in BIG-bench 1.0.0 (Apache 2.0; from Wikidata, CC0). Its prompt `The native language
of X is` is asked as `What is the native language of X?`, answered greedily, and checked as checker.py does.
"""

import argparse
import json
import random
import re
import sys
import tarfile
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from answers import AT_ONCE, answer
from checker import Check, is_right
from questions import Question
from voice import SEED, assistant, user, write_jsonl

from alora_gguf import Model
from alora_gguf.bundled import default_model

MEMBER = "bigbench-1.0.0/bigbench/benchmark_tasks/qa_wikidata/task.json"
RELATIONS = ("country of citizenship", "native language", "religion", "instrument", "official language", "capital", "headquarters location")
EACH = 50  # of a relation


def questions(task: dict) -> list[Question]:
    """Some questions of each relation, whose names do not give the answer away."""
    asked = defaultdict(list)
    for example in task["examples"]:
        found = re.fullmatch(f"The ({'|'.join(RELATIONS)}) of (.+) is", example["input"])
        if found:
            targets = [example["target"]] if isinstance(example["target"], str) else example["target"]
            if not any(t.lower() in found[2].lower() for t in targets):
                asked[found[1]].append((found[2], targets))
    rng, drawn = random.Random(SEED), []
    for relation in RELATIONS:
        among = tuple(sorted({t for _, targets in asked[relation] for t in targets}))
        for name, targets in rng.sample(asked[relation], min(EACH, len(asked[relation]))):
            text = f"What is the {relation} of {name}?"
            drawn.append(Question([user(text)], Check("name", tuple(targets), among), relation, "known", len(drawn)))
    return drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="the source distribution of bigbench 1.0.0")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    with tarfile.open(arguments.archive) as archive:
        asked = questions(json.load(archive.extractfile(MEMBER)))
    model, examples = Model(default_model(), n_ctx=3072, n_seq_max=AT_ONCE + 4, n_threads=arguments.threads), []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for question, text in zip(asked, pool.map(lambda q: answer(model, q, 0.0, SEED), asked), strict=True):
            right = is_right(question.check, question.messages[0]["content"], text)
            if right is not None:
                examples.append(
                    {
                        "messages": [*question.messages, assistant(text)],
                        "output": "right" if right else "wrong",
                        "kind": question.kind,
                        "source": "BIG-bench qa_wikidata",
                    }
                )
    model.close()
    write_jsonl(Path(__file__).with_name("others.jsonl"), examples)
    print(f"{len(examples)} examples, {sum(e['output'] == 'right' for e in examples)} right")


if __name__ == "__main__":
    main()
