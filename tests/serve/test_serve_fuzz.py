"""Bodies of any kind: each has an answer or an error in the shape of its door, and the server goes on.

`--hypothesis-profile fuzz` tries more of them.
"""

import json

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alora_gguf.serve import body as bodies
from alora_gguf.serve.decisions.body import Decide, SystemOne
from alora_gguf.serve.messages.body import Counted, Messages
from alora_gguf.serve.ollama import bodies as ollama
from alora_gguf.serve.responses.body import Responses

WORDS = "first plain tiny user system text json_object message function_call tool_use tool_result".split()
TEXT = st.text(max_size=12) | st.sampled_from([*WORDS, "\0", "\u202e", "{{ 1 / 0 }}", "<|im_start|>"])
NUMBERS = st.integers(-3, 3) | st.sampled_from([2**31, 2**63, -(2**63), 10**30]) | st.floats(width=32)
NAMES = st.sampled_from([*"self messages role content type text schema json grammar choice documents name input output format".split(), ""])
JUNK = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT, lambda some: st.lists(some, max_size=3) | st.dictionaries(NAMES, some, max_size=3), max_leaves=8
)
VALID = {
    "/v1/chat/completions": (bodies.Chat, {"messages": [{"role": "user", "content": "Hi"}]}),
    "/v1/completions": (bodies.Completion, {"prompt": "Hi"}),
    "/v1/responses": (Responses, {"input": [{"role": "user", "content": "Hi"}]}),
    "/v1/messages": (Messages, {"messages": [{"role": "user", "content": "Hi"}]}),
    "/v1/messages/count_tokens": (Counted, {"messages": [{"role": "user", "content": "Hi"}]}),
    "/v1/embeddings": (bodies.Embeddings, {"input": "Hi"}),
    "/v1/decisions": (Decide, {"input": "Hi", "questions": [{"type": "predicate", "instructions": "Is it?"}]}),
    "/v1/systemone": (SystemOne, {"state": "Hi", "questions": {"q": {"type": "choice", "criteria": {"a": None, "b": None}}}}),
    "/tokenize": (bodies.Tokenize, {"content": "Hi"}),
    "/detokenize": (bodies.Detokenize, {"tokens": [1, 2]}),
    "/apply-template": (bodies.Chat, {"messages": [{"role": "user", "content": "Hi"}]}),
    "/api/chat": (ollama.OllamaChat, {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "options": {"num_predict": 2}}),
    "/api/generate": (ollama.OllamaGenerate, {"model": "tiny", "prompt": "Hi", "options": {"num_predict": 2}}),
    "/api/embed": (ollama.OllamaEmbed, {"model": "tiny", "input": "Hi"}),
    "/api/embeddings": (ollama.OllamaEmbeddings, {"model": "tiny", "prompt": "Hi"}),
    "/api/show": (ollama.OllamaName, {"model": "tiny"}),
    "/api/pull": (ollama.OllamaName, {"model": "tiny"}),
    "/v1/load_lora_adapter": (bodies.LoadAdapter, {"lora_name": "fuzzed", "lora_path": "nothing"}),
    "/v1/unload_lora_adapter": (bodies.UnloadAdapter, {"lora_name": "fuzzed"}),
}
FUZZ = settings(max_examples=settings.default.max_examples // 3, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def client(server):
    with httpx.Client(base_url=server.url, timeout=120) as client:
        yield client
        assert client.get("/health").json() == {"status": "ok"}
        assert server.process.poll() is None


def check(response):
    if response.status_code == 200:
        return
    assert 400 <= response.status_code < 500, (response.status_code, response.text)
    error = response.json()["error"]
    if response.request.url.path.startswith("/api/"):
        assert isinstance(error, str) and error
        return
    fields = {"message", "type"} if response.url.path.startswith("/v1/messages") else {"message", "type", "param", "code"}
    assert error.keys() == fields and error["message"]


@pytest.mark.parametrize("path", VALID)
@FUZZ
@given(data=st.data())
def test_fields_of_any_kind(client, server, path, data):
    model, valid = VALID[path]
    names = sorted({*model.model_fields, *model.harmless, *model.only, "extra_body"})
    fields = data.draw(st.dictionaries(st.sampled_from(names), JUNK, max_size=4))
    chosen = {"model": data.draw(st.sampled_from(["tiny", "first", "plain"]))} if "model" in model.model_fields else {}
    body = {**valid, **chosen, **fields}
    limits = {"max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict", "top_logprobs"} & {*model.model_fields}
    for name in limits:  # no more work than a test has time for
        if isinstance(body.get(name), (int, float)) and not 0 <= body[name] <= 3:
            body[name] = 3
    for name in {"max_tokens", "max_output_tokens"} & limits:
        if body.get(name) is None:
            body[name] = 2
    if "options" in valid and not isinstance(body["options"], (bool, int, float, str, list)):
        model = ollama.OllamaOptions
        names = sorted({*model.model_fields, *model.harmless, *model.only})
        body["options"] = {**data.draw(st.dictionaries(st.sampled_from(names), JUNK, max_size=4)), "num_predict": 2}
    if "unload" in path and str(body["lora_name"]) in server.files:
        return  # other tests have need of it
    check(client.post(path, content=json.dumps(body), headers={"Content-Type": "application/json"}))


@pytest.mark.parametrize("path", VALID)
@FUZZ
@given(at=st.floats(0, 1, exclude_max=True), new=st.binary(max_size=4), n=st.integers(0, 8))
def test_bytes_of_any_kind(client, path, at, new, n):
    more = {name: value for name, value in (("model", "tiny"), ("max_tokens", 2), ("max_output_tokens", 2)) if name in VALID[path][0].model_fields}
    whole = json.dumps({**VALID[path][1], **more}).encode()
    place = int(at * len(whole))
    content = whole[:place] + new + whole[place + n :]
    try:
        asked = json.loads(content)
        if "options" in VALID[path][1]:
            asked = {"max_tokens": asked["options"].get("num_predict") if asked["options"].get("num_predict") not in (-1, -2) else None}
        if not any(asked.get(name) in range(-3, 30) for name in ("max_tokens", "max_output_tokens")):
            return
    except (ValueError, AttributeError, KeyError, TypeError):
        pass
    check(client.post(path, content=content))
