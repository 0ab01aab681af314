"""Tasks of others that are not trained on, to stop training by and to fit the temperatures on: what is trained on flatters these.

Of the wheel of evals 3.0.1.post1 (MIT, but for the data it names): Social IQA (CC BY 4.0; Sap et al., 2019), what people feel, want and
do next; and QuaRTz (CC BY 4.0; Tafjord et al., 2019), what becomes more or less. None of their kinds is in others.jsonl.
"""

import json
import random
import re
import zipfile
from pathlib import Path
from typing import Any

from rows import Asked, choice, predicate, row

FOLDER = "evals/registry/data/"


def social(text: str, ideal: str) -> tuple[str, str, list[str], int] | None:
    """`Alex found a ring. What will Alex do? A: this; B: that; C: other.`"""
    head, *options = re.split(r"\s*;?\s*\b[ABC]: ", text)
    story, _, question = head.strip().rpartition(". ")
    if not story or len(options) != 3:
        return None
    return f"{story}.", question, [o.rstrip(". ") for o in options], "ABC".index(ideal)


def quartz(text: str, ideal: str) -> tuple[str, str, list[str], int] | None:
    """A sentence without its end, and two ends."""
    head, *options = re.split(r"\n\s*[AB]: ", text)
    return (head.strip(), "How does it go on?", [o.strip() for o in options], "AB".index(ideal)) if len(options) == 2 else None


FILES = {"social": ("theory_of_mind/socialiqa/test.jsonl", social), "quartz": ("quartz/samples.jsonl", quartz)}


def asked(question: str, options: list[str], right: int, rng: random.Random) -> list[Asked]:
    """Which of the options, and of one of them whether it is so."""
    said = right if rng.random() < 0.5 else rng.choice([i for i in range(len(options)) if i != right])
    return [choice(question, options, options[right]), predicate(f"{question} {options[said]}.", said == right)]


def rows_of(wheel: Path, n: int, rng: random.Random) -> list[dict[str, Any]]:
    """`n` of each."""
    rows: list[dict[str, Any]] = []
    with zipfile.ZipFile(wheel) as archive:
        for kind, (name, read) in FILES.items():
            lines = [json.loads(line) for line in archive.read(FOLDER + name).decode().splitlines()]
            found = [made for line in lines if (made := read(line["input"][-1]["content"], line["ideal"])) and len(set(made[2])) == len(made[2])]
            rows += [row(state, asked(question, options, right, rng), kind=kind) for state, question, options, right in rng.sample(found, n)]
    return rows
