"""Examples that share beginnings, packed into rows: every token of a shared beginning stands there once.

A row is a forest of tokens. A token sees its ancestors and itself, and its position is its depth, so what
it computes is what it computes in its conversation alone, up to rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from .prompts import Example

ROOT = -1  # the parent of a first token
LEAST_SHARED = 16  # tokens that are worth putting two examples beside each other for


@dataclass(frozen=True)
class Row:
    """The tokens of some examples: first the shared ones, before the start, then each one's own.

    tokens    I64 [n_prefix + n_new]
    parents   I64 [n_prefix + n_new], the index of the token before, or ROOT
    n_prefix  the base's tokens, merged
    kept      I64 [n_predictions], the tokens whose logits are read
    targets   I64 [n_predictions], the tokens wanted there
    owners    I64 [n_predictions], which of `examples` each belongs to
    examples  indices of the examples
    """

    tokens: np.ndarray
    parents: np.ndarray
    n_prefix: int
    kept: np.ndarray
    targets: np.ndarray
    owners: np.ndarray
    examples: list[int]

    def prefix(self) -> "Row":
        """The tokens before the start alone."""
        n = self.n_prefix
        return replace(self, tokens=self.tokens[:n], parents=self.parents[:n])

    def depths(self) -> np.ndarray:
        """I64 [n_prefix + n_new], the position of each token."""
        depths = np.zeros(len(self.tokens), np.int64)
        for i, parent in enumerate(self.parents):
            if parent != ROOT:
                depths[i] = depths[parent] + 1
        return depths

    def visible(self) -> np.ndarray:
        """bool [n, n], n = n_prefix + n_new: which tokens each one sees."""
        n = len(self.tokens)
        visible = np.eye(n, dtype=bool)
        for i, parent in enumerate(self.parents):
            if parent != ROOT:
                visible[i, : parent + 1] |= visible[parent, : parent + 1]
        return visible


def pack(examples: Sequence[Example], n_examples: int, n_tokens: int) -> list[Row]:
    """Rows of examples that begin alike: at most `n_examples` and, unless one example alone is longer, `n_tokens`."""
    rows: list[Row] = []
    forest = _Forest()
    for i in sorted(range(len(examples)), key=lambda i: examples[i].prefix):
        last = examples[forest.chosen[-1]] if forest.chosen else None
        if last is not None and (
            len(forest.chosen) == n_examples or forest.size + forest.cost(examples[i]) > n_tokens or not _is_alike(last.prefix, examples[i].prefix)
        ):
            rows.append(forest.row(examples))
            forest = _Forest()
        forest.add(i, examples[i])
    return [*rows, forest.row(examples)] if forest.chosen else rows


def _is_alike(a: Sequence[int], b: Sequence[int]) -> bool:
    """Whether half of the shorter one is the beginning of both."""
    shared = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
    return shared >= LEAST_SHARED and 2 * shared >= min(len(a), len(b))


class _Forest:
    """A row that is being filled. `size` is the number of its tokens."""

    def __init__(self):
        self.chosen: list[int] = []
        self.size = 0
        self._tokens: list[int] = []
        self._parents: list[int] = []
        self._leaves: list[int] = []
        self._children: dict[tuple[int, int], int] = {}

    def cost(self, example: Example) -> int:
        """How many tokens the row would grow by."""
        node, shared = ROOT, 0
        for token in example.prefix:
            if (node, token) not in self._children:
                break
            node = self._children[node, token]
            shared += 1
        return len(example.prefix) - shared + len(example.suffix) + len(example.output) - 1

    def add(self, i: int, example: Example) -> None:
        self.size += self.cost(example)
        node = ROOT
        for token in example.prefix:
            if (node, token) not in self._children:
                self._children[node, token] = len(self._tokens)
                self._tokens.append(token)
                self._parents.append(node)
            node = self._children[node, token]
        self._leaves.append(node)
        self.chosen.append(i)

    def row(self, examples: Sequence[Example]) -> Row:
        tokens, parents = list(self._tokens), list(self._parents)
        kept: list[int] = []
        targets: list[int] = []
        owners: list[int] = []
        for owner, (i, leaf) in enumerate(zip(self.chosen, self._leaves)):
            new = [*examples[i].suffix, *examples[i].output[:-1]]
            first = len(tokens)
            tokens += new
            parents += [leaf, *range(first, first + len(new) - 1)]
            kept += range(len(tokens) - len(examples[i].output), len(tokens))
            targets += examples[i].output
            owners += [owner] * len(examples[i].output)
        as_array = lambda values: np.array(values, np.int64)
        return Row(as_array(tokens), as_array(parents), len(self._tokens), as_array(kept), as_array(targets), as_array(owners), self.chosen)
