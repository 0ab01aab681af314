"""POST /v1/responses: the same answers as in chats, in the shape that openai's own types have."""

import json

import httpx
import openai
import pytest
from hypothesis import given, settings
from live import running
from made_up import events_of, parsed, said
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from alora_gguf.serve import fields
from alora_gguf.serve.responses.answer import ResponseAnswer
from alora_gguf.serve.responses.body import Responses

PATH = "/v1/responses"
HELLO = "Say something odd about whales."
EVENT = TypeAdapter(ResponseStreamEvent)
TOOL = {"type": "function", "name": "look", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}


def ask(server, **body):
    status, _, answer = server.call("POST", PATH, {"input": HELLO, "temperature": 0, "max_output_tokens": 8, **body})
    return (status, answer)


def text(server, **body):
    status, answer = ask(server, **body)
    assert status == 200, answer
    return Response.model_validate(answer).output_text


def in_chat(server, messages=None, **body):
    messages = messages or [{"role": "user", "content": HELLO}]
    return server.call("POST", "/v1/chat/completions", {"messages": messages, "temperature": 0, "max_tokens": 8, **body})[2]


def chat_text(server, **body):
    return in_chat(server, **body)["choices"][0]["message"]["content"]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"model": "first"},
        {"adapter": "plain"},
        {"lora": [{"id": "plain", "scale": 2.0}]},
        {"model": "tiny:second"},
        {"temperature": 1.5, "seed": 7, "top_k": 9, "min_p": 0.01, "top_p": 0.9, "repetition_penalty": 1.2},
        {"logit_bias": {"123": 100}},
        {"structured_outputs": {"regex": "yes|no"}},
        {"stop": ["a"]},
    ],
    ids=json.dumps,
)
def test_an_answer_is_the_one_given_in_a_chat(server, how):
    whole = in_chat(server, **how)
    status, answer = ask(server, **how)
    assert status == 200 and Response.model_validate(answer).output_text == whole["choices"][0]["message"]["content"]
    assert answer["model"] == whole["model"] and answer["usage"]["input_tokens"] == whole["usage"]["prompt_tokens"]


def test_a_conversation_is_the_one_of_a_chat(server):
    turns = [("system", "You are short."), ("user", "Who are you?"), ("assistant", "Me."), ("developer", "Be kind."), ("user", HELLO)]
    messages = [{"role": role, "content": content} for role, content in turns]
    wanted = in_chat(server, messages)
    kinds = {"assistant": "output_text"}
    parts = [
        {"role": role, "content": [{"type": kinds.get(role, "input_text"), "text": t} for t in (content[:2], content[2:])]} for role, content in turns
    ]
    for how in ({"input": messages}, {"input": messages[1:], "instructions": "You are short."}, {"input": [{"type": "message", **m} for m in parts]}):
        status, answer = ask(server, **how)
        assert status == 200 and answer["output"][0]["content"][0]["text"] == wanted["choices"][0]["message"]["content"]
        assert answer["usage"]["input_tokens"] == wanted["usage"]["prompt_tokens"]


def test_the_items_of_a_response_go_back_as_they_came(server):
    first = ask(server)[1]
    more = {"role": "user", "content": "And?"}
    asked = [{"role": "user", "content": HELLO}, *first["output"], more]
    status, answer = ask(server, input=asked)
    said = first["output"][0]["content"][0]["text"]
    assert status == 200
    assert answer["output"][0]["content"][0]["text"] == chat_text(
        server, messages=[{"role": "user", "content": HELLO}, {"role": "assistant", "content": said}, more]
    )
    assert answer["usage"]["input_tokens_details"]["cached_tokens"] >= first["usage"]["total_tokens"] - 1


def test_thought_text_and_calls_that_follow_each_other_are_one_message():
    call = lambda i: {
        "type": "function_call",
        "call_id": f"c{i}",
        "name": "look",
        "arguments": '{"city": "Bern"}',
        "id": "fc_1",
        "status": "completed",
    }
    thought = lambda text: {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": text}]}
    text = lambda text: {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text, "annotations": []}]}
    items = [
        {"role": "user", "content": "Where?"},
        *(thought("hm"), text("I look."), call(1), call(2)),
        {"type": "function_call_output", "call_id": "c1", "output": "here"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "there"}]},
        *(text("Here."), text("Or there.")),
        {"type": "reasoning", "id": "rs_2", "summary": [{"type": "summary_text", "text": "short"}], "encrypted_content": None},
        call(3),
        thought("alone"),
    ]
    calls = lambda *numbers: [{"id": f"c{i}", "type": "function", "function": {"name": "look", "arguments": '{"city": "Bern"}'}} for i in numbers]
    chat = Responses.model_validate({"input": items, "instructions": "Short."}).as_chat()
    assert [message.plain for message in chat.messages] == [
        {"role": "system", "content": "Short."},
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": "I look.", "reasoning_content": "hm", "tool_calls": calls(1, 2)},
        {"role": "tool", "content": "here", "tool_call_id": "c1"},
        {"role": "tool", "content": "there", "tool_call_id": "c2"},
        {"role": "assistant", "content": "Here."},
        {"role": "assistant", "content": "Or there."},
        {"role": "assistant", "content": None, "reasoning_content": "short", "tool_calls": calls(3)},
        {"role": "assistant", "content": None, "reasoning_content": "alone"},
    ]


@pytest.mark.parametrize(
    "form", [{"type": "json_schema", "name": "a", "strict": True, "schema": {"enum": ["yes", "no"]}}, {"type": "text"}, None], ids=str
)
def test_the_form_of_the_text(server, form):
    answer = text(server, text={"format": form, "verbosity": "medium"})
    assert answer in ('"yes"', '"no"') if form and "schema" in form else answer == text(server)


@pytest.mark.parametrize("stream", [False, True])
def test_log_probabilities_come_if_they_are_asked_for(server, stream):
    wanted = in_chat(server, logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]["content"]
    for how in ({"include": ["message.output_text.logprobs"], "top_logprobs": 2}, {"top_logprobs": 2}):
        answer = ask(server, **how, stream=stream)[1]
        events = parsed(answer) if stream else []
        part = (events[-1]["response"] if stream else answer)["output"][0]["content"][0]
        assert [t["logprob"] for t in part["logprobs"]] == pytest.approx([t["logprob"] for t in wanted], abs=0.01)
        assert [[top["bytes"] for top in t["top_logprobs"]] for t in part["logprobs"]] == [
            [top["bytes"] for top in t["top_logprobs"]] for t in wanted
        ]
        if stream:
            assert [t for e in events if e["type"] == "response.output_text.delta" for t in e["logprobs"]] == part["logprobs"]
    assert ask(server)[1]["output"][0]["content"][0]["logprobs"] == []


@pytest.mark.parametrize(
    "how", [{}, {"model": "first", "max_output_tokens": 3}, {"top_logprobs": 3}, {"structured_outputs": {"choice": ["yes"]}}], ids=str
)
def test_events_add_up_to_the_response(server, how):
    whole = ask(server, **how)[1]
    events = parsed(ask(server, **how, stream=True)[1])
    for event in events:
        EVENT.validate_python(event)
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert [event["type"] for event in events[:2]] == ["response.created", "response.in_progress"]
    last = events[-1]["response"]
    assert events[-1]["type"] == f"response.{last['status']}" == f"response.{whole['status']}"
    own = lambda response: {name: value for name, value in response.items() if name not in ("id", "created_at", "completed_at", "output", "usage")}
    assert own(last) == own(whole)
    [got], [wanted] = last["output"], whole["output"]
    assert got["content"][0]["text"] == wanted["content"][0]["text"] and got["status"] == wanted["status"]
    assert "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta") == wanted["content"][0]["text"]
    assert last["usage"]["output_tokens"] == whole["usage"]["output_tokens"]
    assert (last["incomplete_details"] is None) == (last["status"] == "completed")


@settings(deadline=None)
@given(said())
def test_whatever_is_said_openai_s_client_adds_it_up(made):
    own = lambda: ResponseAnswer("tiny", None, Responses(input="x").echo)
    events = events_of(own(), made)
    state = ResponseStreamState(input_tools=openai.omit, text_format=openai.omit)
    for event in events:
        state.handle_event(EVENT.validate_python(event))
    last = Response.model_validate(events[-1]["response"])
    assert last.status == ("incomplete" if made.reply.finish_reason == "length" else "completed")
    told = []
    for item in last.output:
        if item.type == "function_call":
            told.append(("tool_call", item.call_id, item.name, item.arguments))
        else:
            told.append(("text" if item.type == "message" else "reasoning", item.content[0].text))
    assert told == ([("tool_call", run[1].id, run[1].name, run[2]) if run[0] == "tool_call" else run for run in made.runs] or [("text", "")])
    assert all(item.status == "completed" for item in last.output[:-1]) and last.output[-1].status == last.status
    for kind, name in (("added", "response.output_item.added"), ("done", "response.output_item.done")):
        assert [e["output_index"] for e in events if e["type"] == name] == list(range(len(last.output)))
    assert last.usage.output_tokens_details.reasoning_tokens == 2 and last.usage.input_tokens_details.cached_tokens == 4
    whole = Response.model_validate(json.loads(json.dumps(own().whole(made.reply, {}))))
    assert whole.output_text == made.reply.text
    assert [json.loads(i.arguments) for i in whole.output if i.type == "function_call"] == [c.arguments for c in made.reply.tool_calls]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"background": True}, "background"),
        ({"truncation": "some"}, "truncation"),
        ({"truncation": "auto", "on_full": "error"}, "on_full"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_tokens": 5}, "max_tokens"),
        ({"n": 2}, "n"),
        ({"whatever": 1}, "whatever"),
        ({"include": ["whatever"]}, "include"),
        ({"text": {"verbosity": "high"}}, "text.verbosity"),
        ({"text": {"format": {"type": "json_schema", "name": "test"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "array", "uniqueItems": True}}}}, "text.format"),
        ({"reasoning": {"effort": "high"}}, "reasoning.effort"),
        ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{**TOOL, "defer_loading": True}]}, "tools.defer_loading"),
        ({"tool_choice": {"type": "mcp", "server_label": "x"}}, "tool_choice"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input.content"),
        ({"input": [{"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}]}, "input.encrypted_content"),
        ({"input": [{"role": "user", "content": "Hi", "name": "Anna"}]}, "input.name"),
        ({"input": "word " * 3000}, "input"),
        ({"arguments": {"a": 1}}, "arguments"),
    ],
    ids=lambda value: str(value)[:50],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_done_is_refused_by_its_name(server, body, param, stream):
    status, answer = ask(server, **body, stream=stream)
    assert status == 400, answer
    assert answer["error"].keys() == {"message", "type", "param", "code"} and answer["error"]["param"] == param
    assert "\n" not in answer["error"]["message"]


def test_what_changes_nothing_is_accepted(server):
    known = {name: ["anything", 1] for name in Responses.harmless - {"extra_body"}}
    at_rest = {name: values[0] for name, values in Responses.only.items() if values}
    harmless = {"include": [*fields.INCLUDE[1:]], "reasoning": {"effort": None, "summary": "auto"}, "metadata": {"a": "b"}}
    assert text(server, **known, **at_rest, **harmless, whatever=None) == text(server)
    assert ask(server, metadata={"a": "b"})[1]["metadata"] == {"a": "b"}


@pytest.mark.parametrize("stream", [False, True])
def test_an_intrinsic_says_what_it_says_in_a_chat(demo, stream):
    document = "Anna's car is red and has four doors."
    question = "What colour is Anna's car?"
    extra = {"model": "judge", "documents": [{"text": document, "doc_id": "1"}], "result": True}
    wanted = demo.call("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": question}], **extra})[2]["choices"][0]
    answer = demo.call("POST", PATH, {"input": question, **extra, "stream": stream})[2]
    response = parsed(answer)[-1]["response"] if stream else answer
    assert Response.model_validate(response).output_text == wanted["message"]["content"]
    assert response["result"]["likelihood"] == pytest.approx(wanted["result"]["likelihood"], abs=0.02)


def test_a_stream_that_fails_says_so(tiny_base, tmp_path):
    with running(tmp_path / "log", "--model", tiny_base, "--ctx", 2048, "--timeout", 0.2) as server:
        body = {"input": "Go on and on.", "temperature": 0, "max_output_tokens": 1500, "stream": True}
        with httpx.stream("POST", server.url + PATH, json=body, timeout=60) as response:
            assert response.status_code == 200
            events = parsed(response.read().decode())
    last = EVENT.validate_python(events[-1])
    assert last.type == "response.failed" and last.response.status == "failed" and last.response.error.code == "server_error"
    assert "expected it within 0.2 s" in last.response.error.message
    assert last.response.output[0].status == "incomplete"
