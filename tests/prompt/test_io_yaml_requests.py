"""io.yaml without a model: requests and results are granite-common's own, and errors are one line."""

import json
import math
import socket
from itertools import permutations

import nltk
import pytest
import yaml
from granite_common import IntrinsicsRewriter
from hypothesis import given, settings
from hypothesis import strategies as st

from alora_gguf import IoYamlError, PromptError, ResultError, TokenLogprob
from alora_gguf.prompt.io_yaml import IntrinsicIO, documents_of, judged

FEW = settings(max_examples=30, deadline=None)
HELLO = [{"role": "user", "content": "Hello."}, {"role": "assistant", "content": "Good day. How are you?"}]
PLAIN = {"model": None, "response_format": None, "transformations": None}
ANSWERABILITY = PLAIN | {
    "response_format": '{"type": "string", "enum": ["answerable", "unanswerable"]}',
    "transformations": [
        {"type": "likelihood", "categories_to_values": {"answerable": 1.0, "unanswerable": 0.0}, "input_path": []},
        {"type": "nest", "input_path": [], "field_name": "answerability_likelihood"},
    ],
    "parameters": {"max_completion_tokens": 6},
}
CITATIONS = PLAIN | {
    "instruction": "Split the last assistant response into individual sentences.  For each sentence in the response, "
    "identify the statement IDs from the below  documents that it references. Ensure that your output "
    "includes all response  sentence IDs, and for each response sentence ID, provide the list of corresponding "
    " referring document sentence IDs. The output must be a json structure.\n",
    "sentence_boundaries": {"last_message": "r", "documents": "c"},
    "parameters": {"temperature": 0.0, "max_completion_tokens": 4096},
}
RELEVANCE = PLAIN | {
    "response_format": {
        "title": "ContextRelevanceOutput",
        "type": "object",
        "properties": {
            "context_relevance": {
                "type": "string",
                "description": "Context relevancy judgment.",
                "enum": ["relevant", "irrelevant", "partially relevant"],
            }
        },
        "required": ["context_relevance"],
    },
    "transformations": [
        {
            "type": "likelihood",
            "input_path": ["context_relevance"],
            "categories_to_values": {"relevant": 1.0, "irrelevant": 0.0, "partially relevant": 0.5},
        }
    ],
    "instruction": "DOCUMENT: {document_content}\n",
}
REWRITE = PLAIN | {
    "response_format": {
        "properties": {"rewritten_question": {"title": "Rewritten Question", "type": "string"}},
        "required": ["rewritten_question"],
        "title": "QueryRewriteOutput",
        "type": "object",
    },
    "parameters": {"max_completion_tokens": 1024},
}
UNCERTAINTY = PLAIN | {
    "response_format": {"type": "integer", "enum": list(range(10))},
    "transformations": [{"type": "likelihood", "input_path": [], "categories_to_values": {n: 0.05 + n / 10 for n in range(10)}}],
    "parameters": {"max_completion_tokens": 2},
}


def io_of(config, where="x.io.yaml"):
    return IntrinsicIO.read(yaml.safe_dump(config), where)


# requests


@pytest.fixture(scope="module")
def conformance(repo):
    folder = repo.parent / "shared" / "conformance" / "granite-common"
    if not folder.is_dir():
        pytest.skip(f"no conformance data in {folder}")
    return folder


def as_request(given, asked):
    """A chat completion request, as a client of granite-common sends it."""
    made = {k: v for k, v in given.items() if k not in ("messages", "extra_body")} | {"messages": asked.messages}
    extra = asked.template_arguments | ({"structured_outputs": {"json": asked.schema}} if asked.schema else {})
    made |= {"max_completion_tokens" if name == "max_tokens" else name: value for name, value in asked.sampling.items()}
    if asked.top_logprobs:
        made |= {"logprobs": True, "top_logprobs": asked.top_logprobs}
    return made | ({"extra_body": extra} if extra else {})


def rewritten(config, given, **arguments):
    return as_request(given, io_of(config).rewrite(given["messages"], given.get("extra_body", {}).get("documents"), **arguments))


def test_every_input_through_every_io_yaml_is_the_librarys_request(conformance):
    n = 0
    for io_file in sorted((conformance / "io").iterdir()):
        for input_file in sorted((conformance / "inputs").iterdir()):
            given, config = json.loads(input_file.read_text()), yaml.safe_load(io_file.read_text())
            arguments = {"test_kwarg": "Max"} if io_file.stem == "instruction" else {}
            library = IntrinsicsRewriter(config_file=io_file).transform(given, **arguments).model_dump()
            assert rewritten(config, given, **arguments) == library, (io_file.name, input_file.name)
            n += 1
    assert n >= 18


@pytest.mark.parametrize(("name", "input_name", "config", "arguments"), [
    ("answerability_simple", "simple", "answerability", {}),
    ("answerability_extra_params", "extra_params", "answerability", {}),
    ("answerability_answerable", "answerable", "answerability", {}),
    ("answerability_unanswerable", "unanswerable", "answerability", {}),
    ("instruction", "instruction", "instruction", {"test_kwarg": "George"}),
    ("citations", "citations", CITATIONS, {}),
    ("context_relevance", "context_relevance", RELEVANCE, {"document_content": None}),
    ("query_rewrite", "query_rewrite", REWRITE, {}),
    ("uncertainty", "uncertainty", UNCERTAINTY, {}),
], ids=lambda value: value if isinstance(value, str) else "")  # fmt: skip
def test_the_stored_requests(name, input_name, config, arguments, conformance):
    want = json.loads((conformance / "requests" / f"{name}.json").read_text())
    given = json.loads((conformance / "inputs" / f"{input_name}.json").read_text())
    if isinstance(config, str):
        config = yaml.safe_load((conformance / "io" / f"{config}.yaml").read_text())
    if config is CITATIONS:
        config = CITATIONS | {"response_format": want["extra_body"]["structured_outputs"]["json"]}
    if "document_content" in arguments:
        arguments = {"document_content": want["messages"][-1]["content"].removeprefix("DOCUMENT: ").removesuffix("\n")}
    assert rewritten(config, given, **arguments) == want


def test_all_stored_requests_are_tested(conformance):
    tested = {values[0] for mark in test_the_stored_requests.pytestmark for values in mark.args[1]}
    assert tested == {path.stem for path in (conformance / "requests").iterdir()}


MESSAGES = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant"]), "content": st.text(min_size=1)}), min_size=1)


@FEW
@given(MESSAGES.filter(lambda messages: messages[-1]["content"].strip()))
def test_the_conversation_stands_before_the_instruction_and_stays_as_it_is(messages):
    before = json.dumps(messages)
    asked = io_of(PLAIN | {"instruction": "<judge> {last_message} {{}}"}).rewrite(messages)
    assert json.dumps(messages) == before
    assert asked.messages[: asked.n_conversation] == messages
    assert asked.messages[asked.n_conversation :] == [{"role": "user", "content": f"<judge> {messages[-1]['content']} {{}}"}]
    marked = io_of(CITATIONS).rewrite(messages)
    assert marked.messages[: len(messages) - 1] == messages[:-1] and json.dumps(messages) == before


def test_sentences_are_split_without_data_or_network(monkeypatch):
    def offline(*_, **__):
        raise OSError("no network in this test")

    monkeypatch.setattr(nltk.data, "path", [])
    monkeypatch.setattr(socket, "socket", offline)
    asked = io_of(CITATIONS).rewrite(HELLO, ["It rains. It pours.", {"text": "Dr. Who is here.", "doc_id": "z"}])
    assert asked.messages[1]["content"] == "<r0> Good day. <r1> How are you?"
    assert asked.template_arguments["documents"][0] == {"doc_id": "1", "text": "<c0> It rains. <c1> It pours."}
    assert asked.template_arguments["documents"][1]["text"].startswith("<c2> Dr.")


def test_documents_have_numbers_unless_they_have_ids():
    assert documents_of(["a", {"text": "b", "doc_id": "x", "title": "B"}, {"text": "c"}]) == [
        {"doc_id": "1", "text": "a"},
        {"doc_id": "x", "text": "b", "title": "B"},
        {"doc_id": "3", "text": "c"},
    ]
    asked = io_of(PLAIN | {"docs_as_message": "string", "instruction": "Judge."}).rewrite(HELLO, ["It rains."])
    assert asked.messages[0] == {"role": "user", "content": "You have access to the following documents:\n\n[Document 1]\nIt rains."}
    assert (asked.n_conversation, asked.template_arguments) == (3, {})


@pytest.mark.parametrize("names", [*permutations(("text", "title", "doc_id"))])
def test_the_base_sees_documents_as_an_intrinsic_does(names):
    """In a template that writes them as JSON, too: else nothing of a conversation could be used again."""
    given = [{name: f"the {name}" for name in names}, {name: name for name in names if name != "doc_id"}, "It rains."]
    asked = io_of(PLAIN).rewrite(HELLO, given)
    assert json.dumps(documents_of(given)) == json.dumps(asked.template_arguments["documents"])
    assert list(documents_of([{"page": 7, **given[0]}])[0]) == ["text", "title", "doc_id", "page"]


def test_parameters_are_this_packages():
    asked = io_of(
        PLAIN
        | {
            "parameters": {
                "max_completion_tokens": 7,
                "top_p": 0.5,
                "logprobs": True,
                "extra_body": {"repetition_penalty": 1.5, "chat_template_kwargs": {"thinking": True}},
            }
        }
    )
    request = asked.rewrite(HELLO)
    assert request.sampling == {"max_tokens": 7, "top_p": 0.5, "repeat_penalty": 1.5}
    assert request.template_arguments == {"thinking": True}


def test_what_is_judged():
    assert judged(HELLO, None, "x") == judged(HELLO, "assistant", "x") == HELLO
    assert judged(HELLO, "user", "x") == HELLO[:1]
    with pytest.raises(PromptError, match="^intrinsic 'x': messages: expected one of role assistant, .* got none; add one first$"):
        judged(HELLO[:1], "assistant", "intrinsic 'x'")


# results


def tokens_of(text, *chunks, value_at, top):
    """Logprobs of a text in chunks: at the chunk `value_at` the alternatives `top`, each {text: probability}."""
    assert "".join(chunks) == text
    alternatives = tuple(TokenLogprob(t, 0, math.log(p)) for t, p in top.items())
    return [TokenLogprob(p, 0, math.log(top[p]) if i == value_at else 0.0, alternatives if i == value_at else ()) for i, p in enumerate(chunks)]


@FEW
@given(st.floats(0.01, 0.8), st.floats(0.01, 0.1), st.floats(0.001, 0.05))
def test_a_likelihood_is_the_share_of_the_tokens_that_begin_a_category(un, answer, other):
    io = io_of(ANSWERABILITY)
    top = {"un": un, "answer": answer, "a": answer / 2, "x": other}
    logprobs = tokens_of('"unanswerable"', '"', "un", "answerable", '"', value_at=1, top=top)
    got = io.result(io.rewrite(HELLO), '"unanswerable"', logprobs)
    assert got == {"answerability_likelihood": pytest.approx(1.5 * answer / (1.5 * answer + un))}


def test_a_number_is_a_category_too():
    io = io_of(UNCERTAINTY)
    logprobs = tokens_of("9", "9", value_at=0, top={"9": 0.6, "3": 0.2, "x": 0.2})
    assert io.result(io.rewrite(HELLO), "9", logprobs) == pytest.approx(0.75 * 0.95 + 0.25 * 0.35)


def test_only_as_many_alternatives_as_granite_common_asks_for():
    io = io_of(UNCERTAINTY)
    top = {"9": 0.2, **{f"x{i}": 0.05 for i in range(9)}}
    first, more = (io.result(io.rewrite(HELLO), "9", tokens_of("9", "9", value_at=0, top=t)) for t in (top, top | {"0": 0.04}))
    assert first == more == pytest.approx(0.95)


def test_sentence_numbers_become_spans():
    config = CITATIONS | {
        "transformations": [
            {"type": "explode", "input_path": [], "target_field": "c"},
            {
                "type": "decode_sentences",
                "source": "last_message",
                "input_path": [None, "r"],
                "output_names": {"begin": "begin", "end": "end", "text": "said"},
            },
            {"type": "decode_sentences", "source": "documents", "input_path": [None, "c"], "output_names": {"document_id": "doc", "text": "by"}},
            {"type": "project", "input_path": [], "retained_fields": ["begin", "end", "said", "doc", "by"]},
        ]
    }
    io = io_of(config)
    request = io.rewrite(HELLO, ["It rains. It pours.", "Who cares?"])
    got = io.result(request, '[{"r": 1, "c": [0, 2]}]')
    assert [(HELLO[1]["content"][g["begin"] : g["end"]], g["said"], g["doc"], g["by"].strip()) for g in got] == [
        ("How are you?", "How are you?", "1", "It rains."),
        ("How are you?", "How are you?", "2", "Who cares?"),
    ]


ANY_JSON = io_of(PLAIN | {"response_format": {"type": "object"}})


@FEW
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_without_transformations_the_result_is_the_json(value):
    assert ANY_JSON.result(ANY_JSON.rewrite(HELLO), json.dumps(value)) == value


def test_without_a_schema_the_result_is_the_text():
    io = io_of(PLAIN)
    assert io.result(io.rewrite(HELLO), '"42"') == '"42"'


@pytest.mark.parametrize(("config", "text", "said"), [
    (ANSWERABILITY, '"answ', "output: expected JSON as its response_format says, got '\"answ'; give it more max_tokens"),
    (ANSWERABILITY, '"answerable"', "expected what its transformations can be applied to, got This rule requires logprobs"),
    (PLAIN | {"transformations": [{"type": "explode", "input_path": [], "target_field": "x"}]}, "3", "is not a list"),
    (PLAIN | {"transformations": [{"type": "nest", "input_path": [], "field_name": "x"}]}, "no json", "expected JSON"),
], ids=range(4))  # fmt: skip
def test_results_that_cannot_be(config, text, said):
    io = io_of(config)
    with pytest.raises(ResultError) as e:
        io.result(io.rewrite(HELLO), text)
    assert said in str(e.value) and str(e.value).startswith("x.io.yaml: ") and "\n" not in str(e.value)


# errors


BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefg", "bcdefgh"))


@pytest.mark.parametrize(("text", "said"), [
    ("model: [", "expected YAML, got"),
    ("", "expected a mapping, got NoneType"),
    ("- model", "expected a mapping, got list"),
    ("x: " + "[" * 5000, "expected YAML, got"),
    ("x: " + "y" * 100_000, "at most 100000 characters"),
    (BOMB, "more, by aliases"),
    ("x: " + "9" * 5000, "expected YAML, got"),
    (PLAIN | {"instructions": "x"}, "unexpected top-level field 'instructions'"),
    ({"model": None}, "missing required field 'response_format'"),
    (PLAIN | {"response_format": "{"}, "Error parsing JSON in 'response_format'"),
    (PLAIN | {"response_format": "[1]"}, "response_format: expected a JSON schema, which is a mapping"),
    (PLAIN | {"parameters": {"n": 5}}, "parameters: expected some of frequency_penalty"),
    (PLAIN | {"parameters": {"extra_body": {"guided_regex": "x"}}}, "got guided_regex"),
    (PLAIN | {"parameters": [1]}, "'parameters' field must be null"),
    (PLAIN | {"transformations": [{"type": "magic", "input_path": []}]}, "Unknown transformation rule 'magic'"),
    (PLAIN | {"transformations": [{}]}, "got KeyError 'type'"),
    (PLAIN | {"sentence_boundaries": {"title": "t"}}, "Unexpected location 'title'"),
    (PLAIN | {"docs_as_message": "xml"}, "docs_as_message parameter set to 'xml'"),
    (PLAIN | {"instruction": ["x"]}, "instruction: expected text"),
    (PLAIN | {"instruction": "{"}, "instruction: expected text with fields in braces"),
    (PLAIN | {"instruction": "{last_message.__class__}"}, "expected fields that are {name}, and {{ }} for braces, got {last_message.__class__}"),
    (PLAIN | {"instruction": "{last_message:>99999999999}"}, "got {last_message:>99999999999}"),
    (PLAIN | {"instruction": "{}"}, "got {}"),
], ids=range(23))  # fmt: skip
def test_files_that_are_refused(text, said):
    with pytest.raises(IoYamlError) as e:
        IntrinsicIO.read(text if isinstance(text, str) else yaml.safe_dump(text), "x.io.yaml")
    assert str(e.value).startswith("x.io.yaml: ") and said in str(e.value) and "\n" not in str(e.value)
    assert len(str(e.value)) < 1500


@pytest.mark.parametrize(("raw", "said"), [(None, "No such file"), (b"\xff\xfe", "invalid start byte"), (b"x: " + b"y" * 200_000, "characters")])
def test_files_that_cannot_be_opened(raw, said, tmp_path):
    if raw is not None:
        (tmp_path / "io.yaml").write_bytes(raw)
    with pytest.raises(IoYamlError, match=said):
        IntrinsicIO.open(tmp_path / "io.yaml")


@pytest.mark.parametrize(("call", "said"), [
    (lambda io: io.rewrite(HELLO), "arguments: expected city, name, got no city"),
    (lambda io: io.rewrite(HELLO, city="Rome"), "got no name"),
    (lambda io: io.rewrite(HELLO, city="Rome", name="x", town="y"), "got an unknown one, town"),
    (lambda io: io.rewrite([], city="Rome", name="x"), "messages: expected a last message with text in it, got none"),
    (lambda io: io.rewrite([{"role": "user", "content": " \n"}], city="Rome", name="x"), "got an empty one"),
    (lambda io: io.rewrite([{"role": "pirate", "content": "x"}], city="Rome", name="x"), "messages[0]: expected content as text, and a role of user"),
    (lambda io: io.rewrite(HELLO, "It rains.", city="Rome", name="x"), "documents: expected a list of texts"),
    (lambda io: io.rewrite(HELLO, [3], city="Rome", name="x"), "documents[0]: expected a text, or a mapping with `text`, got 3"),
    (lambda io: io.rewrite(HELLO, [{"doc_id": "1"}], city="Rome", name="x"), "documents[0]: expected a text"),
], ids=range(9))  # fmt: skip
def test_requests_that_cannot_be(call, said):
    io = io_of(PLAIN | {"instruction": "{name} of {city}: {last_message}"})
    with pytest.raises(PromptError) as e:
        call(io)
    assert said in str(e.value) and "\n" not in str(e.value)
