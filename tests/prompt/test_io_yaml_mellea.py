"""Requests and results against Mellea's own formatters, on the stored cases and on any conversation."""

import copy
import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mellea.formatters.granite.intrinsics import IntrinsicsResultProcessor, IntrinsicsRewriter
from published import (
    ANSWERABILITY,
    ATTRIBUTION,
    CASES,
    CITATIONS,
    CLARIFICATION,
    FOR_GPT_OSS,
    RELEVANCE,
    REQUIREMENT,
    REWRITE,
    WITH_RESULTS,
    as_token,
    case,
    folder_of,
    io_of,
    read,
)

SOME = settings(max_examples=60, deadline=None)


def in_mellea(text, request, arguments):
    return IntrinsicsRewriter(config_dict=yaml.safe_load(text)).transform(copy.deepcopy(request), **arguments)


def in_ours(text, request, arguments):
    return io_of(text).rewrite(request["messages"], (request.get("extra_body") or {}).get("documents"), **arguments)


def completed(before, asked):
    """Our request with what the client said beside it."""
    made = asked.completion.model_dump()
    return {k: v for k, v in {**before, **made}.items() if k != "extra_body" or made["extra_body"] or "extra_body" in before}


@pytest.mark.parametrize("name", CASES)
def test_the_stored_requests(name, repo):
    text, before, arguments = case(folder_of(repo), name)
    want = in_mellea(text, before, arguments).model_dump()
    assert want == read(folder_of(repo), "requests", name)
    assert completed(before, in_ours(text, before, arguments)) == want


@pytest.mark.parametrize("name", WITH_RESULTS)
def test_the_stored_results_to_the_last_bit(name, repo):
    text, before, arguments = case(folder_of(repo), name)
    output = read(folder_of(repo), "model_output", name)
    want = IntrinsicsResultProcessor(config_dict=yaml.safe_load(text)).transform(output, in_mellea(text, before, arguments))
    [choice] = output["choices"]
    logprobs = [as_token(t) for t in ((choice.get("logprobs") or {}).get("content") or ())]
    got = io_of(text).result(in_ours(text, before, arguments), choice["message"]["content"], logprobs)
    assert got == json.loads(want.choices[0].message.content)


def test_every_stored_input_through_every_published_form(repo):
    folder = folder_of(repo)
    texts = [*PUBLISHED, *(path.read_text() for path in (folder / "io").iterdir())]
    for path in sorted((folder / "inputs").iterdir()):
        before = read(folder, "inputs", path.stem)
        for text in texts:
            arguments = dict.fromkeys(io_of(text).arguments, "x {y}")
            want = in_mellea(text, before, arguments).model_dump()
            assert completed(before, in_ours(text, before, arguments)) == want, path


PUBLISHED = [ANSWERABILITY, FOR_GPT_OSS, CITATIONS, RELEVANCE, CLARIFICATION, REWRITE, REQUIREMENT, ATTRIBUTION]
TEXT = st.lists(st.sampled_from(["It rains.", "Why?", "Dr. Who came at 9.15 a.m. today.", "so on", "Ja!\n\n", "  ", "Zu Fu\u00df?", "e.g. this", "{x}", "1.5"]),
                min_size=1, max_size=5).map(" ".join).filter(str.strip)  # fmt: skip
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.sampled_from(["user", "assistant", "system"]), "content": TEXT}), min_size=1, max_size=5)
DOCUMENTS = st.lists(st.fixed_dictionaries({"text": TEXT, "doc_id": st.sampled_from(["a", "b", "7"])}), max_size=3)
TAGS = st.dictionaries(st.sampled_from(["last_message", "documents", "all_but_last_message"]), st.sampled_from(["c", "r", "d", ""]))
FORMS = st.fixed_dictionaries(
    {
        "model": st.none(),
        "response_format": st.sampled_from([None, '{"type": "object"}']),
        "transformations": st.none(),
        "sentence_boundaries": TAGS,
        "instruction": st.sampled_from([None, "Judge {last_message}", "Judge."]),
        "docs_as_message": st.sampled_from([None, "string", "json", "roles"]),
        "parameters": st.sampled_from([None, {"temperature": 0.0}, {"max_completion_tokens": 3, "extra_body": {"chat_template_kwargs": {"x": 1}}}]),
    },
    optional={"name": st.just("x")},
)


def request_of(messages, documents):
    return {"messages": messages, "extra_body": {"documents": documents} if documents else {}}


@SOME
@given(FORMS, MESSAGES, DOCUMENTS)
def test_any_request(form, messages, documents):
    before = request_of(messages, documents)
    text = yaml.safe_dump(form)
    want = in_mellea(text, before, {}).model_dump()
    asked = in_ours(text, before, {})
    assert asked.completion.model_dump() == want
    assert [{"role": m["role"], "content": m["content"]} for m in asked.messages] == want["messages"]


SOURCES = st.sampled_from(["last_message", "documents", "all_but_last_message", ["documents"], ["documents", "all_but_last_message"]])
NAMES = {"begin": "b", "end": "e", "text": "t"}


@SOME
@given(SOURCES, MESSAGES, DOCUMENTS, st.sampled_from([None, "Judge."]), st.data())
def test_any_sentence(source, messages, documents, instruction, data):
    names = NAMES | ({"document_id": "d"} if "documents" in source else {}) | ({"message_index": "m"} if "all_but_last_message" in source else {})
    form = {
        "model": None, "response_format": None, "instruction": instruction,
        "sentence_boundaries": {"last_message": "r", "documents": "c", "all_but_last_message": "c"},
        "transformations": [{"type": "decode_sentences", "source": source, "input_path": [None, "n"], "output_names": names},
                            {"type": "drop_duplicates", "input_path": [], "target_fields": ["n", "b"]}],
    }  # fmt: skip
    if source == "all_but_last_message":  # Mellea looks for the numbers from 0 on
        documents = []
    asked = in_ours(yaml.safe_dump(form), request_of(messages, documents), {})
    n = len(asked.completion.numbered([source] if isinstance(source, str) else source))
    numbers = data.draw(st.lists(st.integers(0, n - 1)) if n else st.just([]))
    if not n or "documents" in source and not documents:  # Mellea has no sentences for some of these
        return
    output = json.dumps([{"n": number} for number in numbers])
    theirs = IntrinsicsResultProcessor(config_dict=form)
    choice = {"index": 0, "message": {"role": "assistant", "content": output}}
    want = theirs.transform({"choices": [choice]}, in_mellea(yaml.safe_dump(form), request_of(messages, documents), {}))
    assert io_of(yaml.safe_dump(form)).result(asked, output) == json.loads(want.choices[0].message.content)
