"""What a constraint forces is decoded with what it follows: the answers are those of sampling it token by token."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tiny import INVOCATIONS, mamba2, random_adapter

from alora_gguf import Model, bundled_adapters
from alora_gguf.runtime.constraint import Constraint

FEW = settings(max_examples=10, deadline=None, derandomize=True, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))
FORCED = Constraint.forced
TEXT = [300 + i % 7 for i in range(40)]
WITH_A = TEXT + INVOCATIONS["A"]
LABELS = {
    "type": "object",
    "properties": {"verdict": {"enum": ["answerable", "unanswerable"]}, "n": {"enum": [12, 345]}},
    "required": ["verdict", "n"],
}
CLOSED = {"json_schema": {**LABELS, "additionalProperties": False}}


@pytest.fixture
def decoded(monkeypatch):
    """decoded(model): the spans of each batch from now on."""

    def decoded(model):
        spans: list = []
        decode = model.engine.context.decode
        monkeypatch.setattr(model.engine.context, "decode", lambda batch: (spans.append(batch), decode(batch))[1])
        return spans

    return decoded


@pytest.fixture
def both(monkeypatch):
    """both(call): what it returns token by token, and as it is."""

    def both(call):
        monkeypatch.setattr(Constraint, "forced", lambda self, n_most: [])
        one = call()
        monkeypatch.setattr(Constraint, "forced", FORCED)
        return one, call()

    return both


def said(reply):
    return reply.tokens, reply.text, reply.finish_reason, reply.result, reply.logprobs


@pytest.fixture(scope="module")
def pack(base_q4):
    with Model(base_q4, n_ctx=4096) as model:
        for name, folder in bundled_adapters().items():
            model.load_adapter(folder, name)
        yield model


@pytest.mark.parametrize("name, fewer", [("answerability", 0.75), ("certainty", 0.75), ("query-rewrite", 1)])
@pytest.mark.parametrize("options", [{}, {"temperature": 0.7, "seed": 5}], ids=["greedy", "drawn"])
def test_the_bundled_intrinsics_say_the_same_in_fewer_steps(pack, both, decoded, repo, name, fewer, options):
    """Tokens, text and log probabilities to the last bit; and the tokens are the tokenizer's own for that text."""
    lines = (repo / "intrinsics" / name / "test.jsonl").read_text(encoding="utf-8").splitlines()
    spans, steps = decoded(pack), []

    def ask(example):
        chat = pack.conversation(messages=example["messages"])
        pack.clear_cache()
        spans.clear()
        reply = chat.invoke(
            name, logprobs=True, top_logprobs=3, **({"documents": example["documents"]} if example.get("documents") else {}), **options
        )
        steps.append(len(spans))
        return reply

    for example in map(json.loads, lines[:: len(lines) // 4][:4]):
        one, other = both(lambda: ask(example))
        assert said(one) == said(other)
        assert other.finish_reason == "stop" and other.tokens == pack.vocab.tokenize_more(other.text, special=False)
    assert sum(steps[1::2]) <= fewer * sum(steps[::2])


def test_what_is_forced_is_not_sampled(small, decoded):
    small.clear_cache()
    spans = decoded(small)
    reply = small.generate(WITH_A, adapter="A", temperature=0, **CLOSED)
    value = json.loads(reply.text)
    assert value["verdict"] in LABELS["properties"]["verdict"]["enum"] and value["n"] in (12, 345)
    assert reply.usage.completion_tokens == len(reply.tokens) > 2 * (len(spans) - 1)
    n = len(spans[0][0].tokens)
    assert n > len(WITH_A)  # the prompt, and what its answer begins with
    assert reply.usage.prompt_tokens == len(WITH_A) and reply.usage.cached_tokens == 0


@FEW
@given(
    st.recursive(st.sampled_from(["a", "yes", 12, None]), lambda v: st.lists(v, min_size=1, max_size=2) | st.dictionaries(st.sampled_from("ab"), v, min_size=1), max_leaves=4),
    st.sampled_from([{}, {"logprobs": True, "top_logprobs": 2}]), st.integers(1, 30), st.sampled_from([(), ("b",), ('": ',)]),
    st.sampled_from([{"temperature": 0}, {"temperature": 0, "repeat_penalty": 3.0, "penalty_last_n": 6}]),
)  # fmt: skip
def test_limits_stop_strings_and_penalties_hold_within_what_is_forced(small, value, logprobs, max_tokens, stop, how):
    """Against the same tokens one at a time: the constraint's own words for what is forced, asked for in steps of one."""
    call = lambda: said(
        small.generate(WITH_A, adapter="A", max_tokens=max_tokens, stop=stop, json_schema={"enum": [value, [value], "c"]}, **logprobs, **how)
    )
    import alora_gguf.engine.request as request

    before, request._MOST_FORCED = request._MOST_FORCED, 0
    try:
        one = call()
    finally:
        request._MOST_FORCED = before
    small.clear_cache()
    assert call() == one
    assert call() == one  # from the cache


def test_a_streams_chunks_are_its_text_and_its_logprobs(small):
    stream = small.generate(WITH_A, adapter="A", temperature=0, stream=True, logprobs=True, **CLOSED)
    chunks = list(stream)
    reply = stream.result
    assert "".join(chunks) == reply.text == "".join(t.text for t in reply.logprobs)
    assert [t.token for c in chunks for t in c.logprobs] == reply.tokens == [t.token for t in reply.logprobs]


def test_the_end_needs_no_step_of_its_own(small, decoded):
    spans = decoded(small)
    small.clear_cache()
    assert small.generate(WITH_A, adapter="A", temperature=0, choice=["yes"]).text == "yes"
    assert len(spans) == 1
    small.clear_cache()
    spans.clear()
    assert small.generate(WITH_A, adapter="A", temperature=0, json_schema={"const": "yes"}, max_tokens=2).finish_reason == "length"
    assert len(spans) == 1


@pytest.mark.parametrize("logprobs", [False, True])
def test_a_context_that_is_full_within_what_is_forced(open_model, logprobs):
    """As many tokens as there is room for, and one: as without a constraint."""
    value = {"answer": "the word for the young of the red kangaroo is a joey" * 4}
    with open_model(n_ctx=256) as model:
        room = model.engine.context.n_ctx
        prompt = [300 + i % 7 for i in range(room - 20)]
        free = model.generate(prompt, temperature=0, max_tokens=500, regex="[a-z ]+", logprobs=logprobs)
        reply = model.generate(prompt, temperature=0, max_tokens=500, json_schema={"const": value}, logprobs=logprobs)
        assert reply.finish_reason == free.finish_reason == "length"
        assert len(reply.tokens) == len(free.tokens) == room - len(prompt) + 1
        assert json.dumps(value).startswith(reply.text) and len(reply.text) > 20
        full = [300 + i % 7 for i in range(room)]
        assert model.generate(full, temperature=0, json_schema={"const": value}, logprobs=logprobs).finish_reason == "length"


def test_cancelled_within_what_is_forced(small):
    value = "the word for the young of the red kangaroo is a joey" * 20
    stream = small.generate(WITH_A, adapter="A", temperature=0, max_tokens=400, json_schema={"const": value}, stream=True)
    next(stream)
    stream.cancel()
    reply = stream.result
    assert reply.finish_reason == "cancelled" and json.dumps(value).startswith(reply.text)
    assert small.detokenize(reply.tokens).startswith(reply.text)
    small.generate(WITH_A, adapter="A", temperature=0, max_tokens=400, json_schema={"const": value}, stream=True).close()
    assert small.generate(WITH_A, adapter="A", temperature=0, max_tokens=400, json_schema={"const": value}).text == json.dumps(value)


def test_many_at_once_say_what_each_says_alone(small):
    """Also where two share a prompt, one has logprobs, and one finds the other's cells behind what it has to know."""
    kinds = [
        CLOSED,
        {**CLOSED, "logprobs": True},
        {"choice": ["yes", "no"], "logprobs": True},
        {"regex": "[a-c]{3} is [0-9]{2}"},
        {"json_schema": {"const": [1, 2, "x"]}},
    ]
    alone = []
    for kind in kinds:
        small.clear_cache()
        alone.append(small.generate(WITH_A, adapter="A", temperature=0, **kind))
    small.clear_cache()
    for _ in range(2):
        streams = [small.generate(WITH_A, adapter="A", temperature=0, stream=True, **kind) for kind in kinds]
        for reply, own in zip([stream.result for stream in streams], alone):
            assert said(reply)[:3] == said(own)[:3]
            assert np.allclose(
                [t.logprob for t in reply.logprobs], [t.logprob for t in own.logprobs], atol=0.5
            )  # the cells are rounded, without flash attention


def test_a_memory_that_cannot_roll_back(base_q4, tmp_path, both):
    base = mamba2(base_q4, tmp_path / "base.gguf")
    with Model(base, n_ctx=512, n_threads=1) as model:
        model.load_adapter(random_adapter(base, tmp_path / "A.gguf", INVOCATIONS["A"], 3, targets=("ssm_in",)), "A")
        for options in ({}, {"logprobs": True}):
            one, other = both(lambda: model.generate(WITH_A, adapter="A", temperature=0, json_schema={"const": {"yes": "no"}}, **options))
            assert one.text == other.text == '{"yes": "no"}'
            again = model.generate(WITH_A, adapter="A", temperature=0, json_schema={"const": {"yes": "no"}}, **options)
            assert said(again) == said(other) and again.usage.cached_tokens == len(WITH_A)


def test_a_constraint_that_becomes_too_much_ends_this_answer_and_no_other(small, monkeypatch):
    from alora_gguf import PromptError

    with small.generate(TEXT, stream=True, max_tokens=60, temperature=0) as other:
        accept = Constraint.accept

        def broken(self, token):
            accept(self, token)
            raise PromptError("grammar: expected one that has few ways to go on after any text, got: too many")

        monkeypatch.setattr(Constraint, "accept", broken)
        with pytest.raises(PromptError, match="^grammar: "):
            small.generate(TEXT, grammar="root ::= [a-z]+", max_tokens=20)
        assert other.result.text
