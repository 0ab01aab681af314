"""What the generators share: choosing wordings of a split, and reading and writing examples."""

import json
import random
from pathlib import Path

from facts import SPLITS

SEED = 20261124


def choices(field: str, split: str) -> list[str]:
    """The wordings of a field for a split: `"a | b || c || d"` holds `a` and `b` for training, `c` for validation, `d` for testing."""
    return [part.strip(" ") for part in field.split("||")[SPLITS.index(split)].split(" | ")]


def capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


class Voice:
    """Chooses the wordings of one split; `rng` decides everything, so the same split and seed give the same examples."""

    def __init__(self, split: str, seed: int = SEED):
        if split not in SPLITS:
            raise ValueError(f"data: split: expected one of {', '.join(SPLITS)}, got {split!r}; name one of these")
        self.split, self.rng = split, random.Random(f"{seed} {split}")

    def pick(self, field: str) -> str:
        return self.rng.choice(choices(field, self.split))

    def chance(self, share: float) -> bool:
        return self.rng.random() < share


def read_jsonl(path: Path) -> list[dict]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines() if line]


def write_jsonl(path: Path, examples: list[dict]) -> None:
    Path(path).write_text("".join(json.dumps(e, ensure_ascii=False) + "\n" for e in examples), encoding="utf-8")


def user(content: str) -> dict:
    return {"role": "user", "content": content}


def assistant(content: str) -> dict:
    return {"role": "assistant", "content": content}


def system(content: str) -> dict:
    return {"role": "system", "content": content}
