"""Constraints by anybody: they hold, what cannot is refused by its name, and none ends the process, fills the memory or commands the terminal."""

import json
import sys
import threading
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from alora_gguf import PromptError
from alora_gguf.runtime.schema import closed
from alora_gguf.runtime.vocab import load_vocab

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))
CONFORMANCE = Path(__file__).resolve().parents[3] / "shared" / "conformance" / "json-schema" / "schemas.json"
REFUSED = {  # of the conformance data: logic puzzles, and one of overlapping formats
    "Handwritten---mod305.json": "'not: enum'", "Handwritten---num1.json": "'not: multipleOf'", "Handwritten---allone2.json": "'not'",
    "Handwritten---pnmp9.json": "'not: patternProperties'", "Handwritten---pp4.json": "patternProperty", "Handwritten---object3.json": "'not'",
    "Handwritten---oneofanyofitc8.json": "'oneOf'", "Github_hard---o4237.json": "'oneOf'",
}  # fmt: skip


@pytest.fixture(scope="module")
def vocab(base_q4):
    with load_vocab(base_q4) as vocab:
        yield vocab


@pytest.fixture
def follows(vocab):
    """follows(text, json_schema=...): whether the text is one that the constraint allows, from its beginning to its end."""

    def follows(text, **constraint):
        [(name, value)] = constraint.items()
        made = vocab.constraints.constraint(name, value)
        for token in vocab.tokenize_more(text, special=False):
            if not made.allows(token):
                return False
            made.accept(token)
        return made.is_over or made.allows(vocab.eos)

    return follows


def allowed_by(constraint):
    """bool [n_tokens]"""
    tokens, are_few = constraint.allowed()
    if not are_few:
        assert set(np.unique(tokens)) <= {0.0, -np.inf}
        return tokens == 0
    allowed = np.zeros(constraint._n_tokens, bool)
    allowed[tokens] = True
    return allowed


def in_order(value, schema):
    """The value with the names of the schema's properties in their order, which is the order that a text has them in."""
    if isinstance(value, list):
        return [in_order(v, schema.get("items", {}) if isinstance(schema, dict) else {}) for v in value]
    if not isinstance(value, dict) or not isinstance(schema, dict):
        return value
    names = schema.get("properties", {})
    return {
        name: in_order(value[name], names.get(name, {})) for name in sorted(value, key=lambda n: list(names).index(n) if n in names else len(names))
    }


def test_the_conformance_data(vocab, follows):
    """Every valid instance is accepted and every invalid one is not, or the schema is refused by what is in the way."""
    if not CONFORMANCE.exists():
        pytest.skip("no conformance data here")
    refused = {}
    for case in json.loads(CONFORMANCE.read_text()):
        try:
            vocab.constraints.constraint("json_schema", case["schema"])
        except PromptError as e:
            refused[case["name"]] = str(e)
            continue
        for kind in ("valid", "invalid"):
            for value in case[kind]:
                text = json.dumps(in_order(value, case["schema"]), ensure_ascii=False)
                assert follows(text, json_schema=case["schema"]) == (kind == "valid"), (case["name"], kind, text)
    assert set(refused) == set(REFUSED)
    assert all(REFUSED[name] in line and "\n" not in line for name, line in refused.items())


SCHEMAS = [  # what was violated or refused before, and keywords that are said with others
    {"type": ["string", "null"], "enum": ["F", "C", None]}, {"allOf": [{"$ref": "#/$defs/a"}], "$defs": {"a": {"type": "integer", "minimum": 1, "maximum": 5}}},
    {"type": "integer", "multipleOf": 3}, {"type": "object", "minProperties": 1, "maxProperties": 2, "additionalProperties": {"type": "null"}},
    {"enum": ['a"b', "c\\d", "é\n", 1.5, True, None]}, {"type": "string", "pattern": r"^\d{2}\w$"}, {"type": "string", "pattern": "ab"},
    {"$ref": "#/$defs/n", "$defs": {"n": {"type": "object", "properties": {"v": {"type": "integer"}, "next": {"$ref": "#/$defs/n"}}, "required": ["v"], "additionalProperties": False}}},
    {"type": "object", "properties": {"a": {"type": "null"}, "b": {"type": "null"}}, "anyOf": [{"required": ["a"]}, {"required": ["b"]}], "additionalProperties": False},
    {"type": "string", "maxLength": 5000}, {"not": {"type": ["string", "object", "array"]}}, {"type": "integer", "minimum": 0, "maximum": 30, "not": {"multipleOf": 3}},
    {"type": "string", "maxLength": 3, "not": {"enum": ["ab", "b", "abc"]}}, {"type": "number", "not": {"enum": [1, 5]}},
    {"type": "object", "properties": {"a": {"enum": [1, 2]}, "b": {"type": "null"}}, "dependentRequired": {"a": ["b"]}, "additionalProperties": False},
    {"type": "object", "properties": {"a": {"type": "boolean"}, "b": {"type": "integer"}}, "required": ["a", "b"], "additionalProperties": False,
     "if": {"properties": {"a": {"const": True}}}, "then": {"properties": {"b": {"maximum": 3}}}, "else": {"properties": {"b": {"minimum": 7}}}},
    {"oneOf": [{"type": "object", "properties": {"k": {"const": "x"}, "v": {"type": "null"}}, "required": ["k", "v"], "additionalProperties": False},
               {"type": "object", "properties": {"k": {"const": "y"}}, "required": ["k"], "additionalProperties": False}]},
    {"oneOf": [{"type": "integer", "minimum": 3}, {"type": "integer", "maximum": 5}]}, {"enum": [1, "a", [2]], "type": ["integer", "array"]},
    {"type": "number", "minimum": 3, "exclusiveMinimum": True, "$schema": "http://json-schema.org/draft-04/schema#"}, {"type": "array", "uniqueItems": True, "maxItems": 1},
    {"type": "object", "properties": {"a": {"type": "null"}}, "unevaluatedProperties": False}, {"type": "string", "format": "date"}, True,
    {"type": "array", "prefixItems": [{"type": "null"}], "items": {"type": "boolean"}, "minItems": 2}, {"type": "object", "patternProperties": {"^x": {"type": "null"}}},
]  # fmt: skip
VALUES = [
    None, True, False, 0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 29, 30, 1.5, 3.5, -3, "F", "C", "K", 'a"b', "c\\d", "é\n", "12x", "123", "ab", "b", "abc", "a", "", "xaby", "2024-02-29",
    "2024-13-01", "x" * 4000, [], [1], [None, True], [None, 1], [2], [1, 1], {}, {"a": None}, {"b": None}, {"a": None, "b": None}, {"a": 1}, {"a": 1, "b": None}, {"a": 3},
    {"a": True, "b": 2}, {"a": True, "b": 8}, {"a": False, "b": 8}, {"a": False, "b": 2}, {"k": "x", "v": None}, {"k": "y"}, {"k": "x"}, {"v": 1}, {"v": 1, "next": {"v": 2}},
    {"v": 1, "next": {}}, {"x": None}, {"xa": 1}, {"a": None, "b": None, "c": None},
]  # fmt: skip


@pytest.mark.parametrize("schema", SCHEMAS, ids=range(len(SCHEMAS)))
def test_what_may_be_said_is_what_is_valid(follows, schema):
    validator = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)(schema, format_checker=jsonschema.FormatChecker())
    wrong = [value for value in VALUES if follows(json.dumps(value, ensure_ascii=False), json_schema=schema) != validator.is_valid(value)]
    assert not wrong


@pytest.mark.parametrize("schema, name", [
    ({"type": "array", "uniqueItems": True}, "uniqueItems"), ({"type": "array", "contains": {"type": "null"}}, "contains"),
    ({"propertyNames": {"pattern": "a"}}, "propertyNames"), ({"$dynamicRef": "#a"}, "$dynamicRef"), ({"type": "string", "format": "regex"}, "format: regex"),
    ({"not": {"type": "string", "pattern": "a"}}, "not: pattern"), ({"oneOf": [{"type": "string"}, {"type": "string", "pattern": "a"}]}, "oneOf"),
    ({"properties": {"uniqueItems": {"minContains": 1}}}, "minContains"), ({"type": "array", "items": {"anyOf": [{"unevaluatedItems": False}]}}, "unevaluatedItems"),
    ({"$ref": "https://localhost/schema"}, "https://localhost/schema"), ({"$ref": "#/nowhere"}, "/nowhere"), ({"type": "nothing"}, "nothing"),
    ({"not": {}}, "none is"), (False, "none is"), ({"type": "integer", "minimum": 3, "maximum": 1}, "minimum"), ({"x-guidance": {"lenient": True}, "contains": {}}, "contains"),
    ({"x-guidance": {"nope": 1}}, "nope"), (7, "7"), ([], r"\[\]"), ("{", "JSONDecodeError"), ({"enum": []}, ""), ('{"items":' * 5000 + "1" + "}" * 5000, ""),
    ({"enum": ["x" * 100_000]}, "100000"), ({"type": "string", "pattern": "(?=a)b"}, "(?=a)b".replace("(", r"\(").replace("?", r"\?") and ""),
], ids=range(24))  # fmt: skip
def test_what_cannot_be_enforced_is_refused_by_its_name(vocab, schema, name, capfd):
    with pytest.raises(PromptError, match=f"^json_schema: expected [^\n]*{name.replace('$', '[$]')}[^\n]*$"):
        vocab.constraints.constraint("json_schema", schema)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("schema", [
    {"type": "null", "title": "not", "description": "", "default": 1, "examples": [{}], "$comment": "", "format": "int32", "contentEncoding": "base64", "$id": "https://localhost/x"},
    {"properties": {"not": {"type": "null"}, "if": {}, "uniqueItems": {}}}, {"enum": [{"not": {}, "contains": 1}]}, {"const": {"uniqueItems": True}},
    {"$defs": {"unused": {"uniqueItems": True}}, "type": "null"}, {"type": "string", "format": "password"},
], ids=range(6))  # fmt: skip
def test_what_constrains_nothing_is_no_hindrance(vocab, schema):
    vocab.constraints.constraint("json_schema", schema)


@pytest.mark.parametrize("name, value", [
    *(("grammar", text) for text in (
        "root ::= " + "(" * 90_000, "root ::= " + "(" * 40_000 + '"a"' + ")" * 40_000, "root ::= # \"\n" + "(" * 50_000, 'root ::= "\\"" [^\\]"] ' + "(" * 50_000,
        'root ::= ["' + "\r" * 500, "root ::= " + '"\\"' * 30_000, "root ::= ((", "root ::= root", "a ::= b", "root ::= a", 'root ::= "a"\nroot ::= "b"', 'root ::= "\\ud800"',
        'root ::= "\\q"', "root ::= []", 'root ::= "a"{100000000}', "root ::= \x1b]0;owned\x07\x9b2J\r x", "", "start: (", "start: start", 'start: T\nT: T', "start: \x1b[2J",
        "start: " + "(" * 90_000, "start: T0\n" + "\n".join(f"T{i}: T{i + 1} T{i + 1}" for i in range(60)) + '\nT60: "a"', 'start: x\nx: %json {"not": {}}', 7,
        "start: T\nT: /" + "(" * 50_000 + "/", "x" * 100_001, "root ::= \ud800",
    )),
    *(("regex", text) for text in ("(", "(" * 50_000, "a{1000000000}", "((a{99}){99}){99}", "(?=a)", r"\1", r"\bfoo\b", "[\x1b", "(((a*)*)*)*" * 2000, "x" * 100_001, 7, "[^\\x{0}-\\x{10ffff}]")),
    *(("choice", texts) for texts in ([], "yes", [""], [7], ["x" * 60_000, "y" * 60_000], ["\ud800"])),
])  # fmt: skip
def test_what_is_no_constraint_is_one_line(vocab, name, value, capfd):
    with pytest.raises(PromptError, match=f"^{name}: expected [^\n]*$") as refused:
        vocab.constraints.constraint(name, value)
    assert not set(str(refused.value)) & set("\x1b\x07\x9b\r")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("text", [
    'root ::= "a" "' + "(" * 3000 + '"', "root ::= [a(((((] # (((\n", "\n".join(f"r{i} ::= r{i + 1}" for i in range(5000)) + '\nroot ::= r0\nr5000 ::= "a"',
    "root ::= " + " | ".join(f'"a{i}"' for i in range(5000)), 'root ::= s\ns ::= "a" s "b" | "a" s "c" | "a"', 'start: "a" | start "b"', 'start: x+\nx: /[ab]/',
    'root ::= (\n"a"\n | "b" )\n\n# end', 'root-1 ::= "a"\r\nroot ::= root-1 .*',
], ids=range(9))  # fmt: skip
def test_what_is_a_grammar_still_is(vocab, text):
    """Also on a thread, whose stack is smaller."""
    allowed = []

    def follow():
        made = vocab.constraints.constraint("grammar", text)
        allowed.append(made.allows(vocab.tokenize("a")[0]) and not made.allows(vocab.tokenize("z")[0]))

    thread = threading.Thread(target=follow)
    thread.start()
    thread.join()
    assert allowed == [True]


GBNF = [
    ('root ::= "yes " [0-9][0-9] " times"', ["yes 12 times"], ["yes 1 times", "yes 12 times "]), ('root ::= a "x"\na ::= [a-z]+', ["abx", "xx"], ["ab", "x"]),
    ('root ::= "\\u00e9" [\\u00e9\\x41] "\\U0001F600"', ["éé😀", "éA😀"], ["éB😀"]), ('root ::= [^\\x00]*', ["", "a\nb"], []), ('root ::= . "b"', ["\nb", "éb"], ["b"]),
    ('root ::= [a&&b~-]+', ["a&b~-"], ["c"]), ('root ::= "a\x1b\x7f\\n\u2028"', ["a\x1b\x7f\n\u2028"], ["a"]), ('root ::= "a"{2,3} | "b"{2} | "c"{1,}', ["aa", "bb", "ccc"], ["a", "bbb"]),
    ('root ::= ("a" | b)*\nb ::= "c" root?', ["acca", ""], ["b"]), ('root ::= [\\]"\\\\-]+ "/"', ['\\"]-/'], ["a/"]), ('root ::= ( | "a") "b" |', ["b", "ab", ""], ["a"]),
    ('root ::= ws "x" ws\nws ::= [ \\n]*', [" x\n", "x"], [" "]), ('root ::= "//" [^/]+', ["//ab"], ["///"]), ('root ::= s\ns ::= "a" s "b" | "d"', ["aadbb"], ["aadb"]),
]  # fmt: skip


@pytest.mark.parametrize("grammar, good, bad", GBNF, ids=range(len(GBNF)))
def test_gbnf_means_what_llama_cpp_means_by_it(follows, grammar, good, bad):
    assert [follows(text, grammar=grammar) for text in (*good, *bad)] == [True] * len(good) + [False] * len(bad)


def test_regular_expressions_and_choices_are_of_the_whole_text(follows):
    assert [follows(text, regex="^[a-c]+$") for text in ("abc", "", "abd", "abc ")] == [True, False, False, False]
    assert [follows(text, regex=r"\d\d|\w+!") for text in ("12", "é!", "1")] == [True, True, False]
    choices = ["yes", "yes, sir", 'a "b" \\ \n', "é\x1b"]
    assert all(follows(text, choice=choices) for text in choices)
    assert not any(follows(text, choice=choices) for text in ("no", "yes, ", ""))


def test_json_is_as_json_dumps_writes_it_or_as_the_schema_says(follows):
    schema = {"type": "object", "properties": {"a": {"type": "array", "items": {"type": "integer"}}}, "required": ["a"]}
    texts = ['{"a": [1, 2]}', '{"a":[1,2]}', '{\n    "a": [\n 1, 2]\n}']
    assert [follows(text, json_schema=schema) for text in texts] == [True, False, False]
    from alora_gguf.runtime.constraint import FLEXIBLE

    assert [follows(text, json_schema={**schema, "x-guidance": FLEXIBLE}) for text in texts] == [True, True, True]
    assert [follows(text, json_schema={**schema, "x-guidance": {"whitespace_flexible": False}}) for text in texts] == [False, True, False]


def test_what_is_forced_is_the_tokenizers_own_for_that_text(vocab):
    for value in ({"found": "answerability", "n": [1, 2]}, "right", ["é", "naïve 日本"], {"a b": {"c": None}}):
        made = vocab.constraints.constraint("json_schema", {"const": value})
        text, said = json.dumps(value, ensure_ascii=False), []
        own = vocab.tokenize_more(text, special=False)
        while not made.is_over:
            forced = made.forced(3)
            said += forced or [own[len(said)]]  # what could be longer is sampled
            for token in said[len(said) - max(1, len(forced)) :]:
                assert made.allows(token)
                made.accept(token)
        assert said == own


@pytest.mark.parametrize("regex", ["[a-f]{3}|12", "(?s:.)*", "[^,]*"])
def test_a_mask_is_what_is_allowed_token_by_token(vocab, regex):
    made = vocab.constraints.constraint("regex", regex)
    allowed = allowed_by(made)
    some = np.random.default_rng(0).integers(0, vocab.n_tokens, 2000).tolist() + np.flatnonzero(allowed).tolist()[::7]
    assert allowed.any() and all(made.allows(token) == allowed[token] for token in some)
    assert set(np.flatnonzero(allowed)) & set(vocab.control_tokens) <= set(vocab.ends)


def test_compiled_constraints_are_shared_and_do_not_grow_without_end(vocab):
    one, other = (vocab.constraints.constraint("choice", ["ab", "cd"]) for _ in range(2))
    [a] = vocab.tokenize_more("ab", special=False)[:1]
    one.accept(a)
    assert other.allows(a) and len(other.forced(9)) == 0
    for i in range(60):
        vocab.constraints.constraint("choice", [f"choice {i}"])
    assert len(vocab.constraints._compiled) <= 32


def test_a_vocabulary_of_bytes_without_an_end(tmp_path):
    from tiny import bytes_vocabulary

    with load_vocab(bytes_vocabulary(tmp_path / "vocab.gguf")) as vocab:
        vocab.ends = []
        made = vocab.constraints.constraint("choice", ["é", "w1 w2"])
        text = b""
        while not made.is_over:
            token = int(np.flatnonzero(allowed_by(made))[-1])
            made.accept(token)
            text += vocab.token_bytes(token)
        assert text.decode() in ("é", "w1 w2")
        assert not allowed_by(made).any()
        assert allowed_by(vocab.constraints.constraint("regex", "a*")).sum() == 1  # the end is no token of it


def test_objects_are_closed_where_the_schema_does_not_speak_of_others():
    inner = {"properties": {"properties": {"type": "string"}}}
    assert closed(inner) == {**inner, "additionalProperties": False}
    assert closed({"items": inner, "$defs": {"a": inner}}) == {"items": closed(inner), "$defs": {"a": closed(inner)}}
    assert closed({"anyOf": [inner, True]}) == {"anyOf": [closed(inner), True]}
    for left in (
        {"allOf": [inner]},
        {"enum": [inner]},
        {**inner, "additionalProperties": True},
        {**inner, "patternProperties": {}},
        {"type": "object"},
    ):
        assert closed(left) == left
