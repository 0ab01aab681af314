"""io.yaml as published in 2026: every request and every result of shared/conformance/mellea, and the numbers of sentences."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from published import ANSWERABILITY, ATTRIBUTION, CASES, CITATIONS, STUB, WITH_RESULTS, as_token, case, folder_of, io_of, read

from alora_gguf import IoYamlError, ResultError
from alora_gguf.prompt.io_yaml import IntrinsicIO

FEW = settings(max_examples=50, deadline=None)
PLAIN = {"model": None, "response_format": None, "transformations": None}
CHAT = [
    {"role": "user", "content": "When does it leave? I am late."},
    {"role": "assistant", "content": "At nine. Hurry up!"},
    {"role": "user", "content": "Thanks. Bye."},
]
DOCUMENTS = ["It leaves at nine. It is red.", {"text": "Tickets are sold aboard.", "doc_id": "x"}]


@pytest.fixture(scope="module")
def conformance(repo):
    return folder_of(repo)


def decoding(source, names, tags=None):
    rule = {"type": "decode_sentences", "source": source, "input_path": [None, "n"], "output_names": names}
    tags = {"last_message": "r", "documents": "c", "all_but_last_message": "c"} if tags is None else tags
    return PLAIN | {"sentence_boundaries": tags, "transformations": [rule]}


def near(value):
    """Python sums floats otherwise since 3.12, which shows in the last digit."""
    if isinstance(value, float):
        return pytest.approx(value, rel=1e-14, abs=0)
    if isinstance(value, list):
        return [near(v) for v in value]
    return {k: near(v) for k, v in value.items()} if isinstance(value, dict) else value


# the stored cases


@pytest.mark.parametrize("name", CASES)
def test_the_request(name, conformance):
    text, before, arguments = case(conformance, name)
    asked = io_of(text).rewrite(before["messages"], (before.get("extra_body") or {}).get("documents"), **arguments)
    want = read(conformance, "requests", name)
    extra = want["extra_body"]
    assert asked.messages == want["messages"]
    assert asked.template_arguments == {k: v for k, v in extra.items() if k != "structured_outputs"}
    assert asked.schema == extra["structured_outputs"]["json"]
    renamed = {"max_completion_tokens": "max_tokens"}
    said = {renamed.get(k, k): v for k, v in want.items() if k not in ("messages", "extra_body", "logprobs", "top_logprobs")}
    client = {renamed.get(k, k): v for k, v in before.items() if k not in ("messages", "extra_body")}
    assert client | asked.sampling == said
    assert asked.top_logprobs == want.get("top_logprobs", 0)
    made = asked.completion.model_dump()
    assert {**{k: v for k, v in before.items() if k != "extra_body"}, **made} == want  # what a client says beside it is not ours


@pytest.mark.parametrize("name", WITH_RESULTS)
def test_the_result(name, conformance):
    text, before, arguments = case(conformance, name)
    io = io_of(text)
    asked = io.rewrite(before["messages"], (before.get("extra_body") or {}).get("documents"), **arguments)
    [choice] = read(conformance, "model_output", name)["choices"]
    logprobs = [as_token(t) for t in ((choice.get("logprobs") or {}).get("content") or ())]
    got = io.result(asked, choice["message"]["content"], logprobs)
    [want] = read(conformance, "results", name)["choices"]
    assert got == near(json.loads(want["message"]["content"]))


def test_all_stored_cases_are_tested(conformance):
    assert set(CASES) == {path.stem for path in (conformance / "requests").iterdir()}
    assert set(WITH_RESULTS) == {path.stem for path in (conformance / "results").iterdir()}
    assert set(WITH_RESULTS) == {path.stem for path in (conformance / "model_output").iterdir()}


def test_every_stored_io_yaml_is_read(conformance):
    read = {path.stem: IntrinsicIO.open(path) for path in (conformance / "io").iterdir()}
    assert {name for name, io in read.items() if io.name} == {"uncertainty"} and read["uncertainty"].name == "uncertainty"
    assert read["answerability_ollama"].schema == read["answerability"].schema  # in its parameters, as Ollama takes it
    assert read["answerability_ollama"].sampling == {"max_tokens": 6}


# the instruction


@FEW
@given(st.text("a{<\u00fc. ", max_size=9), st.text("b.}", min_size=1, max_size=9).filter(str.strip))
def test_the_words_of_the_file_itself(value, last):
    """What the invocation is looked for in: arguments that spell it are no place for it."""
    io = io_of(PLAIN | {"instruction": "{value}One {{two}} {last_message}{value!r} three", "sentence_boundaries": {"last_message": "r"}})
    asked = io.rewrite([{"role": "user", "content": last}], value=value)
    text = asked.messages[-1]["content"]
    assert [text[begin:end] for begin, end in asked.own_words] == ["One {", "two}", " ", " three"]
    assert text.startswith(value) and text[len(value) :].startswith("One {two} <r0> ")
    assert io_of(PLAIN).rewrite(CHAT).own_words == ()


# names and stubs


@given(st.text(st.characters(categories=("L", "N")), min_size=1))
@FEW
def test_a_stub_asks_nothing_and_has_the_text_as_its_result(name):
    io = io_of({"name": name})
    asked = io.rewrite(CHAT, DOCUMENTS)
    assert (io.name, io.arguments, asked.messages, asked.n_conversation) == (name, [], CHAT, len(CHAT))
    assert (asked.schema, asked.sampling, asked.top_logprobs) == (None, {}, 0)
    assert io.result(asked, '{"x"') == '{"x"'


def test_a_name_changes_nothing_else():
    named, bare = io_of(CITATIONS), io_of(CITATIONS.replace("name: citations\n", ""))
    assert (named.name, bare.name) == ("citations", None)
    assert named.rewrite(CHAT, DOCUMENTS) == bare.rewrite(CHAT, DOCUMENTS)
    assert io_of(STUB).name == "guardian-core"


# sentences


def test_documents_and_earlier_messages_have_one_numbering_and_the_last_message_its_own():
    asked = io_of(ATTRIBUTION).rewrite(CHAT, DOCUMENTS)
    assert [d["text"] for d in asked.template_arguments["documents"]] == ["<c0> It leaves at nine. <c1> It is red.", "<c2> Tickets are sold aboard."]
    assert [m["content"] for m in asked.messages[:-1]] == [
        "<c3> When does it leave? <c4> I am late.",
        "<c5> At nine. <c6> Hurry up!",
        "<r0> Thanks. <r1> Bye.",
    ]
    assert [m["role"] for m in asked.messages] == ["user", "assistant", "user", "user"]
    assert asked.n_conversation == 3


@pytest.mark.parametrize(("tags", "documents", "first"), [
    ({"all_but_last_message": "h"}, DOCUMENTS, 0),
    ({"all_but_last_message": "h", "documents": ""}, DOCUMENTS, 0),
    ({"all_but_last_message": "h", "documents": "d"}, DOCUMENTS, 3),
    ({"all_but_last_message": "h", "documents": "d"}, None, 0),
], ids=range(4))  # fmt: skip
def test_where_the_numbers_of_earlier_messages_begin(tags, documents, first):
    asked = io_of(PLAIN | {"sentence_boundaries": tags}).rewrite(CHAT, documents)
    assert asked.messages[0]["content"] == f"<h{first}> When does it leave? <h{first + 1}> I am late."
    assert asked.messages[-1] == CHAT[-1]


def test_what_else_a_message_has_stays():
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]}
    chat = [CHAT[0], call, {"role": "tool", "content": "At nine. Sharp.", "tool_call_id": "1"}, CHAT[-1]]
    before = json.dumps(chat)
    io = io_of(decoding(["documents", "all_but_last_message"], {"message_index": "m", "text": "t"}))
    asked = io.rewrite(chat, DOCUMENTS)
    assert json.dumps(chat) == before
    assert asked.messages[1] == call
    assert asked.messages[2] == {"role": "tool", "content": "<c5> At nine. <c6> Sharp.", "tool_call_id": "1"}
    assert io.result(asked, '[{"n": 5}]') == [{"n": 5, "m": 2, "t": "At nine. "}]


def test_a_number_becomes_a_sentence_of_a_document_or_of_an_earlier_message():
    io = io_of(ATTRIBUTION)
    asked = io.rewrite(CHAT, DOCUMENTS)
    got = io.result(asked, '[{"r": 1, "c": [2, 2, 5]}, {"r": 1, "c": [5]}, {"r": 0, "c": []}]')
    assert got == [
        {"response_begin": 8, "response_end": 12, "response_text": "Bye.", "attribution_doc_id": "x", "attribution_msg_index": None,
         "attribution_begin": 0, "attribution_end": 24, "attribution_text": "Tickets are sold aboard."},
        {"response_begin": 8, "response_end": 12, "response_text": "Bye.", "attribution_doc_id": None, "attribution_msg_index": 1,
         "attribution_begin": 0, "attribution_end": 9, "attribution_text": "At nine. "},
    ]  # fmt: skip


@pytest.mark.parametrize("how", [None, "json", "roles"])
@pytest.mark.parametrize("documents", [DOCUMENTS, None], ids=["documents", "none"])
def test_documents_as_messages_are_no_earlier_messages(how, documents):
    io = io_of(decoding(["documents", "all_but_last_message"], {"message_index": "m", "document_id": "d"}) | {"docs_as_message": how})
    asked = io.rewrite(CHAT, documents)
    n = 3 if documents else 0
    got = [(e["m"], e["d"]) for e in io.result(asked, json.dumps([{"n": i} for i in range(n + 4)]))]
    assert got == [(None, "1"), (None, "1"), (None, "x")][:n] + [(0, None), (0, None), (1, None), (1, None)]


@pytest.mark.parametrize(("source", "numbers", "texts"), [
    ("all_but_last_message", [3, 6], ["When does it leave? ", "Hurry up!"]),
    (["all_but_last_message", "documents"], [3, 0], ["When does it leave? ", "It leaves at nine. "]),
    (["last_message", "documents"], [0, 2, 4], ["Thanks. ", "It leaves at nine. ", "Tickets are sold aboard."]),
    (["documents", "last_message"], [0, 3], ["It leaves at nine. ", "Thanks. "]),
], ids=range(4))  # fmt: skip
def test_whose_number_it_is(source, numbers, texts):
    io = io_of(decoding(source, {"text": "t"}))
    got = io.result(io.rewrite(CHAT, DOCUMENTS), json.dumps([{"n": n} for n in numbers]))
    assert [e["t"] for e in got] == texts


def test_tags_that_people_write_move_no_numbers():
    """granite-common finds sentences by their tags, wherever they come from."""
    io = io_of(decoding("documents", {"text": "t", "document_id": "d"}))
    asked = io.rewrite(CHAT, ["One <c1> two. Three <c0> four.", "Five."])
    assert io.result(asked, '[{"n": 0}, {"n": 1}, {"n": 2}]') == [
        {"n": 0, "t": "One <c1> two. ", "d": "1"},
        {"n": 1, "t": "Three <c0> four.", "d": "1"},
        {"n": 2, "t": "Five.", "d": "2"},
    ]


@pytest.mark.parametrize("value", [7, -1, True, 1.0, "0"])
def test_a_number_without_a_sentence_is_an_error(value):
    io = io_of(decoding(["documents", "all_but_last_message"], {"text": "t"}))
    with pytest.raises(ResultError, match=r"which is no number of a sentence of documents, all_but_last_message \(0 to 6\)") as e:
        io.result(io.rewrite(CHAT, DOCUMENTS), json.dumps([{"n": value}]))
    assert "\n" not in str(e.value)


# duplicates

RECORDS = st.lists(st.fixed_dictionaries({name: st.integers(0, 2) | st.sampled_from(["a", "b"]) for name in "abc"}))


@given(RECORDS, st.lists(st.sampled_from("abc"), unique=True, min_size=1))
@FEW
def test_duplicates_are_dropped(records, fields):
    io = io_of(PLAIN | {"transformations": [{"type": "drop_duplicates", "input_path": [], "target_fields": fields}]})
    got = io.result(io.rewrite(CHAT), json.dumps(records))
    keys = [tuple(r[f] for f in fields) for r in records]
    assert [tuple(r[f] for f in fields) for r in got] == list(dict.fromkeys(keys))
    assert all(r == records[len(keys) - 1 - keys[::-1].index(tuple(r[f] for f in fields))] for r in got)


def test_lists_can_be_duplicates_too():
    io = io_of(PLAIN | {"transformations": [{"type": "drop_duplicates", "input_path": [], "target_fields": ["a"]}]})
    records = [{"a": [1]}, {"a": "[1]"}, {"a": {"x": 1}}, {"a": [1]}, {"a": {"x": 1}}]
    assert io.result(io.rewrite(CHAT), json.dumps(records)) == records[:3]


def test_rules_are_applied_in_the_order_of_the_file():
    nest = {"type": "nest", "input_path": [], "field_name": "x"}
    drop = {"type": "drop_duplicates", "input_path": [], "target_fields": ["n"]}
    after = drop | {"input_path": ["x"]}
    for transformations in ([drop, nest], [nest, after]):
        io = io_of(PLAIN | {"transformations": transformations})
        assert io.result(io.rewrite(CHAT), '[{"n": 1}, {"n": 1}]') == {"x": [{"n": 1}]}


# schemas


@pytest.mark.parametrize("config", [
    {"response_format": {"type": "integer"}},
    {"parameters": {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "integer"}, "strict": True}}}},
    {"parameters": {"extra_body": {"structured_outputs": {"json": {"type": "integer"}}}}},
], ids=range(3))  # fmt: skip
def test_a_schema_holds_wherever_it_stands(config):
    assert io_of(PLAIN | config).rewrite(CHAT).schema == {"type": "integer"}


# errors

DROP = {"type": "drop_duplicates", "input_path": [], "target_fields": "n"}


@pytest.mark.parametrize(("config", "said"), [
    ({"name": 3}, "name: expected text, got 3"),
    ({"name": "x", "instruction": "y"}, "missing required field 'model'"),
    (PLAIN | {"sentence_boundaries": {"all_but_last_message": 3}}, "sentence_boundaries.all_but_last_message: expected a prefix, which is text, got 3"),
    (PLAIN | {"sentence_boundaries": {"all_but_last_message": None}}, "sentence_boundaries.all_but_last_message: expected a prefix"),
    (PLAIN | {"sentence_boundaries": {"all_but_last_message": "c", "first": "x"}}, "Unexpected location 'first'"),
    (PLAIN | {"sentence_boundaries": ["all_but_last_message"]}, "'sentence_boundaries', if present, must be a mapping"),
    (decoding([], {}), "transformations[0].source: expected some of last_message, all_but_last_message, documents, each once, got []"),
    (decoding(["documents", "documents"], {}), "transformations[0].source: expected some of"),
    (decoding([["documents"]], {}), "transformations[0].source: expected some of"),
    (decoding({"documents": 1}, {}), "transformations[0].source: expected some of"),
    (decoding("title", {}), "transformations[0].source: expected some of"),
    (decoding(["documents"], {}, {"last_message": "r"}), "transformations[0].source: expected sentences that sentence_boundaries numbers (last_message)"),
    (decoding("documents", {}, {}), "numbers (none), got documents"),
    (decoding("documents", {}, {"documents": ""}), "numbers (none), got documents"),
    (decoding("documents", ["begin"]), "transformations[0].output_names: expected a mapping to names"),
    (decoding("documents", {"begin": 3}), "transformations[0].output_names: expected a mapping to names"),
    (decoding("documents", {"message_index": "m"}), "transformations[0].output_names: expected begin, end, text, document_id of documents"),
    (decoding(["all_but_last_message"], {"document_id": "d"}), "transformations[0].output_names: expected begin, end, text, document_id of"),
    (decoding("documents", {"page": "p"}), "of earlier messages, got page"),
    (decoding("documents", {}) | {"docs_as_message": "string"}, "document encoding method 'string' is not yet supported"),
    (PLAIN | {"transformations": [DROP]}, "transformations[0].target_fields: expected a list of names, got n"),
    (PLAIN | {"transformations": [{"type": "drop_duplicates"}]}, "got KeyError 'input_path'"),
    (PLAIN | {"transformations": {"type": "drop_duplicates"}}, "an io.yaml that granite-common takes"),
    (PLAIN | {"parameters": {"response_format": {"type": "json_schema"}}}, "parameters.response_format: expected type text, or type json_schema"),
    (PLAIN | {"parameters": {"response_format": "json"}}, "parameters.response_format: expected type text"),
    (PLAIN | {"parameters": {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "null"}}}}, "response_format": {"type": "integer"}},
     "parameters.response_format: expected the schema that is in response_format, or none"),
    (PLAIN | {"parameters": {"extra_body": {"structured_outputs": {"regex": "x"}}}}, "parameters.extra_body.structured_outputs: expected a JSON schema"),
], ids=range(27))  # fmt: skip
def test_files_that_are_refused(config, said):
    with pytest.raises(IoYamlError) as e:
        io_of(config)
    assert str(e.value).startswith("x.io.yaml: ") and said in str(e.value) and "\n" not in str(e.value)


def test_the_published_files_are_read():
    assert io_of(ANSWERABILITY).schema["enum"] == ["answerable", "unanswerable"]
    assert io_of(ATTRIBUTION).rewrite(CHAT).sampling == {"temperature": 0.0, "max_tokens": 4096}
