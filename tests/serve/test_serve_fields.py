"""Nothing that changes an answer is ignored: each field of other servers is honoured, accepted because it changes nothing, or a 400 that names it."""

import json

import pytest

from alora_gguf.serve import body as bodies
from alora_gguf.serve import fields
from alora_gguf.serve.decisions.body import Decide, SystemOne
from alora_gguf.serve.door import Door
from alora_gguf.serve.messages.body import Messages
from alora_gguf.serve.responses.body import Responses

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
HELLO = {"messages": [{"role": "user", "content": "Say something odd about whales."}]}
YES_NO = {"enum": ["yes", "no"]}
GBNF = r'root ::= "yes" | "no"'


def ask(server, path=CHAT, **body):
    first = HELLO if path == CHAT else {"prompt": "Whales"}
    return server.call("POST", path, {"temperature": 0, "max_tokens": 8, **first, **body})


def text(server, path=CHAT, **body):
    status, _, answer = ask(server, path, **body)
    assert status == 200, answer
    choice = answer["choices"][0]
    return choice["message"]["content"] if path == CHAT else choice["text"]


def refused(server, path=CHAT, **body):
    status, _, answer = ask(server, path, **body)
    assert status == 400, answer
    return answer["error"]


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
@pytest.mark.parametrize(
    ("how", "may_be"),
    [
        ({"guided_json": YES_NO}, ('"yes"', '"no"')),
        ({"guided_json": json.dumps(YES_NO)}, ('"yes"', '"no"')),
        ({"guided_choice": ["yes", "no"]}, ("yes", "no")),
        ({"guided_regex": "yes|no"}, ("yes", "no")),
        ({"guided_grammar": GBNF}, ("yes", "no")),
        ({"grammar": GBNF}, ("yes", "no")),
        ({"json_schema": YES_NO}, ('"yes"', '"no"')),
        ({"structured_outputs": {"regex": "yes|no"}}, ("yes", "no")),
        ({"response_format": {"type": "json_object", "schema": YES_NO}}, ('"yes"', '"no"')),
        ({"response_format": {"type": "json_schema", "schema": YES_NO}}, ('"yes"', '"no"')),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": True, "schema": YES_NO}}}, ('"yes"', '"no"')),
    ],
    ids=lambda value: json.dumps(value)[:50],
)
def test_each_name_of_a_constraint_holds(server, path, how, may_be):
    assert text(server, path, **how) in may_be


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_two_forms_of_an_answer_are_one_too_many(server, path):
    assert text(server, path, guided_regex="yes|no", structured_outputs={"regex": "yes|no"}) in ("yes", "no")
    assert "expected one form" in refused(server, path, guided_regex="yes|no", structured_outputs={"regex": "a"})["message"]
    assert "got grammar and regex" in refused(server, path, guided_regex="yes|no", grammar=GBNF)["message"]


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_names_of_sampling_arguments(server, path):
    plain = text(server, path, temperature=1.5, seed=7)
    for name, value in (("top_k", 1), ("top_p", 0.0), ("min_p", 1.0)):
        assert text(server, path, temperature=1.5, seed=7, **{name: value}) == text(server, path) != plain
    again = lambda **body: text(server, path, logit_bias={"123": 100}, **body)  # the same word again and again
    assert again(repeat_penalty=1000.0) == again(repetition_penalty=1000.0) != again()
    assert again(repeat_penalty=1000.0, repeat_last_n=0) == again()
    assert again(repeat_penalty=1000.0, repeat_last_n=-1) == again(repeat_penalty=1000.0, repeat_last_n=2**31)
    assert len({text(server, path, temperature=2.0, seed=-1) for _ in range(4)}) > 1
    assert "repeat_penalty" in refused(server, path, repeat_penalty=3.0, repetition_penalty=2.0)["message"]


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_a_bias(server, path):
    biased = lambda value: ask(server, path, logit_bias=value)[2]["choices"][0]
    word = server.call("POST", COMPLETION, {"prompt": [100], "max_tokens": 1, "temperature": 0, "logit_bias": {"123": 100}})[2]["choices"][0]["text"]
    for value in ({"123": 100}, [[123, 100.0]]):
        choice = biased(value)
        assert (choice["message"]["content"] if path == CHAT else choice["text"]).strip() == (word * 8).strip()
    assert text(server, path, logit_bias=[[123, 100.0], [123, False]]) == text(server, path)
    assert refused(server, path, logit_bias={"123": 101})["message"].startswith("logit_bias: expected")
    assert refused(server, path, logit_bias={str(10**9): 1})["message"].startswith("logit_bias: expected tokens from 0 to")


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_how_long(server, path):
    n = lambda **body: ask(server, path, **{"max_tokens": None, **body})[2]["usage"]["completion_tokens"]
    assert n(n_predict=3) == 3 and n(max_tokens=5, n_predict=3) == 5
    assert refused(server, path, max_tokens=-2)["message"].startswith("max_tokens: expected")
    assert n(max_tokens=-1, guided_regex="(ab){30}") == n(n_predict=-1, guided_regex="(ab){30}") > 16


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_tokens_that_end_an_answer(server, path):
    """They are no part of its text; before min_tokens nothing but a stop string ends it, and with ignore_eos not the model."""
    asked = lambda **body: ask(server, path, return_token_ids=True, **body)[2]["choices"][0]
    tokens = asked()["token_ids"]
    ended = asked(stop_token_ids=[tokens[3], 10])
    assert ended["token_ids"] == tokens[:4] and ended["finish_reason"] == "stop"
    assert ask(server, path, stop_token_ids=[tokens[3]])[2]["usage"]["completion_tokens"] == 3
    assert text(server, path, stop_token_ids=[tokens[3]]) == text(server, path, max_tokens=3)
    late = asked(stop_token_ids=[tokens[3]], min_tokens=6)
    assert len(late["token_ids"]) == 8 and tokens[3] not in late["token_ids"][:6] and late["token_ids"][:3] == tokens[:3]
    eos = server.call("POST", "/tokenize", {"content": "<|im_end|>"})[2]["tokens"]
    biased = {"logit_bias": {eos[0]: 100}}
    assert asked(**biased)["token_ids"] == eos and asked(**biased)["finish_reason"] == "stop"
    assert asked(**biased, ignore_eos=True)["token_ids"] == tokens
    assert asked(**biased, min_tokens=5)["token_ids"] == [*tokens[:5], *eos]
    assert asked(min_tokens=0, ignore_eos=False, stop_token_ids=[])["token_ids"] == tokens
    assert refused(server, path, min_tokens=9)["message"].startswith("min_tokens: expected at most max_tokens, 8, got 9")
    assert refused(server, path, stop_token_ids=[5, 10**9])["message"].startswith("stop_token_ids: expected tokens from 0 to")


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_a_form_is_kept_whatever_ends_it(server, path):
    assert text(server, path, guided_regex="(ab){2}", ignore_eos=True, min_tokens=8) == "abab"


def test_an_echo_is_the_prompt(server):
    prompts = ["Whales", "Ships \U0001f433"]
    both = lambda **body: [c["text"] for c in ask(server, COMPLETION, prompt=prompts, n=2, **body)[2]["choices"]]
    plain = both()
    assert both(echo=True) == [prompts[i // 2] + said for i, said in enumerate(plain)]
    tokens = server.call("POST", "/tokenize", {"content": "Whales"})[2]["tokens"]
    assert text(server, COMPLETION, prompt=tokens, echo=True) == "Whales" + plain[0] == text(server, COMPLETION, prompt="Whales", echo=True)
    status, _, events = ask(server, COMPLETION, prompt="Whales", echo=True, stream=True)
    parts = [json.loads(line.removeprefix("data: "))["choices"][0]["text"] for line in events.splitlines() if line.startswith("data: {")]
    assert parts[0] == "Whales" and "".join(parts) == "Whales" + plain[0]


@pytest.mark.parametrize("stop", ["", [], [""]])
def test_an_empty_stop_string_is_none(server, stop):
    assert text(server, stop=stop) == text(server)


def test_ways_to_choose_an_adapter(server):
    names = [model["id"] for model in server.call("GET", "/v1/models")[2]["data"] if model["parent"]]
    plain = text(server, model="plain")
    assert plain != text(server)
    place = names.index("plain")
    for choice in (
        {"model": "tiny:plain"},
        {"lora": [{"id": place}]},
        {"lora": [{"id": "plain", "scale": 1.0}]},
        {"model": "plain", "lora": [{"id": place}]},
    ):
        assert text(server, **choice) == plain
        assert ask(server, **choice)[2]["model"] == "plain"
    others = [{"id": i, "scale": 0} for i in range(len(names)) if i != place]
    assert text(server, lora=[*others, {"id": place, "scale": 1}]) == plain
    assert text(server, lora=[]) == text(server, lora=others) == text(server)
    assert text(server, lora=[{"id": place, "scale": 3}]) not in (plain, text(server))
    assert text(server, COMPLETION, lora=[{"id": place, "scale": 0.001}], max_tokens=1) == text(server, COMPLETION, max_tokens=1)
    for wrong in ([{"id": 0}, {"id": 1}], [{"id": place, "scale": 1e9}], [{"scale": 1}]):
        assert refused(server, lora=wrong)["param"].startswith("lora")
    assert refused(server, model="plain", lora=[])["message"].startswith("lora: expected one choice")
    assert refused(server, model="plain", adapter="first")["message"].startswith("lora: expected one choice")
    for nobody in ({"lora": [{"id": 99}]}, {"lora": [{"id": "nobody"}]}, {"model": "tiny:nobody"}, {"model": "nobody:plain"}):
        assert ask(server, **nobody)[0] == 404


def test_a_salt_shares_with_its_own(server):
    cached = lambda **body: ask(server, messages=[{"role": "user", "content": "Nobody has asked this."}], **body)[2]["usage"][
        "prompt_tokens_details"
    ]["cached_tokens"]
    cached()
    assert cached() > 0 == cached(cache_salt="a")
    assert cached(cache_salt="a") > 0 == cached(cache_salt="b")


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
@pytest.mark.parametrize(
    "field",
    [
        {"best_of": 2},
        {"bad_words": ["x"]},
        {"lora_name": "plain"},
        {"mirostat": 2},
        {"guided_whitespace_pattern": " "},
        {"whatever": False},
        {"temprature": 0.1},
        {"structured_outputs": {"json": {}, "whitespace_pattern": " "}},
        {"stream_options": {"whatever": 1}},
        {"extra_body": {"whatever": 1}},
    ],
    ids=str,
)
def test_what_cannot_be_done_is_refused_by_its_name(server, path, field):
    error = refused(server, path, **field)
    name = next(iter(field))
    name = f"{name}.{[*field[name]][-1]}" if name in ("structured_outputs", "stream_options") else "whatever" if name == "extra_body" else name
    assert error["param"] == name and error["message"].startswith(f"{name}: expected ") and "\n" not in error["message"]


@pytest.mark.parametrize(
    ("path", "field"),
    [
        (CHAT, {"tools": [{"type": "function", "function": {"name": "f"}}]}),
        (CHAT, {"tool_choice": "required"}),
        (CHAT, {"chat_template": "x"}),
        (CHAT, {"echo": True}),
        (CHAT, {"add_special_tokens": True}),
        (COMPLETION, {"echo": True, "logprobs": 1}),
        (CHAT, {"continue_final_message": True}),
        (CHAT, {"top_logprobs": 2}),
        (CHAT, {"arguments": {"a": 1}}),
        (CHAT, {"chat_template_kwargs": {"adapter_name": ["first"]}}),
        (CHAT, {"chat_template_kwargs": {"adapter_name": "first"}, "adapter": "plain"}),
        (CHAT, {"enable_thinking": True}),
        (CHAT, {"reasoning_effort": "high"}),
        (COMPLETION, {"suffix": "x"}),
        (COMPLETION, {"messages": []}),
    ],
    ids=str,
)
def test_what_cannot_be_done_in_one_of_them(server, path, field):
    assert refused(server, path, **field)["param"] == next(iter(field))


@pytest.mark.parametrize(("path", "model"), [(CHAT, bodies.Chat), (COMPLETION, bodies.Completion)])
def test_what_changes_nothing_is_accepted(server, path, model):
    known = {name: ["anything", 1] for name in model.harmless - {"extra_body"}}
    at_rest = {name: values[0] for name, values in model.only.items() if values}
    assert text(server, path, **known, **at_rest, whatever=None) == text(server, path)


def test_thinking_is_the_template_s(server):
    assert text(server, enable_thinking=False) == text(server, reasoning_effort="none") == text(server)
    assert refused(server, enable_thinking=False, chat_template_kwargs={"enable_thinking": True})["param"] == "enable_thinking"


def test_documents_among_the_template_s_arguments_count(server):
    documents = [{"text": "Whales sing."}]
    n = lambda **body: ask(server, **body)[2]["usage"]["prompt_tokens"]
    assert n(chat_template_kwargs={"documents": documents}) == n(documents=documents) > n()
    assert ask(server, chat_template_kwargs={"documents": 5})[0] == 400
    assert ask(server, chat_template_kwargs={"add_generation_prompt": False})[0] == 400


def test_the_tables_are_of_what_is_read():
    read = {*bodies.Chat.model_fields, *bodies.Completion.model_fields}
    assert read == set(fields.ABOUT)
    assert not fields.HARMLESS & read
    for model, about in ((Responses, fields.RESPONSES_ABOUT), (Messages, fields.MESSAGES_ABOUT)):
        assert {*model.model_fields} - {*Door.model_fields} - {"stop"} <= {*about} <= {*model.model_fields}
        assert {*Door.model_fields, "stop"} <= {*fields.ABOUT}
        assert not model.harmless & {*model.model_fields}
    for model, about in ((SystemOne, fields.SYSTEMONE_ABOUT), (Decide, fields.DECISIONS_ABOUT)):
        assert {*about} <= {*model.model_fields} <= {*about} | {*fields.ABOUT}
        assert not model.harmless & {*model.model_fields}
    for model in (bodies.Chat, bodies.Completion, Responses, Messages, SystemOne, Decide):
        assert not {*model.only} & ({*model.model_fields} | model.harmless)


@pytest.mark.parametrize("path", [CHAT, COMPLETION])
def test_bytes_are_the_tokens_own(server, base_q4, path):
    """Also those of characters that are not whole; and of a hundred likely tokens none is lost."""
    from alora_gguf.runtime.vocab import load_vocab

    with load_vocab(base_q4) as vocab:
        half = [token for token in vocab.tokenize("🐋🐳") if b"\x9f" in vocab.token_bytes(token)]
        bias = {str(token): 100 for token in half}
        _, _, answer = ask(
            server, path, logit_bias=bias, temperature=5, seed=1, **({"logprobs": True, "top_logprobs": 100} if path == CHAT else {"logprobs": 100})
        )
        bare = ask(server, path, logit_bias=bias, temperature=5, seed=1)
        logprobs = answer["choices"][0]["logprobs"]
        if path == CHAT:
            for t in logprobs["content"]:
                assert bytes(t["bytes"]) in {vocab.token_bytes(token) for token in half}
                assert len(t["top_logprobs"]) == 100
                for top in t["top_logprobs"]:
                    assert bytes(top["bytes"]).decode(errors="replace") == top["token"]
            said = b"".join(bytes(t["bytes"]) for t in logprobs["content"])
            assert said.decode(errors="replace") == answer["choices"][0]["message"]["content"]
        else:
            assert all(len(top) == 100 for top in logprobs["top_logprobs"])
            assert not any("\ufffd" in name for top in logprobs["top_logprobs"] for name in top)
        assert bare[2]["choices"][0].get("message", {}).get("content") == answer["choices"][0].get("message", {}).get("content")


def test_likely_tokens_of_one_text_are_told_apart():
    from alora_gguf.reply import TokenLogprob
    from alora_gguf.serve.answer import CompletionAnswer

    own = {1: b"a", 2: b"a", 3: b"\xf0\x9f", 4: b"\xf0", 5: b"\\"}
    top = tuple(TokenLogprob(data.decode(errors="replace"), token, -float(token)) for token, data in own.items())
    answer = CompletionAnswer("tiny", lambda token, named: own[token])
    assert answer.logprobs([TokenLogprob("a", 1, -1.0, top)])["top_logprobs"] == [
        {"a": -1.0, "token_id:2": -2.0, "bytes:\\xf0\\x9f": -3.0, "bytes:\\xf0": -4.0, "\\": -5.0}
    ]
