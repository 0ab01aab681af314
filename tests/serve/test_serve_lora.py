"""An ordinary LoRA with an io.yaml on the server: listed as an intrinsic, asked as its io.yaml says, and what it costs."""

import pytest

IO_YAML = """
model: ~
response_format: '{"type": "string", "enum": ["yes", "no"]}'
transformations: [{type: nest, input_path: [], field_name: so}]
instruction: "Judge this: {last_message}"
parameters: {max_completion_tokens: 8}
"""
SAID = [{"role": "user", "content": "Is it so?"}]


@pytest.fixture(scope="module")
def server(tiny_base, tmp_path_factory):
    from live import running
    from tiny import random_adapter

    folder = tmp_path_factory.mktemp("lora")
    options = dict(description="Says whether it is so.", io_yaml=IO_YAML)
    random_adapter(tiny_base, folder / "judge.gguf", [], 1, **options)
    random_adapter(tiny_base, folder / "plain.gguf", [], 2)
    args = [arg for name in ("judge", "plain") for arg in ("--adapter", folder / f"{name}.gguf")]
    with running(folder / "log", "--model", tiny_base, "--name", "tiny", "--ctx", 1024, *args) as server:
        yield server


def chat(server, messages, model="judge", **body):
    status, _, answer = server.call("POST", "/v1/chat/completions", {"model": model, "messages": messages, **body})
    assert status == 200, answer
    return answer["choices"][0], answer["usage"]


def test_it_is_listed(server):
    listed = {m["id"]: (m.get("intrinsic"), m.get("description")) for m in server.call("GET", "/v1/models")[2]["data"]}
    assert listed == {"tiny": (None, None), "judge": (True, "Says whether it is so."), "plain": (False, None)}


def test_a_conversation_and_the_request_that_was_made_of_it_are_answered_alike(server):
    base, before = chat(server, SAID, "tiny", temperature=0, max_tokens=2)
    choice, usage = chat(server, SAID)
    assert choice["message"]["content"] in ('"yes"', '"no"')  # the schema is the io.yaml's
    assert usage["prompt_tokens"] > before["prompt_tokens"] and usage["prompt_tokens_details"]["cached_tokens"] == 0
    made = [*SAID, {"role": "user", "content": f"Judge this: {SAID[0]['content']}"}]
    again, cost = chat(server, made)
    assert again["message"] == choice["message"] and cost["prompt_tokens"] == usage["prompt_tokens"] == cost["prompt_tokens_details"]["cached_tokens"]
    assert chat(server, SAID, "plain", temperature=0, max_tokens=2)[1]["prompt_tokens"] == before["prompt_tokens"]  # nothing is put behind


def test_its_result(server):
    choice, _ = chat(server, SAID, result=True)
    assert choice["result"] in ({"so": "yes"}, {"so": "no"})
