"""Tools over /v1/chat/completions, by the openai package: a call that is required is one of the schema's, whatever the model is."""

import json

import jsonschema
import openai
import pytest

PARAMETERS = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Bern", "Rome"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "The weather.", "parameters": PARAMETERS}}
TIDE = {"type": "function", "function": {"name": "tide", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}}
QUESTION = {"role": "user", "content": "Is it sunny?"}
REQUIRED = {"tools": [WEATHER, TIDE], "tool_choice": "required", "parallel_tool_calls": False}


@pytest.fixture(scope="module")
def server(base_q4, repo, tmp_path_factory):
    """On a tiny random model, whose template writes tools."""
    from live import running
    from tiny import llama

    folder = tmp_path_factory.mktemp("tools")
    base = llama(base_q4, folder / "tiny.gguf", chat_template=(repo / "examples" / "tools.jinja").read_text(encoding="utf-8"))
    with running(folder / "log", "--model", base, "--ctx", 2048, "--name", "tiny") as server:
        yield server


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client


def ask(client, messages=(QUESTION,), **options):
    return client.chat.completions.create(model="tiny", messages=list(messages), **{"temperature": 0, "max_tokens": 80, **options})


def checked(call):
    assert call.type == "function" and call.id
    jsonschema.validate(json.loads(call.function.arguments), {"weather": PARAMETERS, "tide": TIDE["function"]["parameters"]}[call.function.name])
    return call


@pytest.mark.parametrize("seed", [1, 2])
def test_a_call_that_is_required_is_one_of_the_schema(client, seed):
    [choice] = ask(client, **REQUIRED, temperature=1.5, seed=seed).choices
    assert choice.finish_reason == "tool_calls" and choice.message.content is None
    [call] = choice.message.tool_calls
    checked(call)
    named = ask(client, **{**REQUIRED, "tool_choice": {"type": "function", "function": {"name": "weather"}}}, temperature=1.5, seed=seed)
    [call] = named.choices[0].message.tool_calls
    assert checked(call).function.name == "weather"


def test_a_stream_has_the_call_that_the_whole_answer_has(client):
    [call] = ask(client, **REQUIRED).choices[0].message.tool_calls
    chunks = [chunk.choices[0] for chunk in ask(client, **REQUIRED, stream=True)]
    deltas = [delta for chunk in chunks for delta in chunk.delta.tool_calls or ()]
    assert (deltas[0].index, deltas[0].type, deltas[0].function.name, deltas[0].function.arguments) == (0, "function", call.function.name, "")
    assert len(deltas[0].id) == 9 and all(delta.id is None and delta.function.name is None and delta.index == 0 for delta in deltas[1:])
    assert "".join(delta.function.arguments for delta in deltas) == call.function.arguments
    assert not any(chunk.delta.content for chunk in chunks) and chunks[-1].finish_reason == "tool_calls"
    with client.chat.completions.stream(model="tiny", messages=[QUESTION], temperature=0, max_tokens=80, **REQUIRED) as stream:  # its own accumulator
        stream.until_done()
        [of_stream] = stream.get_final_completion().choices[0].message.tool_calls
    assert (of_stream.function.name, of_stream.function.arguments) == (call.function.name, call.function.arguments)


def test_results_go_on_from_the_cells_of_the_call(client):
    answer = ask(client, **REQUIRED)
    message = answer.choices[0].message
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
    more = ask(client, [QUESTION, message.model_dump(exclude_none=True), result], tools=REQUIRED["tools"], max_tokens=4)
    said = answer.usage.prompt_tokens + answer.usage.completion_tokens
    forced = 8  # of the end, which nothing was computed behind
    assert answer.usage.prompt_tokens < said - forced <= more.usage.prompt_tokens_details.cached_tokens <= said


def test_without_a_choice_the_prompt_has_the_tools_all_the_same(client, server):
    prompts = [
        server.call("POST", "/apply-template", {"messages": [QUESTION], "tools": [WEATHER], **more})[2]["prompt"]
        for more in ({}, {"tool_choice": "none"}, {"tool_choice": "auto", "parallel_tool_calls": True})
    ]
    assert len(set(prompts)) == 1 and '"name": "weather"' in prompts[0]
    tokens = server.call("POST", "/tokenize", {"messages": [QUESTION], "tools": [WEATHER]})[2]["count"]
    assert tokens == ask(client, tools=[WEATHER], tool_choice="none", max_tokens=1).usage.prompt_tokens
    assert ask(client, tools=[WEATHER], tool_choice="none", max_tokens=4).choices[0].message.tool_calls is None


def test_a_schema_of_the_answer_beside_tools(client):
    form = {
        "type": "json_schema",
        "json_schema": {
            "name": "x",
            "schema": {"type": "object", "properties": {"sky": {"enum": ["grey"]}}, "required": ["sky"], "additionalProperties": False},
        },
    }
    for seed in range(3):
        [choice] = ask(client, tools=[WEATHER], parallel_tool_calls=False, response_format=form, temperature=1.5, seed=seed).choices
        if choice.message.tool_calls:
            checked(choice.message.tool_calls[0])
        else:
            assert json.loads(choice.message.content) == {"sky": "grey"}


@pytest.mark.parametrize(
    "body, line",
    [
        ({"tools": [{"type": "function"}]}, 'tools[0]: expected {"type": "function", "function": {...}}'),
        ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name: expected another name for each tool"),
        ({"tools": [WEATHER], "tool_choice": "weather"}, "tool_choice: expected one of none, auto, required, got 'weather'"),
        ({"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "sun"}}}, "tool_choice: expected one of none, auto"),
        ({"tool_choice": "required"}, "tool_choice: expected tools beside 'required', got none"),
        ({"tools": [WEATHER], "tool_choice": "required", "guided_regex": "a"}, "tool_choice: expected 'auto' or 'none' beside regex"),
        ({"tools": [WEATHER], "guided_regex": "a"}, "regex: expected json_schema or nothing beside tools"),
        ({"functions": [{"name": "f"}]}, "functions: expected none"),
        ({"function_call": {"name": "f"}}, 'function_call: expected "none" or "auto"'),
        ({"tools": [WEATHER], "chat_template_kwargs": {"tools": [WEATHER]}}, "tools: expected them in one place"),
        ({"tools": [WEATHER], "parse_tool_calls": False}, "parse_tool_calls: expected true"),
    ],
    ids=range(11),
)
def test_what_cannot_be_is_refused_by_name(server, body, line):
    status, _, answer = server.call("POST", "/v1/chat/completions", {"model": "tiny", "messages": [QUESTION], **body})
    assert status == 400 and answer["error"]["message"].startswith(line) and "\n" not in answer["error"]["message"]


def test_a_template_that_writes_no_tools_is_refused(demo):
    with demo.client() as client, pytest.raises(openai.BadRequestError, match="chat template: expected one that writes tools, got one that does not"):
        client.chat.completions.create(model="smol", messages=[QUESTION], tools=[WEATHER])
