"""Grammars and schemas by anybody: none ends the process, fills the memory or commands the terminal."""

import threading

import pytest

from alora_gguf import PromptError
from alora_gguf.runtime.grammar import Grammar, schema_to_gbnf


@pytest.mark.parametrize("text", [
    "root ::= " + "(" * 90_000, "root ::= " + "(" * 40_000 + '"a"' + ")" * 40_000, 'root ::= <">' + "(" * 50_000, "root ::= # \"\n" + "(" * 50_000,
    'root ::= "\\"" [^\\]"] ' + "(" * 50_000, 'root ::= "a" ' * 20_000, 'root ::= ["' + "\r" * 500, "root ::= " + '"\\"' * 30_000, "root ::= ((",
    "root ::= root", "a ::= b", 'root ::= "a"{3000}', "root ::= \x1b]0;owned\x07\x9b2J\r x",
], ids=range(13))  # fmt: skip
def test_what_is_no_grammar_is_one_line(shared, text, capfd):
    with pytest.raises(PromptError, match="^grammar: expected [^\n]*$"):
        Grammar(text, shared.vocab)
    assert not set(capfd.readouterr().err) & set("\x1b\x07\x9b\r")


@pytest.mark.parametrize("text", [
    "root ::= " + "(" * 2000 + '"a"' + ")" * 2000, 'root ::= "a" "' + "(" * 3000 + '"', "root ::= [a(((((] # (((\n",
    "\n".join(f"r{i} ::= r{i + 1}" for i in range(5000)) + '\nroot ::= r0\nr5000 ::= "a"',
    "\n".join(f"r{i} ::= r{i + 1} | r{i + 1}" for i in range(60)) + '\nroot ::= r0\nr60 ::= "a"',
    "root ::= " + " | ".join(f'"a{i}"' for i in range(5000)),
], ids=range(6))  # fmt: skip
def test_what_is_one_still_is(shared, text):
    """Also on a thread, whose stack is smaller."""
    allowed = []

    def follow():
        grammar = Grammar(text, shared.vocab)
        allowed.append(grammar.allows(shared.tokenize("a")[0]))
        grammar.free()

    thread = threading.Thread(target=follow)
    thread.start()
    thread.join()
    assert allowed == [True]


def test_a_control_character_is_said_as_it_is(shared):
    assert shared.generate("Hello", grammar='root ::= "a\x1b\x7f\\n\u2028"', max_tokens=20).text == "a\x1b\x7f\n\u2028"


def test_too_many_ways_to_begin_are_one_line(shared):
    text = "root ::= r0\n" + "\n".join(f'r{i} ::= r{i + 1} "a" | r{i + 1} "b"' for i in range(60)) + '\nr60 ::= "c"'
    with pytest.raises(PromptError, match="^grammar: expected [^\n]* too many ways to go on$"):
        Grammar(text, shared.vocab)


def test_too_many_ways_to_go_on_end_this_answer_and_no_other(shared):
    text = 'root ::= s\ns ::= "a" s "b" | "a" s "c"'
    with shared.generate("Hello", stream=True, max_tokens=60, temperature=0) as other:
        with pytest.raises(PromptError, match="^grammar: expected [^\n]* too many; [^\n]*$"):
            shared.generate("Hello", grammar=text, max_tokens=200)
        assert other.result.text


@pytest.mark.parametrize("schema", [
    {"type": "string", "maxLength": 10**9}, {"type": "string", "minLength": 1e9}, {"type": "array", "items": {}, "minItems": 10**9},
    {"properties": {"a": {"anyOf": [{"type": "array", "items": {"type": "null"}, "maxItems": 2001}]}}}, {"type": "string", "pattern": "^a{1000000000}$"},
    {"type": "string", "pattern": "^((a{99}){99}){,99}$"}, {"$ref": "https://localhost/schema"}, {"enum": ["x" * 100_000]},
    '{"a":' * 5000 + "1" + "}" * 5000, "{", {"type": "nothing"},
], ids=range(11))  # fmt: skip
def test_a_schema_that_grows_beyond_all_memory_is_one_line(schema):
    with pytest.raises(PromptError, match="^json_schema: [^\n]*expected [^\n]*$"):
        schema_to_gbnf(schema)


@pytest.mark.parametrize("schema", [
    {"type": "array", "items": {"type": "integer"}, "minItems": 3, "maxItems": 500}, {"type": "string", "maxLength": 1000},
    {"properties": {"maxLength": {"type": "string"}, "pattern": {"type": "integer"}}}, {"type": "string", "pattern": "^[a-z]{2,40}$"},
], ids=range(4))  # fmt: skip
def test_a_schema_of_a_sane_size_is_a_grammar(shared, schema):
    Grammar(schema_to_gbnf(schema), shared.vocab).free()
