"""Grammars, schemas, stop strings and log probabilities of real generations."""

import json
import re

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tiny import first_logprobs

from alora_gguf import PromptError

FEW = settings(max_examples=6, deadline=None, derandomize=True, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))


@FEW
@given(
    st.dictionaries(st.sampled_from(["name", "age", "ok"]), st.sampled_from(["string", "integer", "boolean"]), min_size=1), st.sampled_from([0, 1.5])
)
def test_a_schema_is_followed_at_any_temperature(small, fields, temperature):
    schema = {
        "type": "object",
        "properties": {name: {"type": kind, **({"maxLength": 5} if kind == "string" else {})} for name, kind in fields.items()},
        "required": list(fields),
        "additionalProperties": False,
    }
    reply = small.generate("The data as JSON:", json_schema=schema, max_tokens=120, temperature=temperature, seed=3)
    if reply.finish_reason == "stop":
        kinds = {"string": str, "integer": int, "boolean": bool}
        value = json.loads(reply.text)
        assert {name: type(v) for name, v in value.items()} == {name: kinds[kind] for name, kind in fields.items()}


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_a_grammar_says_what_may_come(small, temperature):
    reply = small.generate("Answer:", grammar='root ::= "yes " [0-9][0-9] " times"', temperature=temperature, seed=1)
    assert re.fullmatch(r"yes \d\d times", reply.text)
    assert reply.finish_reason == "stop"


def test_strings_of_a_schema_have_no_line_breaks(small):
    grammar = small.vocab.constraints.constraint("json_schema", {"type": "string"})
    for text, allowed in (('"', True), ("\n", False), ("\t", False), ("a", True), ("\n", False), ('"', True)):
        [token] = small.tokenize(text)
        assert grammar.allows(token) == allowed
        if allowed:
            grammar.accept(token)


def test_what_is_no_grammar_is_refused(small):
    for wrong in (
        {"grammar": "root ::= ("},
        {"grammar": "other ::= [a]"},
        {"json_schema": {"$ref": "#/nowhere"}},
        {"json_schema": "{"},
        {"grammar": "root ::= [a]", "json_schema": {}},
        {"regex": "a", "choice": ["a"]},
    ):
        with pytest.raises(PromptError):
            small.generate("x", **wrong)


def test_logprobs_are_those_of_the_logits(small):
    prompt = small.tokenize("The capital of France is")
    small.clear_cache()  # on other cells, quantised activations would be rounded otherwise
    reply = small.generate(prompt, temperature=0, max_tokens=4, logprobs=True, top_logprobs=10)
    small.clear_cache()
    fresh = first_logprobs(small, prompt, None)
    first = reply.logprobs[0]
    assert [t.token for t in first.top] == sorted((t.token for t in first.top), key=lambda t: -fresh[t])
    assert np.allclose([t.logprob for t in first.top], sorted(fresh)[:-11:-1], atol=1e-3)
    assert first.token == first.top[0].token
    assert first.logprob == first.top[0].logprob
    assert "".join(t.text for t in reply.logprobs) == reply.text


def test_a_stop_string_cuts_text_and_logprobs_alike(small):
    small.clear_cache()
    whole = small.generate("One, two, three, four,", temperature=0, max_tokens=20)
    small.clear_cache()
    stop = whole.text[len(whole.text) // 2 :][:3]
    stream = small.generate("One, two, three, four,", temperature=0, max_tokens=20, stop=stop, logprobs=True, stream=True)
    chunks = list(stream)
    reply = stream.result
    assert reply.text == whole.text[: whole.text.index(stop)] == "".join(chunks)
    assert "".join(t.text for t in reply.logprobs) == reply.text == "".join(t.text for p in chunks for t in p.logprobs)
    assert reply.finish_reason == "stop"


def test_greedy_is_the_likeliest_also_beside_a_grammar_and_penalties(small):
    small.clear_cache()
    plain = small.generate("Once upon a time", temperature=0, max_tokens=8)
    small.clear_cache()
    free = small.generate("Once upon a time", temperature=0, max_tokens=8, grammar="root ::= [^\\x00]*")
    assert free.tokens == plain.tokens
    counting = small.generate("One, two, three, four,", temperature=0, max_tokens=6)
    assert counting.text.count(",") > 1
    assert small.generate("One, two, three, four,", temperature=0, max_tokens=6, repeat_penalty=5.0).text.count(",") < counting.text.count(",")
