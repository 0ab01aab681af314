"""POST /v1/messages: the same answers as in chats, in the shape that anthropic's own types have."""

import json

import httpx
import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types import ErrorResponse, Message, MessageTokensCount, RawMessageStreamEvent
from hypothesis import given, settings
from live import running
from made_up import chunk, events_of, parsed, said
from pydantic import TypeAdapter

from alora_gguf.serve.messages.answer import MessageAnswer
from alora_gguf.serve.messages.body import Messages
from alora_gguf.serve.problem import Problem, as_json

PATH = "/v1/messages"
HELLO = [{"role": "user", "content": "Say something odd about whales."}]
EVENT = TypeAdapter(RawMessageStreamEvent)
TOOL = {"name": "look", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}


def ask(server, path=PATH, **body):
    status, _, answer = server.call("POST", path, {"messages": HELLO, "temperature": 0, "max_tokens": 8, **body})
    return status, answer


def message(server, **body):
    status, answer = ask(server, **body)
    assert status == 200, answer
    return Message.model_validate(answer)


def text(server, **body):
    return "".join(block.text for block in message(server, **body).content)


def in_chat(server, **body):
    return server.call("POST", "/v1/chat/completions", {"messages": HELLO, "temperature": 0, "max_tokens": 8, **body})[2]


def seen(events):
    """The events of a stream, each checked, but for the pings that clients pass over."""
    assert {"type": "ping"} in events
    return [EVENT.validate_python(event) for event in events if event["type"] != "ping"]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"model": "first"},
        {"adapter": "plain"},
        {"lora": [{"id": "plain", "scale": 2.0}]},
        {"model": "tiny:second"},
        {"temperature": 1.5, "seed": 7, "top_k": 9, "min_p": 0.01, "top_p": 0.9, "repetition_penalty": 1.2},
        {"structured_outputs": {"regex": "yes|no"}},
    ],
    ids=json.dumps,
)
def test_an_answer_is_the_one_given_in_a_chat(server, how):
    whole = in_chat(server, **how)
    answer = message(server, **how)
    assert answer.content[0].text == whole["choices"][0]["message"]["content"] and answer.model == whole["model"]
    assert answer.usage.input_tokens + answer.usage.cache_read_input_tokens == whole["usage"]["prompt_tokens"]
    assert answer.usage.output_tokens == whole["usage"]["completion_tokens"]
    assert answer.stop_reason == {"length": "max_tokens", "stop": "end_turn"}[whole["choices"][0]["finish_reason"]]


def test_a_conversation_is_the_one_of_a_chat(server):
    turns = [("user", "Who are you?"), ("assistant", "Me."), ("user", "And who else?")]
    messages = [{"role": role, "content": content} for role, content in turns]
    wanted = in_chat(server, messages=[{"role": "system", "content": "You are short."}, *messages])
    blocks = lambda text: [{"type": "text", "text": part, "cache_control": {"type": "ephemeral"}} for part in (text[:2], text[2:])]
    parts = [{"role": role, "content": blocks(content)} for role, content in turns]
    for how in (
        {"messages": messages, "system": "You are short."},
        {"messages": parts, "system": blocks("You are short.")},
        {"messages": [{"role": "system", "content": "You are short."}, *messages]},
    ):
        answer = message(server, **how)
        assert answer.content[0].text == wanted["choices"][0]["message"]["content"]
        counted = MessageTokensCount.model_validate(ask(server, f"{PATH}/count_tokens", **how)[1])
        assert counted.input_tokens == wanted["usage"]["prompt_tokens"]


def test_what_is_in_the_cache_is_no_input(server):
    messages = [{"role": "user", "content": "Nobody has asked this of anybody yet."}]
    first, again = message(server, messages=messages), message(server, messages=messages)
    assert first.usage.input_tokens > again.usage.input_tokens and first.usage.cache_read_input_tokens < again.usage.cache_read_input_tokens
    n = [one.usage.input_tokens + one.usage.cache_read_input_tokens for one in (first, again)]
    assert n == [ask(server, f"{PATH}/count_tokens", messages=messages)[1]["input_tokens"]] * 2


def test_calls_results_and_thoughts_are_messages_of_a_chat():
    use = lambda i: {"type": "tool_use", "id": f"t{i}", "name": "look", "input": {"city": "Köln"}}
    body = {
        "system": [{"type": "text", "text": "Short."}],
        "messages": [
            {"role": "user", "content": "Where?"},
            {
                "role": "assistant",
                "content": [{"type": "thinking", "thinking": "hm", "signature": ""}, {"type": "text", "text": "I look."}, use(1), use(2)],
            },
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Well?"},
                    {"type": "tool_result", "tool_use_id": "t1", "content": "here"},
                    {
                        "type": "tool_result",
                        "tool_use_id": "t2",
                        "content": [{"type": "text", "text": "no"}, {"type": "text", "text": "where"}],
                        "is_error": True,
                    },
                ],
            },
            {"role": "assistant", "content": [use(3)]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t3"}]},
        ],
    }
    calls = lambda *numbers: [{"id": f"t{i}", "type": "function", "function": {"name": "look", "arguments": '{"city": "Köln"}'}} for i in numbers]
    assert [message.plain for message in Messages.model_validate(body).as_chat(None).messages] == [
        {"role": "system", "content": "Short."},
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": "I look.", "reasoning_content": "hm", "tool_calls": calls(1, 2)},
        {"role": "tool", "content": "here", "tool_call_id": "t1"},
        {"role": "tool", "content": "Error: nowhere", "tool_call_id": "t2"},
        {"role": "user", "content": "Well?"},
        {"role": "assistant", "content": None, "tool_calls": calls(3)},
        {"role": "tool", "content": "", "tool_call_id": "t3"},
    ]


def test_the_form_of_the_answer(server):
    form = {"type": "json_schema", "schema": {"enum": ["yes", "no"]}}
    for how in ({"output_config": {"format": form}}, {"output_format": form}, {"output_config": {"format": form}, "output_format": form}):
        answer = message(server, **how)
        assert answer.content[0].text in ('"yes"', '"no"') and answer.stop_reason == "end_turn"
    assert ask(server, output_config={"format": form}, output_format={**form, "schema": {}})[0] == 400


@pytest.mark.parametrize("stream", [False, True])
def test_which_stop_sequence_ended_it(server, stream):
    whole = text(server)
    stop = whole[len(whole) // 2 :][:4]
    answer = ask(server, stop_sequences=["nobody says this", stop], stream=stream)[1]
    said = parsed(answer)[-2]["delta"] if stream else answer
    assert (said["stop_reason"], said["stop_sequence"]) == ("stop_sequence", stop)
    if not stream:
        assert answer["content"][0]["text"] == whole[: whole.index(stop)]


@pytest.mark.parametrize("how", [{}, {"model": "first", "max_tokens": 3}, {"structured_outputs": {"choice": ["yes"]}}], ids=str)
def test_events_add_up_to_the_message(server, how):
    whole = message(server, **how)
    snapshot = None
    for event in seen(parsed(ask(server, **how, stream=True)[1])):
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs={})
    own = lambda one: {**one.model_dump(exclude={"id", "usage"}, exclude_none=True), "content": [block.text for block in one.content]}
    assert own(snapshot) == own(whole)
    assert snapshot.usage.output_tokens == whole.usage.output_tokens


@settings(deadline=None)
@given(said())
def test_whatever_is_said_anthropic_s_client_adds_it_up(made):
    events = seen(events_of(MessageAnswer("tiny"), made))
    snapshot, buffers = None, {}
    for event in events:
        snapshot = accumulate_event(event=event, current_snapshot=snapshot, json_bufs=buffers)
    told = []
    for block in snapshot.content:
        told.append(("text", block.text) if block.type == "text" else ("reasoning", block.thinking) if block.type == "thinking" else block.input)
    assert told == ([json.loads(run[2]) if run[0] == "tool_call" else run for run in made.runs] or [("text", "")])
    starts = [event.index for event in events if event.type == "content_block_start"]
    assert starts == [event.index for event in events if event.type == "content_block_stop"] == list(range(len(told)))
    assert snapshot.stop_reason == {"length": "max_tokens", "tool_calls": "tool_use", "stop": "end_turn"}[made.reply.finish_reason]
    assert snapshot.usage.output_tokens_details.thinking_tokens == 2
    whole = Message.model_validate(MessageAnswer("tiny").whole(made.reply, {}))
    assert "".join(block.text for block in whole.content if block.type == "text") == made.reply.text
    assert [(b.id, b.name, b.input) for b in whole.content if b.type == "tool_use"] == [(c.id, c.name, c.arguments) for c in made.reply.tool_calls]
    hidden = Message.model_validate(MessageAnswer("tiny", shows_thought=False).whole(made.reply, {}))
    assert [b.type for b in hidden.content] == [b.type for b in whole.content]
    assert not any(block.thinking for block in hidden.content if block.type == "thinking")


def test_the_signature_of_a_thought_comes_before_its_end():
    answer = MessageAnswer("tiny")
    kinds = lambda events: [event.get("delta", event)["type"] for event in events]
    assert kinds(answer.piece(chunk("hm", "reasoning"))) == ["content_block_start", "thinking_delta"]
    assert kinds(answer.piece(chunk("Yes."))) == ["signature_delta", "content_block_stop", "content_block_start", "text_delta"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [*HELLO, {"role": "assistant", "content": "I"}]}, "messages: expected the last to be the user's"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "url", "url": "x"}}]}]}, '"image"'),
        ({"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]}, '"document"'),
        ({"messages": [{"role": "user", "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {}}]}]}, "no tool_use of the user"),
        ({"messages": [{"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}]}, '"redacted_thinking"'),
        ({"messages": "Hi"}, "messages"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_completion_tokens": 5}, "max_completion_tokens: expected a field"),
        ({"stop": ["a"]}, "stop: expected a field"),
        ({"n": 2}, "n: expected a field"),
        ({"whatever": 1}, "whatever: expected a field"),
        ({"temperature": -1}, "temperature: expected"),
        ({"stop_sequences": "a"}, "stop_sequences"),
        ({"container": "c"}, "container: expected none"),
        ({"mcp_servers": [{"url": "x"}]}, "mcp_servers: expected"),
        ({"context_management": {"edits": [{"type": "x"}]}}, "context_management: expected"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking: expected a model that thinks"),
        ({"thinking": {"type": "between_tools"}}, "thinking.type"),
        ({"output_config": {"effort": "high"}}, "output_config.effort: expected"),
        ({"output_config": {"format": {"type": "json_schema", "schema": {"type": "array", "uniqueItems": True}}}}, "output_config.format: expected"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, '"web_search_20250305"'),
        ({"tools": [{**TOOL, "input_examples": [{"city": "Bern"}]}]}, "tools.input_examples: expected"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice.name: expected"),
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, "expected at most 2048 tokens"),
        ({"arguments": {"a": 1}}, "arguments: expected"),
    ],
    ids=lambda value: str(value)[:50],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_done_is_refused_by_its_name(server, body, says, stream):
    status, answer = ask(server, **body, stream=stream)
    assert status == 400, answer
    error = ErrorResponse.model_validate(answer).error
    assert error.type == "invalid_request_error" and says in error.message and "\n" not in error.message


def test_what_changes_nothing_is_accepted(server):
    known = {name: ["anything", 1] for name in Messages.harmless - {"extra_body"}}
    at_rest = {name: values[0] for name, values in Messages.only.items() if values}
    thought = [{"thinking": {"type": "disabled"}}, {"thinking": {"type": "adaptive", "display": "omitted"}}, {"thinking": None}]
    assert {text(server, **known, **at_rest, **one, whatever=None) for one in thought} == {text(server)}
    headers = {"anthropic-version": "2023-06-01", "anthropic-beta": "whatever-2026-01-01"}
    assert server.call("POST", PATH, {"messages": HELLO, "temperature": 0, "max_tokens": 8}, **headers)[2]["content"][0]["text"] == text(server)


def test_errors_are_anthropic_s_wherever_they_come_from(tiny_base, tmp_path):
    with running(tmp_path / "log", "--model", tiny_base, "--ctx", 2048, "--max-body", 1, "--api-key", "secret", "--api-key", "other") as server:
        body = {"messages": HELLO, "max_tokens": 1, "temperature": 0}
        key = {"x-api-key": "secret"}
        cases = [
            (401, "authentication_error", ("POST", PATH, body), {}),
            (401, "authentication_error", ("POST", PATH, body), {"x-api-key": "wrong"}),
            (403, "permission_error", ("POST", PATH, body), {**key, "Origin": "http://elsewhere"}),
            (404, "not_found_error", ("POST", PATH, {**body, "model": "nobody"}), key),
            (404, "not_found_error", ("POST", f"{PATH}/batches", body), key),
            (405, "invalid_request_error", ("GET", PATH, None), key),
            (413, "request_too_large", ("POST", PATH, b" " * (1 << 20) + b"{}"), key),
        ]
        for status, kind, call, headers in cases:
            got, _, answer = server.call(*call, **headers)
            assert (got, answer["type"], answer["error"]["type"]) == (status, "error", kind) and answer["error"]["message"]
        for headers in (key, {"x-api-key": "other"}, {"Authorization": "Bearer secret"}, {"Authorization": "Bearer wrong", **key}):
            assert server.call("POST", PATH, body, **headers)[0] == 200
        assert server.call("POST", "/v1/chat/completions", body, **key)[0] == 200
        assert server.call("POST", "/v1/chat/completions", body)[2]["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(("status", "kind"), [(429, "rate_limit_error"), (500, "api_error"), (503, "overloaded_error"), (504, "timeout_error")])
def test_errors_of_the_server_have_a_type_of_their_own(status, kind):
    assert ErrorResponse.model_validate(as_json(Problem(status, "x"), PATH)).error.type == kind


@pytest.mark.parametrize("stream", [False, True])
def test_an_intrinsic_says_what_it_says_in_a_chat(demo, stream):
    messages = [{"role": "user", "content": "What colour is Anna's car?"}]
    extra = {"messages": messages, "model": "judge", "documents": [{"text": "Anna's car is red and has four doors.", "doc_id": "1"}], "result": True}
    wanted = demo.call("POST", "/v1/chat/completions", extra)[2]["choices"][0]
    answer = demo.call("POST", PATH, {**extra, "stream": stream})[2]
    if stream:
        events = parsed(answer)
        said, result = "".join(e["delta"]["text"] for e in events if e["type"] == "content_block_delta"), events[-2]["result"]
    else:
        said, result = answer["content"][0]["text"], answer["result"]
    assert said == wanted["message"]["content"]
    assert result["likelihood"] == pytest.approx(wanted["result"]["likelihood"], abs=0.02)


def test_an_intrinsic_judges_what_the_assistant_said(server):
    messages = [*HELLO, {"role": "assistant", "content": "They sing."}]
    wanted = in_chat(server, messages=messages, model="first")["choices"][0]["message"]["content"]
    assert text(server, messages=messages, model="first") == wanted
    assert ask(server, messages=messages, model="plain")[0] == 400


def test_a_stream_that_fails_says_so(tiny_base, tmp_path):
    with running(tmp_path / "log", "--model", tiny_base, "--ctx", 2048, "--timeout", 0.2) as server:
        body = {"messages": [{"role": "user", "content": "Go on and on."}], "temperature": 0, "max_tokens": 1500, "stream": True}
        with httpx.stream("POST", server.url + PATH, json=body, timeout=60) as response:
            assert response.status_code == 200
            last = parsed(response.read().decode())[-1]
    assert ErrorResponse.model_validate(last).error.type == "timeout_error"
    assert "expected it within 0.2 s" in last["error"]["message"]
