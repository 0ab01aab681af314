"""Packing: every token of every example is in exactly one row, where it sees what it saw in its conversation."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from alora_gguf.train.packing import ROOT, pack
from alora_gguf.train.prompts import Example

tokens = st.lists(st.integers(0, 3), max_size=30)
some = st.lists(st.integers(4, 9), min_size=1, max_size=5)
examples = st.lists(st.builds(Example, tokens, some, some), min_size=1, max_size=12)


def path(row, node: int) -> list[int]:
    found = []
    while node != ROOT:
        found.append(int(row.tokens[node]))
        node = row.parents[node]
    return found[::-1]


@given(examples, st.integers(1, 6), st.integers(1, 120))
def test_every_example_is_in_one_row_as_it_was(examples, n_examples, n_tokens):
    rows = pack(examples, n_examples, n_tokens)
    assert sorted(i for row in rows for i in row.examples) == list(range(len(examples)))
    for row in rows:
        assert len(row.examples) <= n_examples
        assert len(row.tokens) <= n_tokens or len(row.examples) == 1
        for owner, i in enumerate(row.examples):
            mine = row.kept[row.owners == owner]
            example = examples[i]
            assert path(row, mine[-1]) == [*example.prefix, *example.suffix, *example.output[:-1]]
            assert list(row.targets[row.owners == owner]) == example.output
            assert [len(path(row, node)) for node in mine] == [row.depths()[node] + 1 for node in mine]


@given(examples, st.integers(1, 6))
def test_a_token_sees_its_ancestors_and_itself(examples, n_examples):
    for row in pack(examples, n_examples, 200):
        visible = row.visible()
        for node in range(len(row.tokens)):
            seen = np.flatnonzero(visible[node])
            assert list(row.tokens[seen]) == path(row, node)


def test_a_shared_beginning_stands_there_once():
    shared = list(range(100))
    (row,) = pack([Example([*shared, i], [7], [8, 9]) for i in range(4)], 8, 1000)
    assert row.n_prefix == 100 + 4
    assert len(row.tokens) == 100 + 4 + 4 * 2


def test_examples_that_share_nothing_do_not_see_each_other_for_nothing():
    assert [len(row.examples) for row in pack([Example([i] * 20, [7], [8]) for i in range(5)], 4, 1000)] == [1] * 5
