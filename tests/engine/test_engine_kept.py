"""What is asked again is not computed again: the logits of a prompt's last token are kept with its cells."""

import numpy as np
import pytest
from tiny import INVOCATIONS, mamba2, random_adapter

from alora_gguf import Model

TEXT = [300 + i % 7 for i in range(40)]
WITH_A = TEXT + INVOCATIONS["A"]


class Decoded(list):
    """The number of tokens of each batch that a model decodes from now on."""

    def __init__(self, model, monkeypatch):
        decode = model.engine.context.decode
        monkeypatch.setattr(model.engine.context, "decode", lambda spans: (self.append(sum(len(s.tokens) for s in spans)), decode(spans))[1])


@pytest.fixture(scope="module")
def recurrent(base_q4, tmp_path_factory):
    folder = tmp_path_factory.mktemp("recurrent")
    base = mamba2(base_q4, folder / "base.gguf")
    with Model(base, n_ctx=512, n_threads=1) as model:
        model.load_adapter(random_adapter(base, folder / "A.gguf", INVOCATIONS["A"], 3, targets=("ssm_in",)), "A")
        yield model


@pytest.fixture(params=["small", "recurrent"])
def model(request):
    model = request.getfixturevalue(request.param)
    model.clear_cache()
    return model


@pytest.mark.parametrize("tokens, adapter", [(TEXT, None), (WITH_A, "A")], ids=["base", "adapted"])
def test_a_prompt_that_is_asked_again_is_not_decoded(model, monkeypatch, tokens, adapter):
    ask = lambda n: model.generate(tokens, adapter=adapter, max_tokens=n, temperature=0, logprobs=True, top_logprobs=5)
    first = ask(3)
    decoded = Decoded(model, monkeypatch)
    again = ask(1)
    assert (sum(decoded), again.usage.cached_tokens, again.usage.prompt_tokens) == (0, len(tokens), len(tokens))
    assert again.logprobs[0] == first.logprobs[0]  # to the last bit
    ask(3)
    assert sum(decoded) == 2  # a token of the answer each, as before


def test_the_beginning_of_a_prompt_has_no_logits(small, monkeypatch):
    small.clear_cache()
    small.generate(TEXT, max_tokens=1)
    decoded = Decoded(small, monkeypatch)
    assert small.generate(TEXT[:20], max_tokens=1).usage.cached_tokens == 19
    assert sum(decoded) == 1
    for _ in range(2):  # both are kept now, above and below where they part
        assert [small.generate(tokens, max_tokens=1).usage.cached_tokens for tokens in (TEXT, TEXT[:20])] == [40, 20]
    assert sum(decoded) == 1


def test_choices_of_one_prompt_share_its_last_token_too(model, monkeypatch):
    decoded = Decoded(model, monkeypatch)
    streams = [model.generate(TEXT, max_tokens=1, temperature=1.5, seed=seed, stream=True) for seed in range(4)]
    replies = [stream.result for stream in streams]
    assert sum(decoded) == len(TEXT)
    assert sorted(reply.usage.cached_tokens for reply in replies) == [0, 40, 40, 40]
    assert len({tuple(reply.tokens) for reply in replies}) > 1


@pytest.mark.parametrize("sampling", [
    {"temperature": 1.5, "seed": 3},
    {"temperature": 0, "repeat_penalty": 5.0},
    {"temperature": 0, "grammar": 'root ::= [x-z]'},
    {"temperature": 1.5, "seed": 3, "top_k": 0, "grammar": 'root ::= [a-z]'},
], ids=["drawn", "penalised", "grammar", "drawn by a grammar"])  # fmt: skip
def test_samplers_make_the_same_of_kept_logits(small, sampling):
    small.clear_cache()
    one = lambda: small.generate(TEXT, max_tokens=1, logprobs=True, **sampling)
    first, again = one(), one()
    assert again.usage.cached_tokens == len(TEXT)
    assert (again.tokens, again.logprobs) == (first.tokens, first.logprobs)


def test_a_draw_is_that_of_llama_cpps_own_loop(small):
    from alora_gguf.runtime.context import Span
    from alora_gguf.runtime.library import llama_cpp
    from alora_gguf.runtime.sampling import Sampler, SamplingParams

    def draw(params):
        one, other = (Sampler(params, small.vocab, TEXT) for _ in range(2))
        seq = small.engine.context.acquire()
        [end] = small.engine.context.decode([Span(seq, TEXT, 0)])
        try:
            return [
                (one.sample(small.engine.context.logits(end)[0]), llama_cpp.llama_sampler_sample(other._chain, small.engine.context.ptr, end))
                for _ in range(20)
            ]
        finally:
            small.engine.context.release(seq)

    for params in (SamplingParams(temperature=1.5, seed=1), SamplingParams(temperature=0), SamplingParams(temperature=1, seed=2, repeat_penalty=1.5)):
        assert all(a == b for a, b in small.engine.loop.call(lambda: draw(params)))


def test_streams_and_cancelled_ones_begin_with_kept_logits(model):
    first = model.generate(TEXT, max_tokens=8, temperature=0)
    stream = model.generate(TEXT, max_tokens=8, temperature=0, stream=True)
    next(stream, None)
    stream.cancel()
    stopped = stream.result
    assert stopped.tokens == first.tokens[: len(stopped.tokens)]
    model.generate(TEXT, max_tokens=8, temperature=0, stream=True).close()
    assert model.generate(TEXT, max_tokens=1, temperature=0).usage.cached_tokens == len(TEXT)


def test_an_error_in_the_first_token_is_that_calls_own(small):
    small.clear_cache()
    small.generate(TEXT, max_tokens=1)

    def broken(piece):
        raise OSError("no room")

    with pytest.raises(OSError, match="no room"):
        small.generate(TEXT, max_tokens=1, on_text=broken)
    assert small.generate(TEXT, max_tokens=1).usage.cached_tokens == len(TEXT)
    assert small.engine.loop.call(lambda: (small.clear_cache(), small.engine.cache.n_cells, small.engine.context.n_free_seqs))[1:] == (
        0,
        small.engine.context.n_seq_max,
    )


def test_logits_that_were_not_used_for_the_longest_time_go_first(small, monkeypatch):
    small.clear_cache()
    monkeypatch.setattr("alora_gguf.engine.cache._MOST_KEPT", 2 * 4 * small.engine.context.n_vocab)
    prompts = [[300 + i] * 10 for i in range(3)]
    cached = [small.generate(prompts[i], max_tokens=1).usage.cached_tokens for i in (0, 1, 0, 2, 0, 1)]
    assert cached == [0, 0, 10, 0, 10, 9]


def test_an_intrinsic_that_is_asked_again_says_the_same(open_model, monkeypatch):
    with open_model(type_k=None, type_v=None, flash_attn=None) as model:
        chat = model.conversation(messages=[{"role": "user", "content": "Where does the ferry go?"}])
        ask = lambda: chat.invoke("A", max_tokens=6, logprobs=True, top_logprobs=3)
        first = ask()
        decoded = Decoded(model, monkeypatch)
        again = ask()
    assert (again.tokens, again.logprobs) == (first.tokens, first.logprobs)
    assert again.usage.cached_tokens == again.usage.prompt_tokens and sum(decoded) == len(again.tokens) - (again.finish_reason == "length")


def test_rows_of_logits_and_kept_ones_are_the_same(small):
    small.clear_cache()
    small.generate(WITH_A, adapter="A", max_tokens=1)
    kept = small.engine.loop.call(lambda: [k.logits for b in small.engine.cache._branches() for k in b.kept.values()])
    assert len(kept) == 1 and kept[0].dtype == np.float32
    assert abs(kept[0] - small.logits([(WITH_A, "A")])[0][-1]).max() < 1
