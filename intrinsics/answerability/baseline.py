"""What shallow cues alone reach on the answerability data: a check that the data cannot be solved by word overlap.

    python intrinsics/answerability/baseline.py

A logistic regression on the training examples, measured on the test examples, with three sets of features: the lengths,
the share of the question's words that stand elsewhere, and both with hashed words of all that is said.
"""

import argparse
import re
import zlib

import torch
from data import examples_of

BUCKETS = 2048
STOP_WORDS = set("a an the of is are was in on at to for what which who when where how do does did i it me my can you tell".split())


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", text.lower())


def cues(example: dict) -> dict[str, torch.Tensor]:
    """The feature sets of one example, F32 [features] each.

    The question is the last sentence of the last message that ends in a question mark, else its last line.
    """
    *before, text = [d["text"] for d in example["documents"]] + [m["content"] for m in example["messages"]]
    asked = re.findall(r"[^.?!:\n\"]+\?", text) or [text.splitlines()[-1]]
    question, rest = set(words(asked[-1])) - STOP_WORDS, words(" ".join([*before, text.replace(asked[-1], " ")]))
    shared = sum(w in rest for w in question)
    lengths = torch.tensor([1.0, len(rest) / 50, len(question) / 5, len(example["messages"]) / 3])
    overlap = torch.tensor([1.0, shared / max(1, len(question)), shared / 5, float(shared == len(question))])
    bag = torch.zeros(BUCKETS)
    for word in [*rest, *words(asked[-1])]:
        bag[zlib.crc32(word.encode()) % BUCKETS] = 1.0
    return {"lengths": lengths, "word overlap": torch.cat([lengths, overlap]), "words and overlap": torch.cat([lengths, overlap, bag])}


def fitted(features: torch.Tensor, labels: torch.Tensor, decay: float = 1e-3) -> torch.Tensor:
    """The weights [features] of a logistic regression; `labels` F32 [examples], 0 or 1."""
    weights = torch.zeros(features.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(features @ weights, labels) + decay * weights.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    return weights.detach()


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    sets = {split: examples_of(split) for split in ("train", "test")}
    labels = {split: torch.tensor([float(e["output"]["answerability"] == "answerable") for e in examples]) for split, examples in sets.items()}
    features = {split: [cues(e) for e in examples] for split, examples in sets.items()}
    print("| cues | train | test |\n|---|---|---|")
    for name in features["train"][0]:
        stacked = {split: torch.stack([f[name] for f in rows]) for split, rows in features.items()}
        weights = fitted(stacked["train"], labels["train"])
        right = {s: ((stacked[s] @ weights > 0).float() == labels[s]).float().mean().item() for s in sets}
        print(f"| {name} | {right['train']:.1%} | {right['test']:.1%} |")


if __name__ == "__main__":
    main()
