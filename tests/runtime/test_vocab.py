"""Text to tokens and back."""

import gguf
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alora_gguf import PromptError
from alora_gguf.runtime.vocab import load_vocab


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

    with load_vocab(base_q4) as vocab:
        assert vocab.detokenize(vocab.tokenize("Hello.")) == "Hello."
    for use in (
        lambda: vocab.tokenize("a"),
        lambda: vocab.tokenize_prompt("a", begins=True),
        lambda: vocab.token_bytes(5),
        lambda: vocab.token_text(5),
        lambda: vocab.detokenize([5]),
        lambda: vocab.is_eog(5),
        lambda: vocab.ptr,
    ):
        with pytest.raises(ClosedError, match="was closed"):
            use()
    assert vocab.check([5]) == [5]  # what the model is not needed for


def special_tokens(path, model, tokens, types, **ids):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model(model)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if model == "llama":
        writer.add_token_scores([0.0] * len(tokens))
    else:
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_merges(["a b"])
    for name, token in ids.items():
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", token)
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        write()
    with load_vocab(path) as vocab:
        return vocab.special_tokens


def test_special_tokens_are_those_that_the_vocabulary_has(tmp_path):
    """Where a vocabulary names none, libllama takes 11, which is a word here."""
    words, path = [f"w{i}" for i in range(12)], tmp_path / "vocab.gguf"
    assert special_tokens(path, "gpt2", [*words, "ab"], [1] * 13) == {}
    named = {"bos": 12, "eos": 13, "unknown": 14, "seperator": 15, "padding": 16, "cls": 17, "mask": 18}
    text = ["<b>", "<e>", "<u>", "<s>", "<p>", "<c>", "<m>"]
    assert special_tokens(path, "gpt2", [*words, *text, "ab"], [1] * 12 + [3, 3, 2, 3, 4, 3, 3, 1], **named) == {
        "bos_token": "<b>",
        "eos_token": "<e>",
        "unk_token": "<u>",
        "sep_token": "<s>",
        "pad_token": "<p>",
        "cls_token": "<c>",
        "mask_token": "<m>",
    }
    spm = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256))]
    assert special_tokens(path, "llama", spm, [2, 3, 3, *[6] * 256]) == {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    assert special_tokens(path, "llama", spm, [2, 3, 3, *[6] * 256], unknown=10**6, padding=0)["pad_token"] == "<unk>"
