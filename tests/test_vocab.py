"""Text to tokens and back."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alora_gguf import PromptError


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text(st.characters(exclude_categories=["C"], max_codepoint=0x1FFFF)))  # SmolLM2 has no token for some bytes
def test_there_and_back(shared, text):
    assert shared.detokenize(shared.tokenize(text, special=False), special=False) == text


def test_names_of_control_tokens_are_tokens_only_if_asked_for(shared):
    assert shared.tokenize("<|im_start|>") == [1]
    assert 1 not in shared.tokenize("<|im_start|>", special=False)
    assert shared.detokenize([1]) == "<|im_start|>"
    assert shared.detokenize([1], special=False) == ""


def test_many_tokens_and_none(shared):
    assert len(shared.tokenize("a b " * 5000)) > 5000
    assert shared.tokenize("") == []
    assert shared.detokenize([]) == ""


@pytest.mark.parametrize("text", ["a\ud800", b"a", None, 5])
def test_what_is_no_text_is_refused(shared, text):
    with pytest.raises(PromptError, match="^text: expected Unicode text"):
        shared.tokenize(text)


@pytest.mark.parametrize("tokens", [[], [-1], [10**6], [1.5], "ab", [None], [[1, 2]], None, 5, [True, "1"]])
def test_what_are_no_tokens_is_refused(shared, tokens):
    with pytest.raises(PromptError, match="^tokens"):
        shared.vocab.check(tokens)


def test_arrays_are_tokens(shared):
    import numpy as np

    assert shared.vocab.check(np.array([5, 6], np.int64)) == [5, 6]


def test_a_vocabulary_without_its_model_says_so(base_q4):
    from alora_gguf import ClosedError
    from alora_gguf.vocab import load_vocab

    with load_vocab(base_q4) as vocab:
        assert vocab.detokenize(vocab.tokenize("Hello.")) == "Hello."
    for use in (lambda: vocab.tokenize("a"), lambda: vocab.tokenize_prompt("a", begins=True), lambda: vocab.token_bytes(5), lambda: vocab.token_text(5),
                lambda: vocab.detokenize([5]), lambda: vocab.is_eog(5), lambda: vocab.ptr):
        with pytest.raises(ClosedError, match="was closed"):
            use()
    assert vocab.check([5]) == [5]  # what the model is not needed for
