"""Messages as a template takes them: every text is written, where it belongs, and what cannot be is refused by name."""

import copy
import json
import string
from dataclasses import replace
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_templates import ARGUMENTS, JSON, TOKENS, call, each_template, result, said, source_of

from alora_gguf import PromptError
from alora_gguf.prompt.chat_template import ChatTemplate
from alora_gguf.prompt.documents import documents_message
from alora_gguf.prompt.messages import fitted

GEMMA_2 = """{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation roles must alternate') }}{% endif %}
{{- '<' ~ m.role ~ '>' ~ m.content | trim }}
{% endfor %}{% if add_generation_prompt %}<model>{% endif %}"""
COMMAND_R = """{{ bos_token }}{% for d in documents %}[{{ d.doc_id }}] {{ d.text }}
{% endfor %}{% for m in messages %}<{{ m.role }}>{{ m.content }}
{% endfor %}"""
DATED = """{{ strftime_now('%d %B %Y') }}{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"""
TYPED = """{% for m in messages %}<{{ m.role }}>{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}"""
PLAIN = """{% for m in messages %}<{{ m.role }}>{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{{ c.function.arguments | tojson }}{% endfor %}{% endfor %}"""
FEW = settings(max_examples=200, deadline=None)
ALL = ChatTemplate(PLAIN, TOKENS).features


def template(source):
    return ChatTemplate(source, TOKENS)


def features(**changes):
    return replace(ALL, **changes)


# real templates

DOCUMENT = documents_message([{"doc_id": "1", "text": "The boat is red."}])
SYSTEM, FIRST, ANSWER, SECOND, THIRD = said(
    "system: Be brief.", "user: What colour?", "assistant: Red, it says.", "user: Since when, then?", "user: Answer in one word."
)
CONVERSATIONS = {
    "documents": [DOCUMENT, FIRST],
    "instruction": [FIRST, THIRD],
    "later instruction": [FIRST, ANSWER, SECOND, THIRD],
    "system": [SYSTEM, FIRST],
    "system and documents": [SYSTEM, DOCUMENT, FIRST, ANSWER, SECOND],
    "system later": [FIRST, ANSWER, SYSTEM, SECOND],
    "system at the end": [FIRST, SYSTEM],
    "all": [SYSTEM, DOCUMENT, FIRST, THIRD, ANSWER, SECOND, THIRD],
}


@each_template
def test_every_text_is_written_in_its_order(name):
    real = template(source_of(name))
    if not real.features.question:
        pytest.skip("takes no plain question")
    for messages in CONVERSATIONS.values():
        before = copy.deepcopy(messages)
        fit = real.fit(messages)
        assert messages == before and real.fit(fit) == fit
        text = real.render(fit, add_generation_prompt=True, **real.features.absent)
        at = 0
        for m in messages:
            for line in m["content"].split("\n\n"):
                if m["role"] == "system" and messages is not CONVERSATIONS["system"]:
                    assert line in text  # Mistral's stands in the last user's turn
                else:
                    at = text.index(line, at) + len(line)
    works = [FIRST, ANSWER, SECOND] if not real.features.system else [SYSTEM, FIRST, ANSWER, SECOND]
    assert real.fit(works) == works


@each_template
def test_calls_are_written_or_refused(name):
    real = template(source_of(name))
    features = real.features
    if not features.question:
        pytest.skip("takes no plain question")
    for arguments in ({"city": "Zürich", "days": 2}, JSON):
        for content in ({}, {"content": None}, {"content": ""}, {"content": [{"type": "text", "text": "Let me look."}]}):
            messages = [FIRST, call(arguments, **content), result("It is grey.")]
            if features.tool_calls and content.get("content") and not features.calls_with_text:
                with pytest.raises(PromptError, match=r"^messages\[1\]\.content: expected none beside tool_calls, got text; "):
                    real.fit(messages)
            elif features.tool_calls or real.tool_format:  # else as text, as the model says it
                text = real.render(real.fit(messages), add_generation_prompt=True, **features.absent)
                assert "weather" in text and "rich" in text and "'city'" not in text and '\\"city' not in text and "None" not in text
            else:
                with pytest.raises(PromptError, match=r"^messages\[1\]\.tool_calls: expected none, got 1; "):
                    real.fit(messages)
    two = [FIRST, call(ARGUMENTS, "weather", "tide"), result("It is grey."), result("It is ebbing.", 1)]
    if features.several_calls or (not features.tool_calls and real.tool_format):
        text = real.render(real.fit(two), add_generation_prompt=True, **features.absent)
        assert text.index("weather", text.index(FIRST["content"])) < text.rindex("tide") and text.index("It is grey.") < text.index("It is ebbing.")
    else:
        with pytest.raises(PromptError, match=r"^messages\[1\]\.tool_calls: expected (none|at most one), got 2; "):
            real.fit(two)
    if not features.tool_results:
        with pytest.raises(PromptError, match=r"^messages\[2\]: expected a role that the chat template writes, got tool; "):
            real.fit([FIRST, ANSWER, result()])


# templates with a trick


def test_where_roles_have_to_alternate_and_there_is_no_system():
    gemma = template(GEMMA_2)
    render = lambda messages: gemma.render(gemma.fit(messages), add_generation_prompt=True)
    assert render([SYSTEM, FIRST]) == "<s><user>Be brief.\n\nWhat colour?\n<model>"
    assert render([FIRST, THIRD]) == "<s><user>What colour?\n\nAnswer in one word.\n<model>"
    assert (
        render([FIRST, ANSWER, SECOND, THIRD])
        == "<s><user>What colour?\n<assistant>Red, it says.\n<user>Since when, then?\n\nAnswer in one word.\n<model>"
    )
    assert render([SYSTEM, ANSWER, SECOND]) == "<s><user>Be brief.\n<assistant>Red, it says.\n<user>Since when, then?\n<model>"
    assert render([FIRST, SYSTEM, ANSWER]) == "<s><user>What colour?\n\nBe brief.\n<assistant>Red, it says.\n<model>"
    assert render([FIRST, ANSWER, SYSTEM, SECOND]) == "<s><user>What colour?\n<assistant>Red, it says.\n<user>Be brief.\n\nSince when, then?\n<model>"
    assert render([SYSTEM]) == "<s><user>Be brief.\n<model>" and render([*said("system: "), FIRST]) == "<s><user>What colour?\n<model>"


def test_a_template_that_goes_through_documents():
    command = template(COMMAND_R)
    with pytest.raises(PromptError):
        command.render([FIRST], add_generation_prompt=True)  # as in transformers
    assert command.features.absent == {"documents": []} and command.features.documents and not command.features.none_documents_ok
    assert command.render([FIRST], add_generation_prompt=True, **command.features.absent) == "<s><user>What colour?\n"
    assert command.render([FIRST], add_generation_prompt=True, documents=[{"doc_id": "7", "text": "Red."}]) == "<s>[7] Red.\n<user>What colour?\n"


def test_a_template_that_writes_the_date():
    dated = template(DATED)
    assert dated.features == template(DATED.replace("{{ strftime_now('%d %B %Y') }}", "")).features
    assert (
        dated.render(dated.fit([SYSTEM, FIRST]), add_generation_prompt=True, now=datetime(2024, 2, 29))
        == "29 February 2024<system>Be brief.<user>What colour?"
    )


def test_a_template_that_wants_parts():
    typed = template(TYPED)
    fit = typed.fit([SYSTEM, {"role": "user", "content": [{"type": "text", "text": "What "}, {"type": "text", "text": "colour?"}]}])
    assert [m["content"] for m in fit] == [[{"type": "text", "text": "Be brief."}], [{"type": "text", "text": "What colour?"}]] and typed.fit(
        fit
    ) == fit
    assert typed.render(fit, add_generation_prompt=True) == "<system>Be brief.<user>What colour?"


def test_a_thought_under_the_name_that_the_template_reads():
    for given_name in ("reasoning_content", "reasoning", "thinking"):
        for read in ("reasoning_content", "reasoning", "thinking"):
            reads = template("{% for m in messages %}{{ m." + read + " }}{{ m.content }}{% endfor %}")
            assert reads.render(reads.fit([FIRST, {**ANSWER, given_name: "Hm: "}]), add_generation_prompt=True) == "What colour?Hm: Red, it says."


# any messages

ROLES = st.lists(st.sampled_from(["system", "user", "user", "assistant"]), max_size=8)
KINDS = st.builds(features, system=st.booleans(), system_later=st.booleans(), user_twice=st.booleans(), typed_content=st.booleans())


@FEW
@given(ROLES, KINDS)
def test_texts_keep_their_order_and_turns_are_those_that_the_template_takes(roles, kind):
    messages = [{"role": role, "content": text} for role, text in zip(roles, string.ascii_lowercase)]
    before = copy.deepcopy(messages)
    fit = fitted(messages, kind)
    assert messages == before and fitted(fit, kind) == fit
    texts = [m["content"][0]["text"] if kind.typed_content else m["content"] for m in fit]
    assert "\n\n".join(texts).split("\n\n") == [m["content"] for m in messages] or not messages
    assert [m["role"] for m in fit if m["role"] == "assistant"] == [role for role in roles if role == "assistant"]
    for i, m in enumerate(fit):
        assert m["role"] != "system" or (kind.system if i == 0 else kind.system_later)
        assert kind.user_twice or i == 0 or (m["role"], fit[i - 1]["role"]) != ("user", "user")
    if (
        kind.user_twice
        and not any(role == "system" for role in roles[kind.system :])
        and "system" not in roles[1:]
        and (kind.system or "system" not in roles)
    ):
        assert len(fit) == len(messages)


@FEW
@given(ROLES, st.booleans(), st.booleans())
def test_without_system_messages_only_users_turns_are_joined(roles, system, twice):
    messages = [{"role": role, "content": text} for role, text in zip(roles, string.ascii_lowercase) if role != "system"]
    fit = fitted(messages, features(system=system, user_twice=twice))
    assert twice and fit == messages or not twice and [m for m in fit if m["role"] != "user"] == [m for m in messages if m["role"] != "user"]


def test_a_system_text_goes_to_the_question_behind_it():
    a, b, c = said("user: a", "user: b", "system: c")
    assert fitted([a, c, b], features(system_later=False)) == said("user: a", "user: c\n\nb")
    assert fitted([a, c], features(system_later=False)) == said("user: a\n\nc")
    assert fitted([c, c, a], features(system_later=False)) == said("system: c\n\nc", "user: a")
    assert fitted([c, c, a, c, c, b], features(system=False, system_later=False)) == said("user: c\n\nc\n\na", "user: c\n\nc\n\nb")
    assert fitted([a, *said("assistant: x"), c], features(system_later=False)) == said("user: a", "assistant: x", "user: c")


def test_what_is_null_or_empty_is_left_out():
    message = {
        "role": "assistant",
        "content": None,
        "name": "",
        "tool_calls": [],
        "tool_call_id": None,
        "reasoning_content": "",
        "refusal": None,
        "audio": {},
        "annotations": [],
    }
    assert fitted([message], ALL) == [{"role": "assistant", "content": ""}]
    assert fitted([{"role": "user"}], ALL) == [{"role": "user", "content": ""}]
    assert fitted([{"content": "x", "role": "user", "name": "tom"}], ALL) == [{"content": "x", "role": "user", "name": "tom"}]
    assert fitted([], ALL) == []


def test_a_name_stays_where_both_turns_have_it():
    tom, ann = ({"role": "user", "content": "x", "name": name} for name in ("tom", "ann"))
    assert fitted([tom, tom], features(user_twice=False)) == [{**tom, "content": "x\n\nx"}]
    assert fitted([tom, ann], features(user_twice=False)) == [{"role": "user", "content": "x\n\nx"}]


def test_content_of_a_call():
    messages = [call({"a": 1}), call({"a": 1}, content=None), call({"a": 1}, content="")]
    assert [m["content"] for m in fitted(messages, features(null_content=True))] == [None, None, ""]
    assert [m["content"] for m in fitted(messages, features(null_content=False))] == ["", "", ""]


@FEW
@given(
    st.dictionaries(
        st.text(max_size=3),
        st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=3), lambda x: st.lists(x, max_size=2), max_leaves=3),
        max_size=3,
    )
)
def test_arguments_are_an_object_or_json(arguments):
    of = lambda given, text: fitted([call(given, content="")], features(text_arguments=text))[0]["tool_calls"][0]["function"]["arguments"]
    written = json.dumps(arguments, separators=(",", ":"))
    assert of(arguments, False) == of(written, False) == arguments
    assert json.loads(of(arguments, True)) == arguments and of(written, True) == written
    for nothing in (None, "", {}):
        assert (of(nothing, False), of(nothing, True)) == ({}, "{}")


@pytest.mark.parametrize("message, complaint", [
    ("x", r"messages\[1\]: expected an object, got str; "),
    ({"content": "x"}, r"messages\[1\].role: expected text, got None; "),
    ({"role": 1, "content": "x"}, r"messages\[1\].role: expected text, got 1; "),
    ({"role": "user", "content": 1}, r"messages\[1\].content: expected text or a list of parts, got int; "),
    ({"role": "user", "content": b"x"}, r"messages\[1\].content: expected text or a list of parts, got bytes; "),
    ({"role": "user", "content": {"x": 1}}, r"messages\[1\].content: expected text or a list of parts, got dict; "),
    ({"role": "user", "content": [{"type": "text", "text": "x"}, {"type": "image_url", "image_url": {}}]}, r"messages\[1\].content\[1\]: expected a part of type text, got 'image_url'; "),
    ({"role": "user", "content": ["x"]}, r"messages\[1\].content\[0\]: expected a part of type text, got <class 'str'>; "),
    ({"role": "user", "content": [{"type": "text"}]}, r"messages\[1\].content\[0\]: expected a part of type text, got one without text; "),
    ({"role": "user", "content": "x", "weight": 0}, r"messages\[1\]: expected some of role, .*, got 'weight'; "),
    ({"role": "user", "content": "x", "function_call": {"name": "f"}}, r"messages\[1\]: expected some of role, .*, got 'function_call'; "),
    ({"role": "assistant", "content": "x", "reasoning": ["x"]}, r"messages\[1\]: expected a thought that is text, got list; "),
    ({"role": "user", "content": "x", "line\nbreak": 0}, r"messages\[1\]: expected some of role, .*, got 'line\\nbreak'; "),
    ({"role": "user", "content": [{"type": "line\nbreak"}]}, r"messages\[1\].content\[0\]: expected a part of type text, got 'line\\nbreak'; "),
    ({"role": "assistant", "tool_calls": "x"}, r"messages\[1\].tool_calls: expected a list, got str; "),
    ({"role": "assistant", "tool_calls": ["x"]}, r"messages\[1\].tool_calls\[0\]: expected a function with a name, got 'x'; "),
    ({"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}, r"messages\[1\].tool_calls\[0\]: expected a function with a name, got "),
    (call("{x"), r"messages\[1\].tool_calls\[0\].function.arguments: expected JSON, got: "),
    (call('{"x": ' + "[" * 100_000), r"messages\[1\].tool_calls\[0\].function.arguments: expected JSON, got: "),
    (call("[1]"), r"messages\[1\].tool_calls\[0\].function.arguments: expected an object, got list; "),
    (call([1]), r"messages\[1\].tool_calls\[0\].function.arguments: expected an object, got list; "),
], ids=range(21))  # fmt: skip
def test_what_would_not_be_written_is_refused_by_name(message, complaint):
    with pytest.raises(PromptError, match=f"^{complaint}") as raised:
        fitted([FIRST, message], ALL)
    assert "\n" not in str(raised.value)
