"""What a template can write is found by trying: on real templates, and on some that have a trick."""

from dataclasses import fields

import pytest
from real_templates import ARGUMENTS, CONVERSATIONS, DOCUMENTS, JSON, NAMES, QUESTION, TOKENS, TOOLS, call, each_template, result, source_of

from alora_gguf.prompt.chat_template import ChatTemplate

NO_QUESTION = {"fireworks-ai-llama-3-firefunction-v2"}  # it wants `functions` and `datetime`
ALTERNATE = {
    "google-gemma-2-2b-it",
    "Mistral-Small-3.2-24B-Instruct-2506",
    "mistralai-Ministral-3-14B-Reasoning-2512",
    "mistralai-Mistral-Nemo-Instruct-2407",
}
NO_CALLS = {
    "HuggingFaceTB-SmolLM3-3B",
    "Kimi-K2-Instruct",
    "Kimi-K2-Thinking",
    "LFM2-8B-A1B",
    "LFM2.5-Instruct",
    "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
    "google-gemma-2-2b-it",
    "ibm-granite-granite-3.3-2B-Instruct",
    "llama-cpp-rwkv-world",
    "microsoft-Phi-3.5-mini-instruct",
}
ONE_CALL = {
    "GigaChat3-10B-A1.8B",
    "GigaChat3.1-10B-A1.8B",
    "meta-llama-Llama-3.1-8B-Instruct",
    "meta-llama-Llama-3.2-3B-Instruct",
    "meta-llama-Llama-3.3-70B-Instruct",
    "openai-gpt-oss-120b",
}
WITH = {  # those that have what few have
    "documents": {
        "Cohere2MoE",
        "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
        "ibm-granite-granite-3.3-2B-Instruct",
        "ibm-granite-granite-4.0",
        "ibm-granite-granite-4.1",
    },
    "typed_content": set(),
    "text_arguments": {"meetkai-functionary-medium-v3.2"},
}
WITHOUT = {  # those that lack what most have
    "question": NO_QUESTION,
    "system": NO_QUESTION | {"google-gemma-2-2b-it"},
    "system_later": NO_QUESTION
    | ALTERNATE
    | {
        "Apertus-8B-Instruct",
        "Bielik-11B-v3.0-Instruct",
        "HuggingFaceTB-SmolLM3-3B",
        "MiniMax-M1",
        "MiniMax-M2",
        "MiniMax-M3",
        "NVIDIA-Nemotron-Nano-v2",
        "Qwen3.5-4B",
        "Reka-Edge",
        "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
        "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
        "deepseek-ai-DeepSeek-V3.1",
        "deepseek-ai-DeepSeek-V3.2",
        "deepseek-ai-DeepSeek-V4",
        "deepseek-ai-DeepSeek-V4-Flash-0731",
        "llama-cpp-deepseek-r1",
        "llama-cpp-rwkv-world",
        "openai-gpt-oss-120b",
        "tencent-Hy3",
        "upstage-Solar-Open-100B",
    },
    "user_twice": NO_QUESTION | ALTERNATE,
    "tools": NO_QUESTION
    | {
        "HuggingFaceTB-SmolLM3-3B",
        "deepseek-ai-DeepSeek-R1-Distill-Llama-8B",
        "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B",
        "deepseek-ai-DeepSeek-V3.1",
        "google-gemma-2-2b-it",
        "llama-cpp-deepseek-r1",
        "llama-cpp-rwkv-world",
        "microsoft-Phi-3.5-mini-instruct",
    },
    "tool_calls": NO_QUESTION | NO_CALLS,
    "several_calls": NO_QUESTION | NO_CALLS | ONE_CALL,
    "calls_with_text": NO_QUESTION | NO_CALLS | {"llama-cpp-deepseek-r1"},
    "tool_results": NO_QUESTION | {"google-gemma-2-2b-it", "llama-cpp-rwkv-world", "microsoft-Phi-3.5-mini-instruct"},
    "null_content": NO_QUESTION
    | NO_CALLS
    | {"Qwen-QwQ-32B", "Qwen-Qwen3-0.6B", "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B", "unsloth-mistral-Devstral-Small-2507"},
    "none_documents_ok": set(),
    "none_tools_ok": {
        "Cohere2MoE",
        "CohereForAI-c4ai-command-r-plus-tool_use",
        "CohereForAI-c4ai-command-r7b-12-2024-tool_use",
        "NousResearch-Hermes-2-Pro-Llama-3-8B-tool_use",
        "NousResearch-Hermes-3-Llama-3.1-8B-tool_use",
    },
}


def template(source):
    return ChatTemplate(source, TOKENS)


@each_template
def test_a_real_template(name):
    features = template(source_of(name)).features
    assert {f.name: getattr(features, f.name) for f in fields(features) if f.name in WITH} == {
        feature: name in names for feature, names in WITH.items()
    }
    assert {f.name: getattr(features, f.name) for f in fields(features) if f.name in WITHOUT} == {
        feature: name not in names for feature, names in WITHOUT.items()
    }
    assert features.reasoning == ("reasoning" if name == "upstage-Solar-Open-100B" else "reasoning_content")


@pytest.mark.skipif(not NAMES, reason="no templates; run `make test`")
def test_the_tables_are_of_templates_that_there_are():
    assert set().union(*WITH.values(), *WITHOUT.values()) <= set(NAMES)


@each_template
def test_what_it_says_holds_for_other_texts(name):
    """Where a feature is, a real document, tool or call is in the text; and a plain question is written."""
    written = template(source_of(name))
    features = written.features
    if not features.question:
        return
    text = lambda messages, **variables: written.render(messages, add_generation_prompt=True, **{**features.absent, **variables})
    assert QUESTION["content"] in text([QUESTION])
    if features.documents:
        assert "floats." in text(CONVERSATIONS["system and turns"], documents=DOCUMENTS)
    if features.tools:
        assert "weather" in text(CONVERSATIONS["system and turns"], tools=TOOLS) and "tide" in text([QUESTION], tools=TOOLS)
    if features.tool_calls:
        messages = [QUESTION, call(JSON if features.text_arguments else ARGUMENTS, content=None if features.null_content else ""), result("grey sky")]
        for tools in (features.absent.get("tools"), TOOLS) if features.tools else (features.absent.get("tools"),):
            called = text(messages, tools=tools).rpartition(QUESTION["content"])[2]
            assert "weather" in called and "rich" in called and "grey sky" in called and "'city'" not in called and '\\"city' not in called


def of(body, before="", **tokens):
    return ChatTemplate(before + "{% for m in messages %}" + body + "{% endfor %}", tokens).features


PLAIN = "<{{ m.role }}>{{ m.content }}"


def test_a_plain_template_writes_messages_and_no_more():
    features = of(PLAIN)
    names = {f.name for f in fields(features) if getattr(features, f.name) is True}
    assert (
        names == {"question", "system", "system_later", "user_twice", "tool_results", "none_documents_ok", "none_tools_ok"} and features.absent == {}
    )


def test_what_a_template_names_is_not_what_it_writes():
    features = of(
        PLAIN,
        "{% if documents or tools or messages[0].tool_calls %}{% set tool_calls = documents %}Documents, tools{% endif %}{{ documents | length if documents else '' }}",
    )
    assert not (features.documents or features.tools or features.tool_calls)


@pytest.mark.parametrize("source, documents, absent", [
    ("{% for d in documents %}{{ d.text }}{% endfor %}", True, {"documents": []}),
    ("{% for d in documents or [] %}{{ d.text }}{% endfor %}", True, {}),
    ("{% for d in documents or [] %}{{ d.title + d.text }}{% endfor %}", False, {}),  # ours may have no title
    ("{% for d in documents or [] %}{{ d.doc_id }}{{ d.title }}{% endfor %}", False, {}),
    ("{% for d in documents or [] %}{% for t in tools %}{% endfor %}{{ d.text }}{% endfor %}", True, {"tools": []}),
    ("{% for d in documents %}{% for t in tools %}{% endfor %}{{ d.text }}{% endfor %}", True, {"documents": [], "tools": []}),
    ("{% for t in tools %}{{ t.function.name }}{% endfor %}", False, {"tools": []}),
    ("{% if tools is not none %}Tools!{% endif %}{% for d in documents or [] %}{% for t in tools %}{% endfor %}{{ d.text }}{% endfor %}", False, {}),
], ids=range(8))  # fmt: skip
def test_documents_and_what_says_that_there_are_none(source, documents, absent):
    """[] instead of None is no way to documents where it makes the question another."""
    features = of(PLAIN, source)
    assert features.question and (features.documents, features.absent) == (documents, absent)
    assert (features.none_documents_ok, features.none_tools_ok) == ("documents" not in absent, "tools" not in absent)


def test_content_that_has_to_be_parts():
    features = of("<{{ m.role }}>{% for part in m.content %}{% if part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}")
    assert features.question and features.typed_content and features.system and features.user_twice
    assert not of(
        "{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endif %}"
    ).typed_content


@pytest.mark.parametrize("written, calls, text", [
    ("{{ f.arguments | tojson }}", True, False), ("{{ f.arguments }}", True, True), ("{{ '' + f.arguments }}", True, True),
    ("{{ f.arguments if f.arguments is string else f.arguments | tojson }}", True, False), ("{% for k, v in f.arguments.items() %}{{ k }}={{ v }}{% endfor %}", True, False),
    ("{% for k, v in f.arguments | items %}{{ k }}={{ v }}{% endfor %}", True, False), ("{{ f.arguments | length }}", False, False), ("{{ f.arguments | string | tojson }}", False, False),
], ids=range(8))  # fmt: skip
def test_the_form_of_arguments(written, calls, text):
    features = of(PLAIN + "{% for c in m.tool_calls or [] %}{% set f = c.function %}{{ f.name }}" + written + "{% endfor %}")
    assert (features.tool_calls, features.several_calls, features.text_arguments) == (calls, calls, text)


def test_a_system_message_that_is_moved_is_not_written_where_it_stands():
    """What stands before it would be other tokens than before."""
    first = "{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}"
    features = of("{% if m.role != 'system' %}" + PLAIN + "{% endif %}", first)
    assert features.system and not features.system_later


def test_a_template_that_takes_nothing():
    for source in ("{{ raise_exception('no') }}", "", "{{ functions + 'x' }}"):
        features = template(source).features
        assert not any(getattr(features, f.name) for f in fields(features) if f.name not in ("none_documents_ok", "none_tools_ok", "reasoning"))


def test_the_names_of_a_thought():
    for field in ("reasoning_content", "reasoning", "thinking"):
        features = of(PLAIN.replace("{{ m.content }}", f"{{{{ m.{field} }}}}{{{{ m.content }}}}"))
        assert features.reasoning == ("reasoning" if field == "reasoning" else "reasoning_content")


def test_todays_date_is_no_matter():
    features = of("{{ strftime_now('%H:%M:%S.%f') }}" + PLAIN)
    assert features == of(PLAIN)
