"""Ollama's API: its own Python client, unmodified; each adapter a tag of the base, on the cache that all endpoints share."""

import asyncio
import json
import re

import httpx
import ollama
import pytest
from hypothesis import given, settings
from live import running
from made_up import chunk, said
from tiny import llama

from alora_gguf.reply import CallHead, Reply, ToolCall, Usage
from alora_gguf.serve import fields
from alora_gguf.serve.ollama import bodies
from alora_gguf.serve.ollama.answer import OllamaAnswer

CHAT, GENERATE = "/api/chat", "/api/generate"
SAID = [{"role": "user", "content": "Say something odd about whales."}]
GREEDY = {"temperature": 0, "num_predict": 8}
YES_NO = {"enum": ["yes", "no"]}


@pytest.fixture(scope="module")
def client(server):
    return ollama.Client(server.url, timeout=120)


def ask(server, path=CHAT, **body):
    first = {"messages": SAID} if path == CHAT else {"prompt": SAID[0]["content"]}
    options = {**GREEDY, **body.pop("options", {})}
    return server.call("POST", path, {"model": "tiny", "stream": False, **first, "options": options, **body})


def text(server, path=CHAT, **body):
    status, _, answer = ask(server, path, **body)
    assert status == 200, answer
    return answer["message"]["content"] if path == CHAT else answer["response"]


def refused(server, path=CHAT, **body):
    status, _, answer = ask(server, path, **body)
    assert status == 400 and answer.keys() == {"error"} and "\n" not in answer["error"], answer
    return answer["error"]


def openai_s(server, **body):
    _, _, answer = server.call("POST", "/v1/chat/completions", {"messages": SAID, "temperature": 0, "max_tokens": 8, **body})
    return answer["choices"][0]["message"]["content"]


def cached_tokens(server):
    return float(re.search(r"^alora_cached_tokens_total (\S+)", server.call("GET", "/metrics")[2], re.M)[1])


# what there is


def test_each_adapter_is_a_tag(server, client):
    models = {m.model: m for m in client.list().models}
    adapters = {m["id"] for m in server.call("GET", "/v1/models")[2]["data"] if m["parent"]}
    assert set(models) == {"tiny:latest", *(f"tiny:{name}" for name in adapters)} and len({m.digest for m in models.values()}) == len(models)
    base = models["tiny:latest"]
    assert base.size == server.files["base"].stat().st_size and base.details.family == "llama"
    assert models["tiny:plain"].size == base.size + server.files["plain"].stat().st_size
    assert models["tiny:plain"].details.parent_model == "tiny:latest" and not base.details.parent_model
    assert {m.model: m.context_length for m in client.ps().models} == dict.fromkeys(models, 2048)


@pytest.mark.parametrize(
    ("name", "is_base"),
    [("tiny", True), ("tiny:latest", True), ("tiny:plain", False), ("plain", False), ("plain:latest", False), ("tiny:plain:latest", False)],
)
def test_names_of_one_model(server, name, is_base):
    wanted = openai_s(server, model="tiny" if is_base else "plain")
    assert text(server, model=name) == wanted
    assert ask(server, model=name)[2]["model"] == name
    assert openai_s(server, model=name) == wanted
    assert server.call("POST", "/api/show", {"name": name})[2]["details"]["parent_model"] == ("" if is_base else "tiny:latest")


def test_a_base_called_as_a_tag(tiny_base, tiny_adapters, tmp_path):
    with running(
        tmp_path / "log", "--model", tiny_base, "--ctx", 64, "--name", "granite4.1:3b", "--adapter", f"latest={tiny_adapters['plain']}"
    ) as server:
        client = ollama.Client(server.url)
        assert [m.model for m in client.list().models] == ["granite4.1:3b", "granite4.1:3b:latest"]
        said = lambda name: client.generate(name, "Whales", raw=True, options=GREEDY).response
        assert said("granite4.1:3b") != said("granite4.1:3b:latest") == said("latest")


def test_what_it_is(server, client):
    shown = client.show("tiny:first")
    assert shown.modelinfo["general.architecture"] == "llama" and shown.modelinfo["llama.context_length"] >= 2048
    assert shown.modelinfo["general.parameter_count"] > 1e6 and isinstance(shown.modelinfo["tokenizer.ggml.add_bos_token"], bool)
    assert "messages" in shown.template and shown.parameters == "num_ctx 2048" and "completion" in shown.capabilities
    assert "ADAPTER first" in shown.modelfile
    status, _, version = server.call("GET", "/api/version")
    assert status == 200 and re.fullmatch(r"\d+\.\d+\.\d+", version["version"])


def test_what_does_not_change(server, client):
    assert client.pull("tiny:plain").status == "success"
    assert [update.status for update in client.pull("tiny", stream=True)] == ["success"]
    for call in (
        lambda: client.pull("nobody"),
        lambda: client.show("nobody"),
        lambda: client.chat("tiny:nobody", SAID),
        lambda: client.generate("nobody", "x"),
    ):
        with pytest.raises(ollama.ResponseError, match="expected tiny or an adapter") as e:
            call()
        assert e.value.status_code == 404
    for call in (
        lambda: client.create("a", from_="tiny"),
        lambda: client.copy("tiny", "b"),
        lambda: client.delete("tiny"),
        lambda: client.push("tiny"),
    ):
        with pytest.raises(ollama.ResponseError, match="expected a server whose models change"):
            call()
    assert len(client.list().models) > 1


# answers


@pytest.mark.parametrize("model", ["tiny", "tiny:plain", "tiny:first"])
def test_it_says_what_openai_s_clients_get(server, client, model):
    assert client.chat(model, SAID, options=GREEDY).message.content == openai_s(server, model=model)
    assert client.generate(model, SAID[0]["content"], options=GREEDY).response == openai_s(server, model=model)
    system = [{"role": "system", "content": "You are short."}, *SAID]
    assert client.generate(model, SAID[0]["content"], system="You are short.", options=GREEDY).response == openai_s(
        server, model=model, messages=system
    )
    random = {"temperature": 1.5, "seed": 7, "top_k": 50}
    assert client.chat(model, SAID, options={**GREEDY, **random}).message.content == openai_s(server, model=model, **random)
    raw = client.generate(model, "Whales", raw=True, options=GREEDY).response
    assert (
        raw
        == server.call("POST", "/v1/completions", {"model": model, "prompt": "Whales", "temperature": 0, "max_tokens": 8})[2]["choices"][0]["text"]
    )


@pytest.mark.parametrize("path", [CHAT, GENERATE])
def test_a_stream_is_the_whole(server, path):
    whole = ask(server, path, logprobs=True, top_logprobs=2)[2]
    with httpx.stream(
        "POST",
        server.url + path,
        json={"model": "tiny", "messages" if path == CHAT else "prompt": SAID if path == CHAT else SAID[0]["content"], "options": GREEDY}
        | {"logprobs": True, "top_logprobs": 2},
    ) as response:
        assert response.headers["content-type"] == "application/x-ndjson"
        lines = [json.loads(line) for line in response.read().decode().splitlines()]
    said = [line["message"]["content"] if path == CHAT else line["response"] for line in lines]
    assert "".join(said) == (whole["message"]["content"] if path == CHAT else whole["response"]) and len(lines) > 2
    assert [line["done"] for line in lines] == [False] * (len(lines) - 1) + [True]
    assert [t for line in lines for t in line.get("logprobs", ())] == whole["logprobs"] and len(whole["logprobs"]) == 8
    assert all(len(t["top_logprobs"]) == 2 and t["bytes"] == list(t["token"].encode()) for t in whole["logprobs"])
    for last in (lines[-1], whole):
        assert last["done_reason"] == "length" and last["eval_count"] == 8 and last["prompt_eval_count"] > 8
        assert last["total_duration"] >= last["load_duration"] + last["prompt_eval_duration"] + last["eval_duration"] - 3
        assert all(last[f"{name}_duration"] > 0 for name in ("total", "load", "prompt_eval", "eval"))


def test_all_on_one_cache(server, client):
    """A conversation that any endpoint has computed is there for each tag."""
    said = [{"role": "user", "content": "Nobody but this test says a thing about the heaviest of all whales."}]
    openai_s(server, model="tiny", messages=said)
    for model in ("tiny:latest", "tiny:first", "tiny:second"):
        before = cached_tokens(server)
        n = client.chat(model, said, options=GREEDY).prompt_eval_count
        assert cached_tokens(server) - before >= n - 6  # the invocation is new
    before = cached_tokens(server)
    n = client.chat("tiny:plain", said, options=GREEDY).prompt_eval_count
    assert cached_tokens(server) - before <= n - 12  # other cells from the first on, of which others have asked for the system's


def test_asyncio(server):
    async def talk():
        client = ollama.AsyncClient(server.url)
        answers = await asyncio.gather(*(client.chat(model, SAID, options=GREEDY) for model in ("tiny", "tiny:plain", "tiny:first")))
        streamed = [part.message.content async for part in await client.chat("tiny", SAID, options=GREEDY, stream=True)]
        return [answer.message.content for answer in answers], "".join(streamed)

    whole, streamed = asyncio.run(talk())
    assert whole == [openai_s(server, model=model) for model in ("tiny", "plain", "first")] and streamed == whole[0]


def test_nothing_is_asked(server, client):
    for answer in (client.chat("tiny", []), client.generate("tiny"), client.generate("tiny", "")):
        assert answer.done and answer.done_reason == "load"
    for alive in (0, "0", "0s"):
        assert client.generate("tiny", keep_alive=alive).done_reason == client.chat("tiny", [], keep_alive=alive).done_reason == "unload"
    assert client.generate("tiny", keep_alive="5m").done_reason == "load" == client.generate("tiny", keep_alive=-1).done_reason
    with pytest.raises(ollama.ResponseError, match="expected tiny or an adapter"):
        client.generate("nobody")


# fields


@pytest.mark.parametrize("path", [CHAT, GENERATE])
@pytest.mark.parametrize(("given", "may_be"), [(YES_NO, {'"yes"', '"no"'}), ("json", None), ("", None)], ids=["schema", "json", "none"])
def test_format(server, path, given, may_be):
    said = text(server, path, format=given, options={"num_predict": 40})
    if may_be:
        assert said in may_be
    elif given:
        assert said.startswith("{")
    else:
        assert said == text(server, path, options={"num_predict": 40})
    assert refused(server, path, format="xml").startswith("format")
    assert refused(server, path, format={"$ref": "#/nothing"}).startswith("format: expected")


@pytest.mark.parametrize("path", [CHAT, GENERATE])
@pytest.mark.parametrize(
    ("option", "at_rest"),
    [
        ({"top_k": 1}, {"top_k": 40}),
        ({"top_p": 0.0}, {"top_p": 0.95}),
        ({"min_p": 1.0}, {"min_p": 0.05}),
        ({"seed": 8}, {"seed": 7}),
        ({"repeat_penalty": 3.0}, {"repeat_penalty": 1.0}),
        ({"repeat_penalty": 3.0, "repeat_last_n": -1}, {"repeat_penalty": 3.0, "repeat_last_n": 0}),
        ({"presence_penalty": 9.0}, {"presence_penalty": 0.0}),
        ({"frequency_penalty": 9.0}, {"frequency_penalty": 0.0}),
        ({"num_predict": 3}, {"num_predict": 24}),
        ({"temperature": 0}, {"temperature": 2.0}),
    ],
    ids=str,
)
def test_options_do_what_they_say(server, path, option, at_rest):
    usual = {"temperature": 2.0, "seed": 7, "num_predict": 24}
    said = text(server, path, options={**usual, **option})
    assert said != text(server, path, options=usual | at_rest) == text(server, path, options=usual | ({} if "repeat_last_n" in at_rest else at_rest))


@pytest.mark.parametrize("path", [CHAT, GENERATE])
def test_how_long(server, path):
    for n in (-1, -2):
        assert len(text(server, path, format={"type": "string", "pattern": "^(ab){30}$"}, options={"num_predict": n})) == 62
    assert refused(server, path, options={"num_predict": 0}).startswith("options.num_predict: expected")
    stop = text(server, path)[3:5]
    for stops in (stop, [stop]):
        answer = ask(server, path, options={"stop": stops})[2]
        assert answer["done_reason"] == "stop" and stop not in (answer["message"]["content"] if path == CHAT else answer["response"])


def test_room_is_not_cut(server):
    plain = ask(server)[2]
    assert "warnings" not in plain and "warnings" not in ask(server, options={"num_ctx": 16})[2]
    assert text(server, options={"num_ctx": 16}) == plain["message"]["content"]
    more = ask(server, options={"num_ctx": 4096})[2]
    assert more["message"] == plain["message"]
    assert more["warnings"] == ["options.num_ctx: expected at most 2048, got 4096; start the server with a larger --ctx"]
    assert "expected at most 2048 tokens" in refused(server, messages=[{"role": "user", "content": "whale " * 3000}], truncate=True)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, {"images": ["x"]}),
        (CHAT, {"whatever": 1}),
        (CHAT, {"_debug_render_only": True}),
        (CHAT, {"prompt": "x"}),
        (GENERATE, {"images": ["x"]}),
        (GENERATE, {"suffix": "x"}),
        (GENERATE, {"template": "{{ .Prompt }}"}),
        (GENERATE, {"context": [1]}),
        (GENERATE, {"width": 64}),
        (GENERATE, {"system": "x", "raw": True}),
        (GENERATE, {"think": True, "raw": True}),
        (CHAT, {"think": True}),
        (GENERATE, {"think": "high"}),
        (CHAT, {"format": 5}),
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_by_its_name(server, path, body):
    assert refused(server, path, **body).startswith(next(iter(body)))


@pytest.mark.parametrize(
    "option",
    [{"mirostat": 1}, {"tfs_z": 0.5}, {"typical_p": 0.5}, {"whatever": 1}, {"temperature": -1}, {"seed": "x"}, {"top_p": 2}, {"num_ctx": -1}],
    ids=str,
)
def test_options_are_refused_by_their_names(server, option):
    assert refused(server, options=option).startswith(f"options.{next(iter(option))}: ")


@pytest.mark.parametrize(
    "message",
    [{"images": ["aGk="]}, {"whatever": 1}, {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}, {"role": 5}, {"content": [1]}],
    ids=str,
)
def test_messages_are_refused(server, message):
    assert "messages" in refused(server, messages=[{**SAID[0], **message}])


def test_what_changes_nothing_is_accepted(server):
    anything = ["anything", 1]
    only = lambda given: {name: values[0] for name, values in given.items()}
    options = {**dict.fromkeys(fields.OLLAMA_OPTIONS_HARMLESS, anything), **only(fields.OLLAMA_OPTIONS_ONLY), "num_ctx": 2048, "seed": None}
    common = {**dict.fromkeys(fields.OLLAMA_HARMLESS, anything), "keep_alive": anything, "think": False, "whatever": None, "logprobs": False}
    assert text(server, options=options, **common, **only(fields.OLLAMA_ONLY), tools=[], top_logprobs=3) == text(server)
    assert text(server, GENERATE, options=options, **common, **only(fields.OLLAMA_ONLY_GENERATE)) == text(server, GENERATE)
    assert text(server, messages=[{**SAID[0], "images": [], "tool_calls": None}]) == text(server)


def test_the_tables_are_of_what_is_read():
    assert {*bodies.OllamaChat.model_fields, *bodies.OllamaGenerate.model_fields} == set(fields.OLLAMA_ABOUT)
    assert set(bodies.OllamaOptions.model_fields) == set(fields.OLLAMA_OPTIONS_ABOUT)
    for model in (bodies.OllamaChat, bodies.OllamaGenerate, bodies.OllamaOptions):
        assert not {*model.only} & ({*model.model_fields} | model.harmless)


def test_documents_are_granite_s_roles(server):
    documents = [{"text": "Whales sing.", "doc_id": "a 1"}, {"text": "They dive."}]
    roles = [{"role": "document a 1", "content": "Whales sing."}, {"role": "Document", "content": "They dive."}]
    assert text(server, messages=[*roles, *SAID]) == openai_s(server, documents=documents) != openai_s(server)


def test_errors_in_its_shape(server):
    for method, path, body, status in (
        ("GET", "/api/nothing", None, 404),
        ("GET", CHAT, None, 405),
        ("POST", CHAT, b"{", 400),
        ("POST", CHAT, {"messages": SAID}, 400),
        ("POST", "/api/show", {}, 400),
        ("POST", "/api/embed", {"model": "tiny", "input": "x"}, 400),
    ):
        got, _, answer = server.call(method, path, body)
        assert got == status and answer.keys() == {"error"} and isinstance(answer["error"], str) and answer["error"], (path, answer)
    assert server.call("GET", "/api/tags", origin="http://elsewhere.example")[2]["error"].startswith("Origin: expected")


def test_keys(tiny_base, tmp_path):
    with running(tmp_path / "log", "--model", tiny_base, "--ctx", 64, "--api-key", "secret") as server:
        with pytest.raises(ollama.ResponseError, match=r"^Authorization: expected a bearer token.*\(status code: 401\)$"):
            ollama.Client(server.url).list()
        assert ollama.Client(server.url, headers={"Authorization": "Bearer secret"}).generate("tiny", "Whales", options=GREEDY).response


# tools and thoughts


def test_a_conversation_with_tools_is_openai_s():
    """Calls without an id get one, and results those of their calls."""
    call = lambda name, **more: {"function": {"name": name, "arguments": {"city": "Oslo"}, "index": 0}, **more}
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}
    body = bodies.OllamaChat.model_validate(
        {
            "model": "tiny",
            "tools": [tool],
            "messages": [
                {"role": "User", "content": "Rain?"},
                {"role": "assistant", "thinking": "Hm.", "tool_calls": [call("weather"), call("time"), call("weather", id="own")]},
                {"role": "tool", "tool_name": "time", "content": "noon"},
                {"role": "tool", "content": "rain"},
                {"role": "tool", "tool_call_id": "own", "content": "snow"},
                {"role": "tool", "content": "lost"},
            ],
        }
    )
    asked = body.asked
    said = lambda i, name: {"id": i, "type": "function", "function": {"name": name, "arguments": {"city": "Oslo"}}}
    assert asked["tools"] == [tool]
    assert asked["messages"] == [
        {"role": "user", "content": "Rain?"},
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "Hm.",
            "tool_calls": [said("call00001", "weather"), said("call00002", "time"), said("own", "weather")],
        },
        {"role": "tool", "content": "noon", "name": "time", "tool_call_id": "call00002"},
        {"role": "tool", "content": "rain", "tool_call_id": "call00001"},
        {"role": "tool", "content": "snow", "tool_call_id": "own"},
        {"role": "tool", "content": "lost"},
    ]


def test_thoughts_and_calls_in_lines():
    """Each call is whole in one line as soon as it is; what was said before and between is as it came."""
    first, second = CallHead(0, "a", "weather"), CallHead(1, "b", "time")
    chunks = [
        chunk("Hm", "reasoning"),
        chunk(".", "reasoning"),
        chunk("Well, ", "text"),
        chunk("", "tool_call", first),
        chunk('{"city": ', "tool_call", first),
        chunk('"Oslo"}', "tool_call", first),
        chunk("", "tool_call", second),
        chunk("{}", "tool_call", second),
    ]
    calls = [ToolCall("a", "weather", {"city": "Oslo"}), ToolCall("b", "time", {})]
    reply = Reply("Well, ", Usage(5, 0, 9, 1.0, 1.0), "tool_calls", tool_calls=calls, reasoning="Hm.")
    answer = OllamaAnswer("tiny", None, in_chat=True)
    streamed = [[ollama.ChatResponse(**line) for line in answer.pieces(piece)] for piece in chunks]
    ended = [ollama.ChatResponse(**line) for line in answer.last(reply, [])]
    lines = [line for some in streamed for line in some] + ended
    assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True] and lines[-1].done_reason == "stop"
    assert "".join(line.message.thinking or "" for line in lines) == "Hm." and "".join(line.message.content for line in lines) == "Well, "
    called = lambda lines: [(call.function.name, call.function.arguments) for line in lines for call in line.message.tool_calls or ()]
    wanted = [("weather", {"city": "Oslo"}), ("time", {})]
    assert called(lines) == wanted and called(streamed[6]) == wanted[:1] and called(ended) == wanted[1:]
    whole = ollama.ChatResponse(**OllamaAnswer("tiny", None, in_chat=True).whole(reply, []))
    assert called([whole]) == wanted and whole.message.thinking == "Hm." and whole.message.content == "Well, "


@settings(max_examples=100)
@given(made=said())
def test_lines_say_what_was_said_in_its_order(made):
    answer = OllamaAnswer("tiny", None, in_chat=True)
    lines = [line for piece in made.chunks for line in answer.pieces(piece)]
    lines += answer.last(made.reply, [])
    runs = []
    for line in lines:
        ollama.ChatResponse(**line)
        message = line["message"]
        for kind, said_so in (("reasoning", message.get("thinking")), ("text", message["content"])):
            if said_so and runs and runs[-1][0] == kind:
                runs[-1] = kind, runs[-1][1] + said_so
            elif said_so:
                runs.append((kind, said_so))
        runs += [("tool_call", call["function"]["index"], call["function"]["arguments"]) for call in message.get("tool_calls", ())]
    wanted = [run if len(run) == 2 else ("tool_call", run[1].index, json.loads(run[2])) for run in made.runs]
    assert runs == wanted
    whole = OllamaAnswer("tiny", None, in_chat=True).whole(made.reply, [])["message"]
    assert whole["content"] == made.reply.text and whole.get("thinking", "") == made.reply.reasoning
    assert [call["function"]["name"] for call in whole.get("tool_calls", ())] == [call.name for call in made.reply.tool_calls]


HERMES = """{% if tools %}<|im_start|>system
You may call functions: <tools>{% for tool in tools %}{{ tool | tojson }}{% endfor %}</tools>. A call is <tool_call>
{"name": <name>, "arguments": <arguments>}
</tool_call><|im_end|>
{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}{% for call in m.tool_calls %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""


def test_tools_from_end_to_end(base_q4, monkeypatch):
    """The calls of the same chat as OpenAI's clients get them; that the model has to call is said here, as Ollama has no word for it."""
    from alora_gguf import Model
    from alora_gguf.serve.adapter_files import AdapterFiles
    from alora_gguf.serve.app import make_app
    from alora_gguf.serve.service import Limits, Service

    def weather(city: str, days: int) -> str:
        """The weather.

        Args:
            city: which
            days: how many
        """

    usual = bodies.OllamaChat.asked.fget
    monkeypatch.setattr(bodies.OllamaChat, "asked", property(lambda self: {**usual(self), "tool_choice": "required" if self.tools else None}))
    tool = ollama._utils.convert_function_to_tool(weather).model_dump(exclude_none=True)
    asked = [{"role": "user", "content": "Rain in Oslo?"}]

    async def talk(app):
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost", timeout=120) as http:
            post = lambda path, **body: http.post(path, json={"model": "smol", "messages": asked, "tools": [tool], **body})
            wanted = (await post("/v1/chat/completions", tool_choice="required", temperature=0, max_tokens=80)).json()["choices"][0]
            whole = (await post(CHAT, stream=False, options={"temperature": 0, "num_predict": 80})).json()
            lines = [json.loads(line) for line in (await post(CHAT, options={"temperature": 0, "num_predict": 80})).text.splitlines()]
            result = {"role": "tool", "tool_name": "weather", "content": "Rain."}
            again = [*asked, whole["message"], result]
            more = (await post(CHAT, stream=False, messages=again, tools=None, options={"num_predict": 4})).json()
            shown = (await http.post("/api/show", json={"model": "smol"})).json()
            tokens = (await post("/tokenize")).json()["tokens"]
            told = await post("/v1/chat/completions", tool_choice="required", temperature=0, max_tokens=80, prompt_token_ids=tokens)
            called = [[call["function"] for call in choice["message"]["tool_calls"]] for choice in (told.json()["choices"][0], wanted)]
            assert called[0] == called[1]  # of a prompt that is tokens, too
            return wanted, whole, lines, more, shown

    with Model(base_q4, n_ctx=1024, n_threads=1, chat_template=HERMES) as model:
        wanted, whole, lines, more, shown = asyncio.run(talk(make_app(Service(model, ["smol"], Limits(4, 4, 100), AdapterFiles(model)))))
    calls = [{"name": c["function"]["name"], "arguments": json.loads(c["function"]["arguments"])} for c in wanted["message"]["tool_calls"]]
    assert calls and calls[0]["name"] == "weather" and set(calls[0]["arguments"]) == {"city", "days"}
    called = lambda lines: [{k: c["function"][k] for k in ("name", "arguments")} for line in lines for c in line["message"].get("tool_calls", ())]
    assert called([whole]) == called(lines) == calls and lines[-1]["done_reason"] == whole["done_reason"] == "stop"
    assert more["done"] and more["prompt_eval_count"] > whole["eval_count"] and "tools" in shown["capabilities"] and shown["template"] == HERMES


def test_a_call_that_was_cut_is_none():
    head = CallHead(0, "a", "weather")
    answer = OllamaAnswer("tiny", None, in_chat=True)
    lines = [line for piece in (chunk("", "tool_call", head), chunk('{"ci', "tool_call", head)) for line in answer.pieces(piece)]
    lines += answer.last(Reply("", Usage(5, 0, 9, 1.0, 1.0), "length"), ["odd"])
    assert len(lines) == 1 and lines[0]["done_reason"] == "length" and lines[0]["warnings"] == ["odd"]


THINKS = "{% for m in messages %}{{ m.role }}: {% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}\n{% endfor %}"
SWITCHED = THINKS + "assistant: {% if not enable_thinking %}<think></think>{% endif %}"
EFFORT = THINKS + "{{ reasoning_effort }}assistant: "
GRANITE = THINKS + "{% if thinking %}think!{% endif %}assistant: "


@pytest.mark.parametrize(
    ("template", "wanted"),
    [
        (SWITCHED, {True: {"enable_thinking": True}, False: {"enable_thinking": False}, "low": {"enable_thinking": True}}),
        (GRANITE, {True: {"enable_thinking": True}, False: {"enable_thinking": False}, "high": {"enable_thinking": True}}),
        (EFFORT, {"low": {"reasoning_effort": "low"}, "max": {"reasoning_effort": "high"}, True: {}, False: {"thinking_budget": 0}}),
        (THINKS, {True: {}, "high": {}, False: {"thinking_budget": 0}}),
        ("{% for m in messages %}{{ m.content }}{% endfor %}", {False: {}, True: "refused"}),
    ],
    ids=["enable_thinking", "thinking", "reasoning_effort", "always", "never"],
)
def test_think_is_what_the_template_reads(template, wanted):
    from types import SimpleNamespace

    from alora_gguf.prompt.chat_template import ChatTemplate
    from alora_gguf.serve.ollama.generate import _thought
    from alora_gguf.serve.problem import Problem

    service = SimpleNamespace(model=SimpleNamespace(template=ChatTemplate(template, {})))
    thought = lambda think: _thought(service, bodies.OllamaChat(model="tiny", think=think))
    assert thought(None) == {}
    for think, variables in wanted.items():
        if variables == "refused":
            with pytest.raises(Problem, match="^think: expected false of a model that does not think"):
                thought(think)
        else:
            assert thought(think) == variables


# embeddings


def test_embeddings(base_q4, tmp_path):
    with running(tmp_path / "log", "--model", llama(base_q4, tmp_path / "pooling.gguf", 1), "--ctx", 2048) as server:
        client = ollama.Client(server.url)
        both = client.embed("pooling:latest", ["Whales sing.", "Ships sink."])
        wanted = server.call("POST", "/v1/embeddings", {"input": ["Whales sing.", "Ships sink."]})[2]
        assert [list(row) for row in both.embeddings] == [row["embedding"] for row in wanted["data"]]
        assert both.prompt_eval_count == wanted["usage"]["prompt_tokens"] and both.total_duration > 0
        assert client.embed("pooling", "Whales sing.").embeddings == both.embeddings[:1] == [client.embeddings("pooling", "Whales sing.").embedding]
        assert client.show("pooling").capabilities == ["embedding"] and client.embed("pooling", []).embeddings == []
        for wrong in (lambda: client.embed("nobody", "x"), lambda: client.embed("pooling", "x", dimensions=8)):
            with pytest.raises(ollama.ResponseError, match=r"^(model|dimensions)\b.*expected"):
                wrong()


def test_the_snippet_of_the_docs(demo, repo, capsys):
    page = (repo / "docs" / "serve.md").read_text(encoding="utf-8")
    lines = page[page.index("    import ollama") :].split("\n")
    block = [line[4:] for line in lines[: next(i for i, line in enumerate(lines) if line and line[0] != " ")]]
    code = "\n".join(block).replace("http://127.0.0.1:8080", demo.url).replace("SmolLM2-135M-Instruct.Q4_1", "smol")
    exec(compile(code, "docs/serve.md", "exec"), {})
    tags, *said, verdict = capsys.readouterr().out.strip().splitlines()
    assert {"smol:latest", "smol:answerability"} <= set(eval(tags)) and said
    assert json.loads(verdict)["answerability"] in ("answerable", "unanswerable")


def test_langchain(demo):
    from typing import Literal

    from langchain_ollama import ChatOllama, OllamaLLM
    from pydantic import BaseModel

    class City(BaseModel):
        city: Literal["Oslo", "Rome"]

    usual = {"model": "smol", "base_url": demo.url, "temperature": 0, "num_predict": 12, "num_ctx": 2048}
    model = ChatOllama(**usual, validate_model_on_init=True)
    asks = lambda **body: demo.call("POST", "/v1/chat/completions", {"temperature": 0, "max_tokens": 12, **body})[2]["choices"][0]["message"][
        "content"
    ]
    said = [("system", "Be brief."), ("human", "Name a city.")]
    wanted = asks(messages=[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a city."}])
    assert model.invoke(said).content == "".join(part.content for part in model.stream(said)) == asyncio.run(model.ainvoke(said)).content == wanted
    assert model.invoke(said).usage_metadata["output_tokens"] == 12
    assert isinstance(model.with_structured_output(City).invoke(said), City)
    judge = ChatOllama(**{**usual, "model": "smol:answerability", "num_predict": 200})
    assert json.loads(judge.invoke("My dog is brown. What colour is my dog?").content)["answerability"] in ("answerable", "unanswerable")
    assert OllamaLLM(**usual).invoke("Name a city.") == asks(messages=[{"role": "user", "content": "Name a city."}])
