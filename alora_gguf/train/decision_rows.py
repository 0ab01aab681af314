"""Questions about one state packed into rows, their options behind them as branches, in an order that is drawn anew.

What is shared stands there once: the state for all questions, the question for all of its options.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .packing import Row, pack
from .prompts import Example


@dataclass(frozen=True)
class Drawn:
    """A question with its options in an order.

    prefix   tokens before the activation's start, the same in every order
    suffix   tokens from there on, up to where the answer begins
    labels   of each option, the tokens that say it
    right    of each option, how likely it is
    order    in which the question lists them
    """

    prefix: list[int]
    suffix: list[int]
    labels: list[list[int]]
    right: list[float]
    order: list[int]


@dataclass(frozen=True)
class DecisionRow(Row):
    """As a Row, with the tokens of options for outputs.

    kept      I64 [n_kept], the tokens whose logits are read, each once
    targets   I64 [n_reads], the tokens wanted there
    owners    I64 [n_reads], which option each belongs to, counted over the row
    at        I64 [n_reads], which of `kept` each is read at
    of        I64 [n_options], which of `examples` each option belongs to
    right     F32 [n_options]
    orders    of each of `examples`, the order in which its options are listed
    """

    at: np.ndarray
    of: np.ndarray
    right: np.ndarray
    orders: list[list[int]]


Draw = Callable[[int, random.Random | None], Drawn]  # of a question, in an order that is drawn, or its own where there is nothing to draw with


class DecisionRows(Sequence[Row]):
    """Rows of questions. What stands before the activation never changes; `drawn` puts the options into another order.

    n_questions, n_tokens   as pack()'s
    """

    def __init__(self, draw: Draw, n: int, n_questions: int, n_tokens: int):
        self._draw = draw
        first = [draw(i, None) for i in range(n)]
        # an output as long as what is behind a question, so that rows of questions with many options have fewer of these
        sizes = [Example(d.prefix, d.suffix, [0] * (2 + sum(len(label) - 1 for label in d.labels))) for d in first]
        self._packed = pack(sizes, n_questions, n_tokens)
        self._rows = [_row(row, [first[i] for i in row.examples]) for row in self._packed]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, i):
        return self._rows[i]

    def drawn(self, i: int, rng: random.Random) -> DecisionRow:
        packed = self._packed[i]
        return _row(packed, [self._draw(question, rng) for question in packed.examples])


def _row(packed: Row, drawn: Sequence[Drawn]) -> DecisionRow:
    tokens, parents = list(packed.tokens[: packed.n_prefix]), list(packed.parents[: packed.n_prefix])
    kept: list[int] = []
    reads: list[tuple[int, int, int]] = []  # at, target, owner
    of: list[int] = []
    right: list[float] = []
    for number, one in enumerate(drawn):
        # the packed row has each question's tokens in one branch: its first one hangs on the last of the question's prefix
        leaf = int(packed.parents[packed.n_prefix + _first_of(packed, number)])
        tail = _chain(tokens, parents, leaf, one.suffix)
        asked_at = len(kept)
        kept.append(tail)
        for label, share in zip(one.labels, one.right, strict=True):
            node, at = tail, asked_at
            for i, token in enumerate(label):
                reads.append((at, token, len(of)))
                if i + 1 < len(label):
                    node = _chain(tokens, parents, node, [token])
                    at = len(kept)
                    kept.append(node)
            of.append(number)
            right.append(share)
    as_array = lambda values: np.array(values, np.int64)
    read_at, targets, owners = zip(*reads, strict=True)
    return DecisionRow(
        as_array(tokens),
        as_array(parents),
        packed.n_prefix,
        as_array(kept),
        as_array(targets),
        as_array(owners),
        packed.examples,
        at=as_array(read_at),
        of=as_array(of),
        right=np.array(right, np.float32),
        orders=[one.order for one in drawn],
    )


def _first_of(packed: Row, number: int) -> int:
    """Where, behind the prefix, the branch of an example begins."""
    new = packed.parents[packed.n_prefix :]
    begins = [i for i, parent in enumerate(new) if parent < packed.n_prefix]  # behind the prefix, or without one
    return begins[number]


def _chain(tokens: list[int], parents: list[int], node: int, more: Sequence[int]) -> int:
    """Puts tokens behind a node, one after the other; the last one's index."""
    for token in more:
        tokens.append(token)
        parents.append(node)
        node = len(tokens) - 1
    return node
