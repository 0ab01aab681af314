"""Texts and tokens: /tokenize, /detokenize and /apply-template, in the forms of vLLM and of llama-server."""

import json

import pytest

from alora_gguf.runtime.vocab import load_vocab

HELLO = [{"role": "system", "content": "You are short."}, {"role": "user", "content": "Say something odd about whales 🐋."}]
CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"


@pytest.fixture(scope="module")
def vocab(tiny_base):
    with load_vocab(tiny_base) as vocab:
        yield vocab


def post(server, path, **body):
    status, _, answer = server.call("POST", path, body)
    assert status == 200, answer
    return answer


@pytest.mark.parametrize("text", ["Whales sing.", "<|im_start|>user 🐋", ""])
def test_a_text_as_llama_server_and_vllm_have_it(server, vocab, text):
    tokens = vocab.tokenize(text)
    model = server.call("GET", "/v1/models/tiny")[2]
    assert post(server, "/tokenize", content=text) == {"tokens": tokens, "count": len(tokens), "max_model_len": model["max_model_len"]}
    assert post(server, "/tokenize", prompt=text, model="tiny", return_token_strs=True)["token_strs"] == [vocab.token_text(t) for t in tokens]
    assert post(server, "/tokenize", content=text, parse_special=False)["tokens"] == vocab.tokenize(text, special=False)
    pieces = post(server, "/tokenize", content=text, with_pieces=True)["tokens"]
    assert [piece["id"] for piece in pieces] == tokens
    as_bytes = lambda piece: piece.encode() if isinstance(piece, str) else bytes(piece)
    assert b"".join(as_bytes(piece["piece"]) for piece in pieces).decode() == text
    assert post(server, "/detokenize", tokens=tokens) == {"prompt": text, "content": text}


def test_a_chat_has_the_tokens_that_it_is_answered_with(server):
    for model in ("tiny", "plain", "second"):
        told = post(server, "/tokenize", messages=HELLO, model=model)
        asked = post(server, CHAT, messages=HELLO, model=model, max_tokens=1)
        assert told["count"] == len(told["tokens"]) == asked["usage"]["prompt_tokens"]
        written = post(server, "/apply-template", messages=HELLO, model=model, temperature=0)["prompt"]
        assert written == post(server, "/detokenize", tokens=told["tokens"])["prompt"]
        assert HELLO[1]["content"] in written
        assert post(server, "/tokenize", prompt=written)["tokens"] == told["tokens"]


def test_the_written_prompt_is_answered_like_the_chat(server):
    greedy = {"temperature": 0, "max_tokens": 6, "model": "plain"}
    written = post(server, "/apply-template", messages=HELLO, model="plain")["prompt"]
    said = post(server, CHAT, messages=HELLO, **greedy)["choices"][0]["message"]["content"]
    assert post(server, COMPLETION, prompt=written, **greedy)["choices"][0]["text"] == said
    tokens = post(server, "/tokenize", messages=HELLO)["tokens"]
    assert post(server, COMPLETION, prompt=tokens, **greedy)["choices"][0]["text"] == said


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/tokenize", {}, 400),
        ("/tokenize", {"prompt": "a", "content": "a"}, 400),
        ("/tokenize", {"messages": HELLO, "add_special_tokens": True}, 400),
        ("/tokenize", {"messages": HELLO, "add_special_tokens": False}, 200),
        ("/tokenize", {"content": "a", "whatever": 1}, 400),
        ("/tokenize", {"content": "a", "model": "nobody"}, 404),
        ("/detokenize", {"tokens": [-1]}, 400),
        ("/detokenize", {"tokens": [10**9]}, 400),
        ("/detokenize", {"tokens": []}, 200),
        ("/apply-template", {"messages": []}, 400),
    ],
)
def test_what_is_no_text_is_refused(server, path, body, status):
    assert server.call("POST", path, body)[0] == status


def test_bos_is_there_where_it_is_asked_for(tmp_path):
    from live import running
    from tiny import bytes_vocabulary, llama

    base = llama(bytes_vocabulary(tmp_path / "vocabulary.gguf"), tmp_path / "base.gguf")
    with running(tmp_path / "log", "--model", base, "--ctx", 64) as server:
        tokens = lambda **body: post(server, "/tokenize", **body)["tokens"]
        bare = tokens(content="w1 w2")
        assert 1 not in bare
        assert tokens(prompt="w1 w2") == tokens(content="w1 w2", add_special=True) == tokens(prompt="<s>w1 w2") == [1, *bare]
        assert tokens(prompt="w1 w2", add_special_tokens=False) == bare
        assert tokens(prompt="w1 w2", parse_special=False) == [1, *bare]
        asked = lambda **body: post(server, COMPLETION, prompt="w1 w2", max_tokens=1, return_token_ids=True, **body)["choices"][0]["prompt_token_ids"]
        assert asked() == asked(add_special_tokens=True) == [1, *bare] and asked(add_special_tokens=False) == bare


# prompts as tokens in chats

MODELS = ["tiny", "plain", "first", "second"]


def chat(server, model, **body):
    return post(server, CHAT, model=model, messages=HELLO, **{"temperature": 0, "max_tokens": 6, **body})


@pytest.mark.parametrize("field", ["prompt_token_ids", "input_ids"])
@pytest.mark.parametrize("model", MODELS)
def test_a_chat_of_tokens_is_the_chat_of_these_messages(server, model, field):
    """The same answer, from the same cells, with the adapter active from the same token on."""
    tokens = post(server, "/tokenize", messages=HELLO, model=model)["tokens"]
    said = chat(server, model, logprobs=True)
    told = chat(server, model, logprobs=True, **{field: tokens})
    usual = lambda answer: [(t["token"], round(t["logprob"], 3)) for t in answer["choices"][0]["logprobs"]["content"]]
    assert told["choices"][0]["message"] == said["choices"][0]["message"] and usual(told) == usual(said)
    assert told["usage"]["prompt_tokens"] == len(tokens)
    assert told["usage"]["prompt_tokens_details"]["cached_tokens"] >= len(tokens) - 1 and "warnings" not in told
    other = [{"role": "user", "content": "Something else."}]
    assert (
        post(server, CHAT, model=model, messages=other, temperature=0, max_tokens=6, **{field: tokens})["choices"][0]["message"]
        == told["choices"][0]["message"]
    )


def test_turns_of_tokens(server):
    """What was said goes on with the tokens that it was said with, and none of them is computed again."""
    first = chat(server, "tiny", return_token_ids=True, max_tokens=12)
    choice = first["choices"][0]
    assert first["prompt_token_ids"] == post(server, "/tokenize", messages=HELLO)["tokens"]
    assert len(choice["token_ids"]) == first["usage"]["completion_tokens"] == 12
    assert post(server, "/detokenize", tokens=choice["token_ids"])["prompt"] == choice["message"]["content"]
    told = [*first["prompt_token_ids"], *choice["token_ids"]]
    again = chat(server, "tiny", prompt_token_ids=told, return_token_ids=True)
    assert again["prompt_token_ids"] == told
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] >= len(told) - 1


def test_the_token_that_ends_an_answer_is_among_its_own(server, vocab):
    end = chat(server, "tiny", logit_bias={vocab.eos: 100}, return_token_ids=True)
    assert end["choices"][0]["token_ids"] == [vocab.eos] and end["choices"][0]["finish_reason"] == "stop"
    assert end["usage"]["completion_tokens"] == 0
    stopped = chat(server, "tiny", stop=chat(server, "tiny")["choices"][0]["message"]["content"][2:4], return_token_ids=True)
    assert vocab.eos not in stopped["choices"][0]["token_ids"]


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_ids_in_a_stream_are_those_of_the_whole(server, path):
    body = {"temperature": 0, "max_tokens": 6, "n": 2, "return_token_ids": True, **({"messages": HELLO} if path == CHAT else {"prompt": "Whales"})}
    whole = post(server, path, **body)
    lines = post_text(server, path, {**body, "stream": True})
    parts = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    for i, choice in enumerate(whole["choices"]):
        own = [part["choices"][0] for part in parts if part["choices"][0]["index"] == i]
        assert [token for part in own for token in part.get("token_ids", ())] == choice["token_ids"]
        prompts = [part.get("prompt_token_ids") for part in (parts if path == CHAT else own)]
        assert next(p for p in prompts if p) == (whole if path == CHAT else choice)["prompt_token_ids"]
    plain = post(server, path, **{**body, "return_token_ids": False})
    assert "prompt_token_ids" not in plain and not {"token_ids", "prompt_token_ids"} & plain["choices"][0].keys()


def post_text(server, path, body):
    status, _, text = server.call("POST", path, body)
    assert status == 200
    return text.splitlines()


@pytest.mark.parametrize(
    ("body", "line"),
    [
        ({"prompt_token_ids": []}, "prompt_token_ids: expected one or more"),
        ({"prompt_token_ids": [1, -1]}, r"prompt_token_ids[1]: expected 0 to "),
        ({"input_ids": [1, 10**9]}, r"input_ids[1]: expected 0 to "),
        ({"input_ids": [1], "prompt_token_ids": [2]}, "input_ids: expected the same"),
        ({"input_ids": [1], "result": True, "model": "first"}, "result: expected none beside input_ids"),
        ({"prompt_token_ids": [1] * 5000}, "context: expected at most"),
        ({"prompt_token_ids": "1"}, "prompt_token_ids"),
    ],
    ids=str,
)
def test_tokens_that_are_no_prompt_are_refused(server, body, line):
    status, _, answer = server.call("POST", CHAT, {"messages": HELLO, **body})
    assert status == 400 and answer["error"]["message"].startswith(line) and "\n" not in answer["error"]["message"]


def test_tokens_without_the_invocation_say_so(server):
    tokens = post(server, "/tokenize", messages=HELLO, model="tiny")["tokens"]
    told = chat(server, "first", prompt_token_ids=tokens)
    assert told["choices"][0]["message"] == chat(server, "tiny")["choices"][0]["message"] and "expected its invocation" in told["warnings"][0]
