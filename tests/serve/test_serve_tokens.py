"""Texts and tokens: /tokenize, /detokenize and /apply-template, in the forms of vLLM and of llama-server."""

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
