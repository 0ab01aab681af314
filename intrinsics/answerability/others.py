"""Makes others.jsonl: passages and questions by others, for evaluation only.

    pip download --no-deps --no-binary :all: bigbench==1.0.0
    python intrinsics/answerability/others.py bigbench-1.0.0.tar.gz

The part of SQuADShifts (CC BY 4.0; Miller et al., The Effect of Natural Distribution Shift on Question Answering Models, 2020,
https://proceedings.mlr.press/v119/miller20a.html) whose passages are from Wikipedia (CC BY-SA), as the task squad_shifts in
BIG-bench 1.0.0 has it. Each passage comes with a question that people asked of it, and with one that they asked of another
passage of the same article, none of whose answers stands in this one.
"""

import argparse
import json
import random
import sys
import tarfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from voice import SEED, user, write_jsonl

MEMBER = "bigbench-1.0.0/bigbench/benchmark_tasks/squad_shifts/new_wiki_v1.0.json"
PASSAGES = 100
AN_ARTICLE = 3
CHARACTERS = range(200, 900)  # of a passage


def stands_in(passage: str, question: dict) -> bool:
    return any(answer["text"].lower() in passage.lower() for answer in question["answers"])


def examples_of(articles: list[dict], rng: random.Random) -> list[dict]:
    chosen = []
    for article in sorted(articles, key=lambda article: article["title"]):
        short = [p for p in article["paragraphs"] if len(p["context"]) in CHARACTERS and p["qas"]]
        chosen += [(article, paragraph) for paragraph in rng.sample(short, min(AN_ARTICLE, len(short)))]
    examples = []
    for number, (article, paragraph) in enumerate(rng.sample(chosen, PASSAGES)):
        passage, title = paragraph["context"], article["title"]
        elsewhere = [q for p in article["paragraphs"] if p is not paragraph for q in p["qas"] if not stands_in(passage, q)]
        for question, output, reason in (
            (rng.choice(paragraph["qas"]), "answerable", "stated"),
            (rng.choice(elsewhere), "unanswerable", "another passage's"),
        ):
            examples.append(
                {
                    "messages": [user(question["question"])],
                    "documents": [{"text": passage}],
                    "output": {"answerability": output},
                    "reason": reason,
                    "passage": number,
                    "source": f"SQuADShifts, {title}, {question['id']}",
                }
            )
    return examples


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("archive", type=Path, help="the source distribution of bigbench 1.0.0")
    arguments = parser.parse_args()
    with tarfile.open(arguments.archive) as archive:
        articles = json.load(archive.extractfile(MEMBER))["data"]
    examples = examples_of(articles, random.Random(SEED))
    write_jsonl(Path(__file__).parent / "others.jsonl", examples)
    print(f"{len(examples)} examples, {PASSAGES} passages")


if __name__ == "__main__":
    main()
