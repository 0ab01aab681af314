"""The activation rule: PEFT's, and nothing cleverer than trying every place."""

from hypothesis import given
from hypothesis import strategies as st

from alora_gguf.prompt.invocation import find_invocation

TOKENS = st.lists(st.integers(0, 2), max_size=30)


@given(TOKENS, TOKENS.filter(len))
def test_equals_trying_every_place(tokens, invocation):
    places = [i for i in range(len(tokens)) if tokens[i : i + len(invocation)] == invocation]
    assert find_invocation(tokens, invocation) == (places[-1] if places else None)


@given(TOKENS, TOKENS.filter(len))
def test_an_appended_invocation_is_where_it_was_appended(tokens, invocation):
    assert find_invocation(tokens + invocation, invocation) == len(tokens)


def test_a_token_that_breaks_a_match_can_begin_one():
    a, b = 1, 2
    assert find_invocation([a, b, b], [a, b]) == 0
    assert find_invocation([a, a, b], [a, b]) == 1
    assert find_invocation([b, a, b, a, b, b], [a, b]) == 3


def test_the_last_occurrence_counts_also_where_they_overlap():
    assert find_invocation([7, 7, 7, 7], [7, 7]) == 2


def test_no_invocation_is_nowhere():
    assert find_invocation([1, 2, 3], []) is None
    assert find_invocation([], [1]) is None


def test_equals_peft():
    import torch
    from peft import LoraConfig
    from peft.tuners.lora.variants import calculate_alora_offsets

    tokens, invocation = [5, 1, 2, 9, 1, 2, 2, 4], [1, 2]
    config = {"x": LoraConfig(alora_invocation_tokens=invocation)}
    offset = calculate_alora_offsets(config, "x", torch.tensor([tokens]))[0]
    assert find_invocation(tokens, invocation) == len(tokens) - offset
