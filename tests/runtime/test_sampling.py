"""The sampling arguments: what they do, and that bad ones are refused by name."""

import numpy as np
import pytest

from alora_gguf import PromptError
from alora_gguf.runtime.sampling import Sampler, SamplingParams

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize("name, value", [
    ("max_tokens", 0), ("max_tokens", 1.5), ("max_tokens", "5"), ("max_tokens", None),
    ("temperature", -0.1), ("temperature", NAN), ("temperature", INF), ("temperature", "hot"), ("temperature", None),
    ("top_k", 0.5), ("top_k", 2**31), ("top_p", 1.1), ("top_p", NAN), ("min_p", -1), ("repeat_penalty", 0), ("repeat_penalty", -1),
    ("frequency_penalty", INF), ("presence_penalty", "x"), ("penalty_last_n", -1), ("seed", 1.5), ("seed", "x"),
    ("logit_bias", {1: 101}), ("logit_bias", {1: NAN}), ("logit_bias", {"1": 1}), ("logit_bias", {1: "x"}), ("logit_bias", [1]),
    ("min_tokens", -1), ("min_tokens", 1.5), ("min_tokens", 513), ("stop_token_ids", [1.5]), ("stop_token_ids", 5), ("stop_token_ids", None),
    ("stop", ""), ("stop", ["a", ""]), ("stop", [1]), ("stop", 5), ("stop", b"a"),
])  # fmt: skip
def test_bad_arguments_are_refused_by_name(name, value):
    with pytest.raises(PromptError, match=f"^{name}: expected .*, got "):
        SamplingParams(**{name: value})


def test_an_unknown_argument_is_refused_by_name():
    with pytest.raises(PromptError, match="^heat: expected one of .*temperature"):
        SamplingParams.of({"heat": 1})


def test_given_arguments_go_before_defaults():
    params = SamplingParams.of({"temperature": 1}, temperature=0, max_tokens=7)
    assert (params.temperature, params.max_tokens) == (1, 7)


@pytest.mark.parametrize("stop, want", [("a", ("a",)), (["a", "b"], ("a", "b")), (("a",), ("a",)), (None, ()), ([], ())])
def test_stop_is_one_string_or_several_or_none(stop, want):
    assert SamplingParams(stop=stop).stop == want


def said(model, **sampling):
    with model.conversation(system="Be brief.") as chat:
        return chat.ask("Tell me a story.", max_tokens=6, **sampling).tokens


@pytest.mark.parametrize("only_the_likeliest", [{"top_k": 1}, {"top_p": 0.0}, {"min_p": 1.0}, {"temperature": 1e-30}], ids=str)
def test_where_only_the_likeliest_is_left_any_seed_is_greedy(shared, only_the_likeliest):
    greedy = said(shared, temperature=0)
    assert said(shared, **{"temperature": 1.5, "seed": 7, **only_the_likeliest}) == greedy


@pytest.mark.parametrize("penalty", [{"presence_penalty": 1000}, {"frequency_penalty": 1000}, {"repeat_penalty": 1000}], ids=str)
def test_penalties_keep_tokens_of_prompt_and_answer_from_coming_again(shared, penalty):
    prompt = shared.tokenize(shared.render([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Tell me a story."}]))
    tokens = said(shared, temperature=0, **penalty)
    assert len(set(tokens)) == len(tokens)
    assert not set(tokens) & set(prompt)
    assert said(shared, temperature=0, penalty_last_n=0, **penalty) == said(shared, temperature=0)


@pytest.mark.parametrize("how", [{"temperature": 0}, {"temperature": 1, "seed": 3}, {"temperature": 0, "presence_penalty": 0.1}], ids=str)
def test_a_bias_brings_tokens_and_keeps_them_away(shared, how):
    plain = said(shared, **how)
    [wanted] = shared.tokenize(" x")
    assert said(shared, logit_bias={wanted: 100}, **how) == [wanted] * 6
    banned = said(shared, logit_bias=dict.fromkeys(plain, -100), **how)
    assert not set(banned) & set(plain) and len(banned) == 6
    assert said(shared, logit_bias={wanted: 0}, **how) == plain


@pytest.mark.parametrize("how", [{"temperature": 0}, {"temperature": 1, "seed": 3}], ids=str)
def test_what_ends_an_answer(shared, how):
    plain = said(shared, **how)
    assert said(shared, stop_token_ids=[plain[2], plain[5]], **how) == plain[:2]
    late = said(shared, stop_token_ids=[plain[2]], min_tokens=4, **how)
    assert len(late) >= 4 and late[:2] == plain[:2] and plain[2] not in late
    eos = {"logit_bias": {shared.vocab.eos: 100}, **how}
    assert said(shared, **eos) == [] and said(shared, ignore_eos=True, **eos) == plain and said(shared, min_tokens=3, **eos) == plain[:3]
    with pytest.raises(PromptError, match="^stop_token_ids: expected tokens from 0 to [0-9]+, got -1"):
        said(shared, stop_token_ids=[-1])


def test_a_token_that_ends_an_answer_does_so_where_it_is_forced(shared):
    """Also where it is one of several that are decoded at once."""
    tokens = shared.tokenize("a whale of a tale")
    whole = shared.generate("Well?", regex="a whale of a tale", temperature=0)
    assert whole.text == "a whale of a tale" and whole.tokens == tokens
    assert shared.generate("Well?", regex="a whale of a tale", temperature=0, stop_token_ids=tokens[2:3]).tokens == tokens[:2]
    assert shared.generate("Well?", regex="a whale of a tale", temperature=0, ignore_eos=True, min_tokens=9).text == whole.text


def test_a_bias_decides_within_a_constraint_and_never_against_it(shared):
    for text in ("yes", "no"):
        first = shared.tokenize(text)[0]
        assert shared.generate("Well?", choice=["yes", "no"], temperature=0, logit_bias={first: 100}).text == text
    outside = shared.tokenize(" x")[0]
    assert shared.generate("Well?", choice=["yes", "no"], temperature=0, logit_bias={outside: 100}).text in ("yes", "no")


def test_a_bias_of_a_token_that_there_is_not_is_refused(shared):
    with pytest.raises(PromptError, match="^logit_bias: expected tokens from 0 to [0-9]+, got -1"):
        said(shared, logit_bias={-1: 1})


def test_without_a_seed_it_is_another_each_time(shared):
    assert len({tuple(said(shared, temperature=3, top_p=1, min_p=0)) for _ in range(3)}) > 1


@pytest.mark.parametrize("seed", [-1, 2**32 - 1, 2**64])
def test_any_seed_makes_it_repeatable(shared, seed):
    """llama.cpp takes one of them for none."""

    def drawn(seed):
        sampler = Sampler(SamplingParams(temperature=1, top_k=0, top_p=1, min_p=0, seed=seed), shared.vocab, [1])
        tokens = [sampler.sample(np.zeros(shared.vocab.n_tokens, np.float32)) for _ in range(4)]
        sampler.free()
        return tokens

    assert drawn(seed) == drawn(seed)
    assert drawn(None) != drawn(None)
