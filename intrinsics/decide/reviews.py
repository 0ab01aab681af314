"""Short opinions that people rated from -4 to 4: reviews of films and products, and pieces of editorials.

The data of VADER (MIT; Hutto and Gilbert, VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text, ICWSM 2014)
in the source distribution of vaderSentiment 3.3.2. Its tweets are left out.
"""

import hashlib
import tarfile
from pathlib import Path

from facts import SPLITS
from rows import Asked, choice, predicate, score
from voice import Voice

INNER = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
FILES = {"film": "movieReviewSnippets", "product": "amazonReviewSnippets", "newspaper": "nytEditorialSnippets"}
CLEAR = 1.0  # a mean rating from which on it is positive; below its negative, negative
CHARACTERS = range(20, 300)
ASK = "What is the sentiment? | Does the writer like it? | Is this positive or negative? | How does the text sound? | Opinion of the author | Sentiment || What does the author think of it? || Which mood is it in?"
PAIRS = (
    ("positive", "negative"),
    ("likes it", "dislikes it"),
    ("good", "bad"),
    ("praise", "criticism"),
    ("favourable", "unfavourable"),
    ("yes", "no"),
    ("happy", "unhappy"),
)
LEVELS = (
    ("very negative", "negative", "neutral", "positive", "very positive"),
    ("terrible", "bad", "mixed", "good", "excellent"),
    ("1 star", "2 stars", "3 stars", "4 stars", "5 stars"),
)
ASK_LEVEL = "How good is it? | Rate the sentiment. | How positive is the text? | Stars || How favourable is the opinion? || Which rating fits?"
PRO = "The writer likes it. | The opinion is positive. | Is it praise? | The text sounds pleased. || Would the author recommend it? || The author is content."
CON = "The writer dislikes it. | The opinion is negative. | Is it criticism? | The text sounds displeased. || Would the author warn against it? || The author is disappointed."


class Reviews:
    """Of the source distribution: (kind, text, mean rating), by split."""

    def __init__(self, archive: Path):
        self.by_split: dict[str, list[tuple[str, str, float]]] = {split: [] for split in SPLITS}
        with tarfile.open(archive) as outer, tarfile.open(fileobj=outer.extractfile(INNER)) as inner:
            for kind, name in FILES.items():
                for line in inner.extractfile(f"hutto_ICWSM_2014/{name}_GroundTruth.txt").read().decode("utf-8", "replace").splitlines():
                    _, rating, text = line.split("\t", 2)
                    text = text.strip()
                    if len(text) in CHARACTERS and "\ufffd" not in text:
                        bucket = int(hashlib.md5(text.encode()).hexdigest(), 16) % 10
                        self.by_split["train" if bucket < 8 else "valid" if bucket < 9 else "test"].append((kind, text, float(rating)))


def review(voice: Voice, reviews: Reviews) -> tuple[object, list[Asked]]:
    rng, pick = voice.rng, voice.pick
    while True:
        kind, text, rating = rng.choice(reviews.by_split[voice.split])
        if abs(rating) >= CLEAR or voice.chance(0.3):
            break
    asked = []
    if abs(rating) >= CLEAR:
        good = rating > 0
        for pair in rng.sample(PAIRS, 2):
            ask = "Does the writer like it?" if pair == ("yes", "no") else pick(ASK)
            asked.append(choice(ask, _shuffled(voice, pair), pair[0] if good else pair[1]))
        asked += [predicate(pick(PRO), good), predicate(pick(CON), not good)]
    else:
        asked.append(choice(pick(ASK), _shuffled(voice, ("positive", "negative", "neutral")), "neutral"))
    level = min(4, max(0, round((rating + 4) / 2)))
    asked.append(score(pick(ASK_LEVEL), rng.choice(LEVELS), level))
    kinds = {"film": "a review of a film", "product": "a review of something that was bought", "newspaper": "a piece from a newspaper"}
    asked.append(choice(rng.choice(("Where is this from?", "What is it?", "Kind of text")), _shuffled(voice, list(kinds.values())), kinds[kind]))
    state: object = text if voice.chance(0.8) else {"review": text, "id": rng.randint(1, 9999)}
    return state, rng.sample(asked, min(4, len(asked)))


def _shuffled(voice: Voice, names) -> list[str]:
    return voice.rng.sample(list(names), len(names))
