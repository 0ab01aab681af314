"""Programs that agents are made with, unmodified, against a running server: openai, anthropic and LangChain; and llm with tools."""

import json
import os
import subprocess
import sys

import anthropic
import openai
import pytest
from live import running
from pydantic import BaseModel

HELLO = "Say something odd about whales."
GREEDY = {"temperature": 0, "max_tokens": 8}


WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city",
    "parameters": {
        "type": "object",
        "properties": {"city": {"enum": ["Bern", "Oslo", "Lima"]}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
        "required": ["city", "days"],
        "additionalProperties": False,
    },
}
CLOCK = {"name": "get_time", "description": "The time now", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}
ASKED = "What is the weather in Oslo for the next 3 days?"


class Sure(BaseModel):
    sure: bool


def is_weather(arguments):
    return arguments.keys() == {"city", "days"} and arguments["city"] in ("Bern", "Oslo", "Lima") and 1 <= arguments["days"] <= 7


@pytest.fixture(scope="module")
def said(server):
    body = {"model": "tiny", "messages": [{"role": "user", "content": HELLO}], **GREEDY}
    return server.call("POST", "/v1/chat/completions", body)[2]["choices"][0]["message"]["content"]


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client


@pytest.fixture(scope="module")
def claude(server):
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=120) as client:
        yield client


def test_openai_s_responses(client, said):
    asked = {"model": "tiny", "input": HELLO, "temperature": 0, "max_output_tokens": 8}
    assert client.responses.create(**asked).output_text == said
    events = list(client.responses.create(**asked, stream=True))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == said
    with client.responses.stream(model="tiny", input="Are you sure?", temperature=0, text_format=Sure) as stream:
        kinds = {event.type for event in stream}
        whole = stream.get_final_response()
    assert {"response.created", "response.output_text.delta", "response.output_text.done", "response.completed"} <= kinds
    parsed = client.responses.parse(model="tiny", input="Are you sure?", temperature=0, text_format=Sure)
    assert isinstance(parsed.output_parsed, Sure) and whole.output_parsed == parsed.output_parsed


def test_openai_s_responses_go_on(client):
    """What a response says goes back as it is, as agents send it."""
    asked = [{"role": "user", "content": HELLO}]
    for _ in range(2):
        response = client.responses.create(model="tiny", input=asked, temperature=0, max_output_tokens=6)
        asked = [*asked, *response.output, {"role": "user", "content": "And?"}]
    assert response.usage.input_tokens_details.cached_tokens > 0


def test_openai_s_responses_are_refused_by_openai_s_errors(client):
    with pytest.raises(openai.BadRequestError, match="previous_response_id: expected none"):
        client.responses.create(model="tiny", input="Hi", previous_response_id="resp_1")
    with pytest.raises(openai.NotFoundError):
        client.responses.create(model="nobody", input="Hi")


def test_anthropic_s_messages(claude, said):
    asked = {"model": "tiny", "messages": [{"role": "user", "content": HELLO}], "max_tokens": 8, "extra_body": {"temperature": 0}}
    message = claude.messages.create(**asked)
    assert message.content[0].text == said and message.stop_reason == "max_tokens"
    with claude.messages.stream(**asked) as stream:
        assert "".join(stream.text_stream) == said
        assert stream.get_final_message().usage.output_tokens == message.usage.output_tokens == 8
    counted = claude.messages.count_tokens(model="tiny", messages=asked["messages"])
    assert counted.input_tokens == message.usage.input_tokens + message.usage.cache_read_input_tokens
    assert claude.beta.messages.create(**asked, betas=["whatever-2026-01-01"]).content[0].text == said


def test_anthropic_s_client_parses_and_names_its_errors(claude):
    asked = {"model": "tiny", "messages": [{"role": "user", "content": "Are you sure?"}], "max_tokens": 60}
    parsed = claude.messages.parse(**asked, output_format=Sure, extra_body={"temperature": 0})
    assert isinstance(parsed.parsed_output, Sure)
    with pytest.raises(anthropic.NotFoundError, match="expected tiny or an adapter"):
        claude.messages.create(**{**asked, "model": "nobody"})
    for stream in (False, True):
        with pytest.raises(anthropic.BadRequestError, match="thinking: expected"):
            claude.messages.create(**asked, thinking={"type": "enabled", "budget_tokens": 1024}, stream=stream)


@pytest.mark.parametrize("by_responses", [False, True])
def test_langchain_s_openai(server, said, by_responses):
    from langchain_openai import ChatOpenAI

    made = {"model": "tiny", "base_url": f"{server.url}/v1", "api_key": "none", "temperature": 0, "max_retries": 0, "use_responses_api": by_responses}
    model = ChatOpenAI(**made, max_tokens=8)
    answer = model.invoke(HELLO)
    assert answer.text == said and answer.usage_metadata["output_tokens"] == 8
    assert "".join(chunk.text for chunk in model.stream(HELLO)) == said
    sure = ChatOpenAI(**made, max_tokens=60).with_structured_output(Sure, method="json_schema")
    assert isinstance(sure.invoke("Are you sure?"), Sure)
    assert ChatOpenAI(**{**made, "model": "first"}, max_tokens=8).invoke(HELLO).text != said


def test_langchain_s_anthropic(server, said):
    from langchain_anthropic import ChatAnthropic
    from langchain_core.messages import HumanMessage

    made = {"model": "tiny", "base_url": server.url, "api_key": "none", "max_retries": 0, "temperature": 0}
    model = ChatAnthropic(**made, max_tokens=8)
    answer = model.invoke(HELLO)
    assert answer.text == said and answer.usage_metadata["output_tokens"] == 8
    assert "".join(chunk.text for chunk in model.stream(HELLO)) == said
    assert model.get_num_tokens_from_messages([HumanMessage(HELLO)]) == answer.usage_metadata["input_tokens"]


# tools: the embedded model, whose own template writes none, with one that does
TEMPLATE = """
{%- if tools %}{{ '<|im_start|>system\nCall functions of <tools>' }}{% for tool in tools %}{{ '\n' + tool | tojson }}{% endfor %}
{{- '</tools> so: <tool_call>\n{"name": <name>, "arguments": <arguments>}\n</tool_call><|im_end|>\n' }}{% endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}{{ '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' }}
{%- else %}{{ '<|im_start|>' + m.role + '\n' + (m.content or '') }}
{%- for call in m.tool_calls or [] %}
{{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}{{ call.function.arguments | tojson }}{{ '}\n</tool_call>' }}
{%- endfor %}{{ '<|im_end|>\n' }}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""


@pytest.fixture(scope="module")
def agent(base_q4, tmp_path_factory):
    folder = tmp_path_factory.mktemp("agent")
    command = [sys.executable, "-m", "gguf.scripts.gguf_new_metadata", base_q4, folder / "agent.gguf", "--chat-template", TEMPLATE]
    subprocess.run(command, check=True, capture_output=True)
    with running(folder / "log", "--model", folder / "agent.gguf", "--ctx", 4096, "--name", "smol") as server:
        yield server


@pytest.fixture(scope="module")
def smol(agent):
    with agent.client() as client:
        yield client


@pytest.fixture(scope="module")
def smol_claude(agent):
    with anthropic.Anthropic(base_url=agent.url, api_key="none", max_retries=0, timeout=120) as client:
        yield client


CHAT = {"model": "smol", "messages": [{"role": "user", "content": ASKED}], "temperature": 0}
FUNCTIONS = [{"type": "function", "function": tool} for tool in (WEATHER, CLOCK)]
FLAT = [{"type": "function", **tool, "strict": True} for tool in (WEATHER, CLOCK)]
CLAUDE = [{"name": tool["name"], "description": tool["description"], "input_schema": tool["parameters"]} for tool in (WEATHER, CLOCK)]


@pytest.fixture(scope="module")
def call(smol):
    """(name, arguments) that the model asks for, if it has to ask for the weather."""
    wanted = {"type": "function", "function": {"name": "get_weather"}}
    answer = smol.chat.completions.create(**CHAT, tools=FUNCTIONS, tool_choice=wanted, parallel_tool_calls=False).choices[0]
    assert answer.finish_reason == "tool_calls"
    [one] = answer.message.tool_calls
    assert one.function.name == "get_weather" and is_weather(json.loads(one.function.arguments))
    return one.function.name, json.loads(one.function.arguments)


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}], ids=str)
def test_openai_s_chat_streams_calls(smol, call, choice):
    with smol.chat.completions.stream(**CHAT, tools=FUNCTIONS, tool_choice=choice, parallel_tool_calls=False) as stream:
        kinds = {event.type for event in stream}
        whole = stream.get_final_completion().choices[0]
    [one] = whole.message.tool_calls
    assert whole.finish_reason == "tool_calls" and {"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds
    if choice != "required":
        assert (one.function.name, json.loads(one.function.arguments)) == call
    result = {"role": "tool", "tool_call_id": one.id, "content": "It snows."}
    messages = [*CHAT["messages"], whole.message.model_dump(exclude_none=True, include={"role", "content", "tool_calls"}), result]
    answer = smol.chat.completions.create(**{**CHAT, "messages": messages}, tools=FUNCTIONS, tool_choice="none", max_tokens=8).choices[0]
    assert answer.message.content and not answer.message.tool_calls


@pytest.mark.parametrize("stream", [False, True])
def test_openai_s_responses_call(smol, call, stream):
    asked = {"model": "smol", "input": ASKED, "temperature": 0, "tools": FLAT, "parallel_tool_calls": False}
    wanted = {"type": "function", "name": "get_weather"}
    if stream:
        with smol.responses.stream(**asked, tool_choice=wanted) as events:
            deltas = [event.delta for event in events if event.type == "response.function_call_arguments.delta"]
            response = events.get_final_response()
        assert "".join(deltas) == response.output[-1].arguments
    else:
        response = smol.responses.create(**asked, tool_choice=wanted)
    [one] = response.output
    assert one.type == "function_call" and (one.name, json.loads(one.arguments)) == call
    allowed = smol.responses.create(
        **asked, tool_choice={"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "get_time"}]}
    )
    assert [(item.name, json.loads(item.arguments)) for item in allowed.output] == [("get_time", {})]
    items = [{"role": "user", "content": ASKED}, one, {"type": "function_call_output", "call_id": one.call_id, "output": "It snows."}]
    answer = smol.responses.create(**{**asked, "input": items}, tool_choice="none", max_output_tokens=8)
    assert answer.output_text and all(item.type == "message" for item in answer.output)


@pytest.mark.parametrize("stream", [False, True])
def test_anthropic_s_messages_use_tools(smol_claude, call, stream):
    asked = {"model": "smol", "messages": CHAT["messages"], "max_tokens": 100, "tools": CLAUDE, "extra_body": {"temperature": 0}}
    choice = {"type": "tool", "name": "get_weather", "disable_parallel_tool_use": True}
    if stream:
        with smol_claude.messages.stream(**asked, tool_choice=choice) as events:
            pieces = [event.partial_json for event in events if event.type == "input_json"]
            message = events.get_final_message()
        assert json.loads("".join(pieces)) == message.content[-1].input
    else:
        message = smol_claude.messages.create(**asked, tool_choice=choice)
    [use] = message.content
    assert message.stop_reason == "tool_use" and (use.name, use.input) == call
    result = {"type": "tool_result", "tool_use_id": use.id, "content": "It snows."}
    for more in ({}, {"is_error": True}, {"content": [{"type": "text", "text": "It snows."}]}):
        messages = [*CHAT["messages"], {"role": "assistant", "content": message.content}, {"role": "user", "content": [{**result, **more}]}]
        answer = smol_claude.messages.create(**{**asked, "messages": messages, "max_tokens": 8}, tool_choice={"type": "none"})
        assert answer.content[0].type == "text" and answer.content[0].text
    assert smol_claude.messages.create(**asked, tool_choice={"type": "any"}).stop_reason == "tool_use"
    counted = lambda **more: smol_claude.messages.count_tokens(model="smol", messages=CHAT["messages"], **more).input_tokens
    assert counted(tools=CLAUDE) > counted()


TEST = {"name": "test", "description": "", "parameters": {"type": "object", "properties": {"success": {"const": True}}, "required": ["success"]}}
DOORS = ("chat", "responses", "messages")


def calls_and_text(agent, door, stream, tools, choice):
    """([(name, arguments)], text, why it ended) of one answer by a door; as llama-server's own tests of tools ask."""
    turns = [{"role": "system", "content": "You are a coding assistant."}, {"role": "user", "content": "Write an example"}]
    asked = {"model": "smol", "temperature": 0, "stream": stream, **({"tool_choice": choice} if choice else {})}
    if door == "chat":
        with agent.client() as client:
            body = {**asked, "messages": turns, "max_tokens": 200, "tools": [{"type": "function", "function": tool} for tool in tools]}
            answer = client.chat.completions.create(**body, parallel_tool_calls=False)
            if not stream:
                message, reason = answer.choices[0].message, answer.choices[0].finish_reason
                return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or ()], message.content or "", reason
            text, heads, pieces, reason = "", {}, {}, None
            for chunk in answer:
                delta, reason = chunk.choices[0].delta, chunk.choices[0].finish_reason or reason
                text += delta.content or ""
                for call in delta.tool_calls or ():
                    assert bool(call.id) == bool(call.function.name) == (call.index not in heads)  # once, at the beginning
                    heads.setdefault(call.index, call.function.name)
                    pieces[call.index] = pieces.get(call.index, "") + call.function.arguments
            return [(heads[index], json.loads(pieces[index])) for index in heads], text, reason
    if door == "responses":
        with agent.client() as client:
            body = {**asked, "input": turns, "max_output_tokens": 200, "tools": [{"type": "function", **tool} for tool in tools]}
            answer = client.responses.create(**body, parallel_tool_calls=False)
            response = list(answer)[-1].response if stream else answer
        calls = [(item.name, json.loads(item.arguments)) for item in response.output if item.type == "function_call"]
        return calls, response.output_text, "tool_calls" if calls else response.status
    choices = {None: None, "none": {"type": "none"}, "required": {"type": "any", "disable_parallel_tool_use": True}}
    tools = [{"name": tool["name"], "description": tool["description"], "input_schema": tool["parameters"]} for tool in tools]
    body = {
        "model": "smol",
        "extra_body": {"temperature": 0},
        "system": turns[0]["content"],
        "messages": turns[1:],
        "max_tokens": 200,
        "tools": tools,
    }
    body |= {"tool_choice": choices[choice]} if choice else {}
    with anthropic.Anthropic(base_url=agent.url, api_key="none", max_retries=0, timeout=120) as client:
        if stream:
            with client.messages.stream(**body) as events:
                message = events.get_final_message()
        else:
            message = client.messages.create(**body)
    calls = [(block.name, block.input) for block in message.content if block.type == "tool_use"]
    text = "".join(block.text for block in message.content if block.type == "text")
    return calls, text, {"tool_use": "tool_calls", "end_turn": "stop", "max_tokens": "length"}[message.stop_reason]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("door", DOORS)
def test_a_tool_that_is_required_is_called(agent, door, stream):
    [(name, arguments)], text, reason = calls_and_text(agent, door, stream, [TEST], "required")
    assert name == "test" and arguments["success"] is True and text == "" and reason == "tool_calls"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(("tools", "choice"), [([], None), ([TEST], "none")], ids=["no tools", "none"])
def test_no_tool_is_called_where_none_may_be(agent, door, stream, tools, choice):
    calls, text, reason = calls_and_text(agent, door, stream, tools, choice)
    assert calls == [] and text and reason != "tool_calls"


@pytest.mark.parametrize("door", DOORS)
def test_langchain_s_tools(agent, call, door):
    from langchain_anthropic import ChatAnthropic
    from langchain_core.messages import HumanMessage, ToolMessage
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI

    @tool(args_schema=WEATHER["parameters"])
    def get_weather(city: str, days: int) -> str:
        """The weather in a city"""
        return f"It snows in {city}."

    made = {"model": "smol", "api_key": "none", "temperature": 0, "max_retries": 0, "max_tokens": 100}
    if door == "messages":
        model = ChatAnthropic(**made, base_url=agent.url)
    else:
        model = ChatOpenAI(**made, base_url=f"{agent.url}/v1", use_responses_api=door == "responses")
    bound = model.bind_tools([get_weather], tool_choice="get_weather", parallel_tool_calls=False)
    answer = bound.invoke(ASKED)
    [one] = answer.tool_calls
    assert one["name"] == "get_weather" and is_weather(one["args"])
    chunks = list(bound.stream(ASKED))
    whole = chunks[0]
    for chunk in chunks[1:]:
        whole += chunk
    assert [(streamed["name"], streamed["args"]) for streamed in whole.tool_calls] == [(one["name"], one["args"])]
    result = get_weather.invoke(one)
    assert isinstance(result, ToolMessage)
    said = model.bind_tools([get_weather]).invoke([HumanMessage(ASKED), answer, result])
    assert said.text or said.tool_calls


def test_llm_with_tools(agent, tmp_path):
    """simonw's llm offers the functions of a file, and calls what the model asks for."""
    (tmp_path / "extra-openai-models.yaml").write_text(f"- model_id: ours\n  model_name: smol\n  api_base: {agent.url}/v1\n  supports_tools: true\n")
    env = {**os.environ, "LLM_USER_PATH": str(tmp_path), "LLM_LOAD_PLUGINS": ""}
    functions = 'def get_weather(city: str) -> str:\n    "The weather in a city"\n    return f"It snows in {city}."\n'
    for how in ([], ["--no-stream"]):
        args = ["-m", "ours", "-o", "temperature", "0", "-o", "max_tokens", "60", "--functions", functions, "--td", *how, ASKED]
        said = subprocess.run([sys.executable, "-m", "llm", *args], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        assert said.returncode == 0, said.stderr
        assert said.stdout.strip()


def test_the_page_s_example_runs(demo, repo, capsys):
    section = (repo / "docs" / "serve.md").read_text(encoding="utf-8").partition("## Responses and Messages\n")[2].partition("\n## ")[0]
    code = "\n".join(line.removeprefix("    ") for line in section.splitlines() if line.startswith("    "))
    exec("from openai import OpenAI\nfrom anthropic import Anthropic\n" + code.replace("http://127.0.0.1:8080", demo.url), {})
    by_responses, by_messages = capsys.readouterr().out.splitlines()
    assert by_responses == by_messages and "answerable" in by_responses
