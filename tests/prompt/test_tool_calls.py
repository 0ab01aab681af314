"""Calls of tools in each model's own form: what a real template writes is read again, wherever the pieces end, and nothing else is a call."""

import itertools
import json
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from real_templates import NAMES, QUESTION, TOKENS, TOOLS, each_template, result, source_of
from real_templates import call as calling

from alora_gguf import PromptError
from alora_gguf.prompt.chat_template import ChatTemplate
from alora_gguf.prompt.tools.calls import ToolCalls, read_calls
from alora_gguf.prompt.tools.format import Hole, ToolFormat

UNKNOWN = {"Kimi-K3", "MiniMax-M3", "meetkai-functionary-medium-v3.2", "muse-glimmer"}  # calls in forms that are not read, which are refused
SAID = {  # no calls written; what they say of them is enough
    "Kimi-K2-Instruct", "Kimi-K2-Thinking", "LFM2-8B-A1B", "LFM2.5-Instruct", "fireworks-ai-llama-3-firefunction-v2", "ibm-granite-granite-3.3-2B-Instruct",
}  # fmt: skip
NO_CALLS = {
    "HuggingFaceTB-SmolLM3-3B", "deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "google-gemma-2-2b-it", "llama-cpp-rwkv-world",
    "microsoft-Phi-3.5-mini-instruct",
}  # fmt: skip
OPENINGS = {  # of those that a model's users know
    "Qwen-Qwen3-0.6B": "<tool_call>",
    "NousResearch-Hermes-3-Llama-3.1-8B-tool_use": "<tool_call>",
    "meta-llama-Llama-3.1-8B-Instruct": "",
    "mistralai-Mistral-Nemo-Instruct-2407": "[TOOL_CALLS]",
    "Mistral-Small-3.2-24B-Instruct-2506": "[TOOL_CALLS]",
    "ibm-granite-granite-3.3-2B-Instruct": "<|tool_call|>",
    "ibm-granite-granite-4.0": "<tool_call>",
    "openai-gpt-oss-120b": "to=functions.",
    "google-gemma-4-31B-it": "<|tool_call>call:",
    "Qwen3-Coder": "<tool_call>",
    "deepseek-ai-DeepSeek-V3.1": "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>",
    "GLM-4.6": "<tool_call>",
    "CohereForAI-c4ai-command-r7b-12-2024-tool_use": "<|START_ACTION|>",
}
PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "days": {"type": "integer"},
        "hours": {"type": "array", "items": {"type": "number"}},
        "exact": {"type": "boolean"},
        "near": {"type": "object"},
    },
}
SCHEMAS = {"weather": PARAMETERS, "tide": PARAMETERS}
ARGUMENTS = [
    {"city": 'Zürich\'s "<lake>" </tool_call> {[', "days": 2, "hours": [1, 2.5], "exact": True, "near": {"km": None, "a": ["x", {"b": []}]}},
    {"city": "a\nb\\n, c"},
    {},
]
HERMES = ChatTemplate(source_of("Qwen-Qwen3-0.6B"), TOKENS).tool_format if NAMES else None


@cache
def template_of(name: str) -> ChatTemplate:
    return ChatTemplate(source_of(name), TOKENS)


def tooled(name: str) -> tuple[ChatTemplate, ToolFormat]:
    template = template_of(name)
    if template.tool_format is None:
        assert name in UNKNOWN | NO_CALLS
        pytest.skip("no format")
    return template, template.tool_format


def written(template: ChatTemplate, arguments: dict, *names: str) -> str:
    """What the model has said, by its template: from the first character of its calls to the last."""
    found = template.tool_format
    if not template.features.tool_calls:
        return found.write(calling(arguments, *names)["tool_calls"])
    messages = [QUESTION, calling(arguments, *names, content=""), *(result("RESULT", i) for i in range(len(names)))]
    for i, call in enumerate(messages[1]["tool_calls"]):
        call["id"] = messages[2 + i]["tool_call_id"] = f"abcdefgh{i}"
    tools = {"tools": TOOLS} if template.features.tools and template.features.none_tools_ok else {}
    text = template.render(template.fit(messages), add_generation_prompt=False, **{**template.features.absent, **tools})
    said = text.partition(QUESTION["content"])[2].partition("RESULT")[0]
    said = said[said.index(found.opening or "{") :]
    said = said.partition("</s>")[0]
    [end] = "".join(piece for piece in found.end[-1:] if isinstance(piece, str)).split()[-1:] or [""]
    return said[: said.rindex(end) + len(end)] if end in said else said


def events_of(found: ToolFormat, said: str, places=(), schemas=SCHEMAS, **options):
    """(text, calls, JSON streamed of each, the reader), with what must be so whatever was said."""
    reader = ToolCalls(found, schemas, **options)
    edges = [0, *sorted({p % (len(said) + 1) for p in places}), len(said)]
    events = [event for a, b in itertools.pairwise(edges) for event in reader.push(said[a:b])] + reader.flush()
    text, at, streamed = "", 0, {}
    for event in events:
        text += said[at : at + event.n] if event.kind == "text" else ""
        at += event.n if event.kind in ("text", "gone") else 0
        if event.kind == "head":
            streamed[event.head] = ""
        elif event.kind == "arguments":
            streamed[event.head] += event.text
    assert at == len(said)  # every character is text, or of a call
    assert [head.index for head in streamed] == list(range(len(streamed))) and len({head.id for head in streamed}) == len(streamed)
    of_calls = {(head.id, head.name): whole for head, whole in streamed.items()}
    for call in reader.calls:
        assert json.loads(of_calls[call.id, call.name]) == call.arguments
    assert bool(reader.warnings) or len(reader.calls) == len(streamed)
    return text, [(call.name, call.arguments) for call in reader.calls], reader


@each_template
def test_what_a_template_writes_is_read_again(name):
    template, found = tooled(name)
    for arguments in ARGUMENTS:
        if found.arguments == "python" and arguments:
            arguments = {"city": "Bern </tool_call>", "days": 2, "near": {"a": [True, None]}}  # the template leaves quotes and lines as they are
        for names in (("weather",), ("weather", "tide")) if found.more else (("weather",),):
            said = written(template, arguments, *names)
            for places in ((), range(len(said)), range(0, len(said), 7)):
                text, calls, reader = events_of(found, said, places)
                assert (text.strip(), calls, reader.warnings) == ("", [(one, arguments) for one in names], []), said


@each_template
def test_text_before_a_call_stays_text(name):
    template, found = tooled(name)
    said = written(template, {"city": "Bern"}, "weather")
    for places in ((), range(400)):
        text, calls, reader = events_of(found, f"I look < it\nup.\n\n{said}", places)
        if found.opening:
            assert (text, calls, reader.warnings) == ("I look < it\nup.", [("weather", {"city": "Bern"})], [])
        else:  # an object of JSON is a call at the beginning only
            assert (text, calls) == (f"I look < it\nup.\n\n{said}", [])


@each_template
def test_a_tool_that_nobody_has_is_no_call(name):
    template, found = tooled(name)
    said = written(template, {"city": "Bern"}, "sunset")
    noise = [tag for tag in found.noise if tag in said]
    for places in ((), range(400)):
        text, calls, reader = events_of(found, said, places)
        assert calls == [] and len(reader.warnings) >= 1 and "'sunset'" in reader.warnings[0] and "\n" not in reader.warnings[0]
        assert text == said or noise


@each_template
def test_a_call_that_is_cut_short_is_text(name):
    template, found = tooled(name)
    said = written(template, {"city": "Bern", "days": 2}, "weather")
    where = said.index("Bern") + 2
    text, calls, reader = events_of(found, said[:where], range(400))
    assert (text, calls) == (said[:where], []) and "got the end of the answer" in reader.warnings[0]


@each_template
@settings(max_examples=8, deadline=None)
@given(st.data())
def test_whatever_is_said_nothing_is_lost(name, data):
    """Pieces of calls in any order."""
    template, found = tooled(name)
    said = written(template, {"city": "Bern", "near": {"a": [1]}}, "weather")
    piece = st.tuples(st.integers(0, len(said)), st.integers(0, len(said))).map(lambda ends: said[min(ends) : max(ends)])
    mixed = "".join(data.draw(st.lists(st.one_of(piece, st.just(said), st.text('<>{}[]"=,:\\ax \n', max_size=5)), max_size=4)))
    whole = events_of(found, mixed)
    assert events_of(found, mixed, range(len(mixed)))[:2] == whole[:2]  # wherever the pieces end


@each_template
def test_a_call_that_is_said_again_and_cut_takes_nothing_from_the_first(name):
    template, found = tooled(name)
    said = written(template, {"city": "Bern", "days": 2}, "weather")
    _, calls, _ = events_of(found, said + said[: said.index("Bern")])
    assert calls[:1] == [("weather", {"city": "Bern", "days": 2})]


@each_template
def test_the_format_that_is_known(name):
    template = template_of(name)
    found = template.tool_format
    assert (found is None) == (name in UNKNOWN | NO_CALLS) and (found is None or not template.features.tool_calls) == (
        name in UNKNOWN | NO_CALLS | SAID
    )
    if name in OPENINGS:
        assert found.opening == OPENINGS[name]
    if found is None:
        with pytest.raises(PromptError, match="chat template: expected one whose calls of tools are in a form that is known, got another"):
            template.check_calls()


@pytest.mark.parametrize("name", sorted(SAID & set(NAMES)))
def test_calls_that_a_template_does_not_write_are_text_as_the_model_says_it(name):
    template, found = tooled(name)
    if not template.features.question:
        pytest.skip("it wants variables of its own")
    [_, message] = template.fit([QUESTION, calling('{"city": "Bern"}', "weather", content="So:")])
    assert "tool_calls" not in message
    assert events_of(found, message["content"])[:2] == ("So:", [("weather", {"city": "Bern"})])


@pytest.mark.skipif(HERMES is None, reason="no templates; run `make test`")
class TestHermes:
    CALL = '<tool_call>\n{"name": "weather", "arguments": {"city": "Bern"}}\n</tool_call>'

    @pytest.mark.parametrize(
        "said",
        [
            CALL.replace("\n", ""),
            CALL.replace("\n", "\n\n  ").replace(": ", " :"),
            CALL.replace("\n</tool_call>", ""),  # a model that forgets it
            '<tool_call>{"arguments": {"city": "Bern"}, "name": "weather"}</tool_call>',
            '<tool_call>{"type": "function", "name": "weather", "extra": [{}, "}"], "arguments": "{\\"city\\": \\"Bern\\"}"}</tool_call>\n',
            f'<tool_call>[{CALL[12:-13]}]</tool_call>',
        ],
        ids=range(6),
    )  # fmt: skip
    def test_forms_that_mean_the_same(self, said):
        for places in ((), range(400)):
            text, calls, reader = events_of(HERMES, said, places)
            assert (text, calls, reader.warnings) == ("", [("weather", {"city": "Bern"})], [])

    @pytest.mark.parametrize(
        "said, got",
        [
            ("<tool_call>weather(city=1)</tool_call>", "no object"),
            ('<tool_call>{"name": "weather", "arguments": {"city": Bern}}</tool_call>', "arguments that are no JSON"),
            ('<tool_call>{"name": "weather", "arguments": {"city": NaN}}</tool_call>', "NaN is none of JSON's"),
            ('<tool_call>{"name": "weather", "arguments": [1]}</tool_call>', "arguments that are no object"),
            ('<tool_call>{"arguments": {}}</tool_call>', "no name"),
            ('<tool_call>{"name": "weather"}</tool_call>', "arguments that are no JSON"),
        ],
        ids=range(6),
    )
    def test_what_is_none_is_text_and_a_line(self, said, got):
        for places in ((), range(400)):
            text, calls, reader = events_of(HERMES, f"{said} and {self.CALL}", places)
            assert (text, calls) == (f"{said} and", [("weather", {"city": "Bern"})])
            assert len(reader.warnings) == 1 and got in reader.warnings[0]

    def test_of_several_calls_one_can_be_all_that_is_wanted(self):
        text, calls, reader = events_of(HERMES, f"{self.CALL}\n{self.CALL} more", range(400), one=True)
        assert (text, len(calls), reader.stopped) == ("", 1, True)
        assert len(events_of(HERMES, f"{self.CALL}\n{self.CALL} more", range(400))[1]) == 2

    def test_what_stands_behind_a_models_calls_ends_the_answer(self):
        text, calls, reader = events_of(HERMES, f"{self.CALL}\n<tool_response>\nsunny", range(400))
        assert (text, len(calls), reader.stopped) == ("", 1, True)
        assert events_of(HERMES, "<tool_response>\nsunny")[0] == "<tool_response>\nsunny"  # of what is no answer to a call


def test_a_model_writes_its_own_ids():
    for name, tag in (
        ("mistralai-Mistral-Nemo-Instruct-2407", "abcdefgh0"),
        ("Mistral-Small-3.2-24B-Instruct-2506", "abcdefgh0"),
        ("moonshotai-Kimi-K2", "functions.weather:0"),
    ):
        if name in NAMES:
            template, found = tooled(name)
            _, calls = read_calls(found, SCHEMAS, written(template, {"city": "Bern"}, "weather"))
            assert [call.id for call in calls] == [tag]
            assert Hole.ID in found.end or Hole.ID in found.between or name == "moonshotai-Kimi-K2"


def test_other_ids_are_such_as_mistrals_templates_take():
    if HERMES:
        ids = {read_calls(HERMES, SCHEMAS, TestHermes.CALL)[1][0].id for _ in range(20)}
        assert len(ids) == 20 and all(len(one) == 9 and one.isascii() and one.isalnum() for one in ids)


HARMONY = "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{}", " to=functions.weather<|channel|>commentary json<|message|>{}"


@pytest.mark.parametrize("head", HARMONY, ids=("header", "role"))
def test_harmony_names_its_tool_in_either_place(head):
    if "openai-gpt-oss-120b" in NAMES:
        _, found = tooled("openai-gpt-oss-120b")
        said = head.replace("{}", '{"city": "Bern"}')
        preamble = "<|channel|>commentary<|message|>I look.<|end|><|start|>assistant"
        for places in ((), range(400)):
            assert events_of(found, said, places)[:2] == ("", [("weather", {"city": "Bern"})])
            assert events_of(found, preamble + said, places)[:2] == ("I look.", [("weather", {"city": "Bern"})])


def test_llamas_tag_and_its_several_calls():
    if "meta-llama-Llama-3.1-8B-Instruct" in NAMES:
        _, found = tooled("meta-llama-Llama-3.1-8B-Instruct")
        one = '{"name": "weather", "parameters": {"city": "Bern"}}'
        for said, n in ((one, 1), (f"<|python_tag|>{one}", 1), (f"{one}; {one}", 2), (f"  {one}", 1), (f"<|python_tag|>{one}; {one}", 2)):
            for places in ((), range(400)):
                assert events_of(found, said, places)[:2] == ("", [("weather", {"city": "Bern"})] * n)
        for said in ('{"sky": "grey"}', "{}", "{", '<|python_tag|>weather.call(city="Bern")'):
            for places in ((), range(400)):
                assert events_of(found, said, places)[:2] == (said, [])
