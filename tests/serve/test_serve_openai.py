"""The openai package against a running server."""

import openai
import pytest

HELLO = [{"role": "system", "content": "You are short."}, {"role": "user", "content": "Say something odd about whales."}]
GREEDY = {"temperature": 0, "max_tokens": 12}


@pytest.fixture(scope="module")
def client(server):
    with server.client() as client:
        yield client


def ask(client, model="tiny", messages=HELLO, **options):
    return client.chat.completions.create(model=model, messages=messages, **{**GREEDY, **options})


def text(answer):
    return answer.choices[0].message.content


def test_models_are_the_base_and_the_adapters(client):
    assert next(m.id for m in client.models.list()) == "tiny"
    assert {"first", "second", "plain"} <= {m.id for m in client.models.list()}
    assert client.models.retrieve("first").parent == "tiny"


def test_a_stream_says_what_the_whole_answer_does(client):
    whole = ask(client)
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text(whole)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason == "length"
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens == 12
    assert len({c.id for c in chunks}) == 1
    assert all(c.usage is None for c in ask(client, stream=True))


def test_a_stream_can_count_as_it_goes(client):
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True}))
    usages = [c.usage for c in chunks if c.usage]
    assert len(usages) > 2 and len({(u.prompt_tokens, u.prompt_tokens_details.cached_tokens) for u in usages}) == 1
    counts = [u.completion_tokens for u in usages]
    assert counts[0] > 0 and counts == sorted(counts) and counts[-1] == 12


@pytest.mark.parametrize("stream", [False, True])
def test_logprobs_are_of_tokens_that_make_up_the_text(client, stream):
    answer = ask(client, logprobs=True, top_logprobs=3, stream=stream)
    if stream:
        chunks = [c.choices[0] for c in answer]
        tokens = [t for c in chunks if c.logprobs for t in c.logprobs.content]
        said = "".join(c.delta.content or "" for c in chunks)
    else:
        tokens, said = answer.choices[0].logprobs.content, text(answer)
    assert "".join(t.token for t in tokens) == said == bytes(b for t in tokens for b in t.bytes).decode(errors="replace")
    for t in tokens:  # greedy
        assert len(t.top_logprobs) == 3 and t.top_logprobs[0].logprob == t.logprob <= 0


@pytest.mark.parametrize(
    "choose", [{"model": "first"}, {"extra_body": {"adapter": "first"}}, {"extra_body": {"chat_template_kwargs": {"adapter_name": "first"}}}]
)
def test_an_adapter_is_chosen_in_three_ways(client, choose):
    adapted = ask(client, **choose)
    assert text(adapted) == text(ask(client, model="first")) != text(ask(client))
    assert adapted.model == "first"


def test_an_ordinary_lora_changes_the_answer_too(client):
    assert text(ask(client, model="plain")) not in (text(ask(client)), text(ask(client, model="first")))


def test_each_turn_reuses_all_that_was_computed_before(client):
    """Also the answers' own tokens, which the text of a random model would give otherwise; and intrinsics between them."""
    messages = [{"role": "user", "content": "Count the stones of this unique wall."}]
    n_before = 0
    for turn in range(3):
        answer = ask(client, messages=messages)
        assert answer.usage.prompt_tokens_details.cached_tokens >= n_before
        n_before = answer.usage.total_tokens - 1  # the last token was sampled, and not computed
        messages += [{"role": "assistant", "content": text(answer)}]
        judged = ask(client, model="second", messages=messages)
        assert judged.usage.prompt_tokens_details.cached_tokens >= n_before
        messages += [{"role": "user", "content": f"And now {turn}?"}]
    again = ask(client, messages=messages[:-2] + [{"role": "user", "content": "And now 1?"}])
    assert again.usage.prompt_tokens_details.cached_tokens > 50


def same(answer, alone, tie=0.005):
    """Whether two greedy answers (with their logprobs) agree until a token where `alone` nearly drew.

    A batch of another size is summed in another order; the random model's best two tokens can be 0.0006 nats apart.
    """
    for got, wanted in zip(answer.choices[0].logprobs.content, alone.choices[0].logprobs.content, strict=True):
        if got.token != wanted.token:
            return wanted.logprob - {t.token: t.logprob for t in wanted.top_logprobs}.get(got.token, float("-inf")) < tie
    return True


def test_answers_do_not_depend_on_what_else_runs(client, server):
    import asyncio

    options = {"logprobs": True, "top_logprobs": 5}
    alone = {name: ask(client, model=name, **options) for name in ("tiny", "first", "second", "plain")}
    assert not any(same(alone[one], alone[other]) for one in alone for other in alone if one != other)

    async def run():
        async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=120) as aio:
            return await asyncio.gather(*(aio.chat.completions.create(model=name, messages=HELLO, **GREEDY, **options) for name in list(alone) * 5))

    for name, answer in zip(list(alone) * 5, asyncio.run(run()), strict=True):
        assert same(answer, alone[name]), f"{name}: {text(answer)!r} is not {text(alone[name])!r}"


def test_several_choices(client):
    answer = ask(client, n=3, temperature=1.5, seed=5)
    again = ask(client, n=3, temperature=1.5, seed=5)
    texts = [c.message.content for c in answer.choices]
    assert texts == [c.message.content for c in again.choices] and len(set(texts)) == 3
    assert [c.index for c in answer.choices] == [0, 1, 2] and answer.usage.completion_tokens == 36
    streamed = ["", "", ""]
    for chunk in ask(client, n=3, temperature=1.5, seed=5, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert streamed == texts


def test_a_stop_string_ends_the_answer(client):
    whole = text(ask(client))
    stop = whole[len(whole) // 2 :][:4]
    stopped = ask(client, stop=[stop])
    assert text(stopped) == whole[: whole.index(stop)] and stopped.choices[0].finish_reason == "stop"


@pytest.mark.parametrize(
    "how",
    [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["yes", "no"]}}}},
        {"extra_body": {"structured_outputs": {"json": {"enum": ["yes", "no"]}}}},
        {"extra_body": {"structured_outputs": {"json": '{"enum": ["yes", "no"]}'}}},
        {"extra_body": {"structured_outputs": {"choice": ['"yes"', '"no"']}}},
        {"extra_body": {"structured_outputs": {"grammar": r'root ::= "\"yes\"" | "\"no\""'}}},
        {"extra_body": {"structured_outputs": {"regex": '"(yes|no)"'}}},
        {"extra_body": {"guided_json": {"enum": ["yes", "no"]}}},
        {"extra_body": {"guided_choice": ['"yes"', '"no"']}},
        {"extra_body": {"guided_regex": '"(yes|no)"'}},
        {"extra_body": {"guided_grammar": r'start: "\"yes\"" | "\"no\""'}},
        {"extra_body": {"json_schema": {"enum": ["yes", "no"]}}},
        {"extra_body": {"grammar": r'root ::= "\"yes\"" | "\"no\""'}},
    ],
)
def test_answers_follow_a_schema_a_choice_or_a_grammar(client, how):
    assert text(ask(client, **how)) in ('"yes"', '"no"')


def test_any_json_object(client):
    assert text(ask(client, response_format={"type": "json_object"})).startswith("{")


def test_what_clients_send_without_meaning_it_is_accepted(client):
    answer = ask(
        client,
        tools=None,
        user="me",
        extra_body={"tools": None, "logit_bias": {}, "top_k": 5, "whatever": None, "metadata": {"a": "b"}, "store": True},
    )
    assert text(answer)
    assert text(ask(client, max_completion_tokens=3, max_tokens=None)) == text(ask(client, max_tokens=3))


def test_content_in_parts_and_developer_messages(client):
    parts = [
        {"role": "developer", "content": "You are short."},
        {"role": "user", "content": [{"type": "text", "text": "Say something odd "}, {"type": "text", "text": "about whales."}]},
    ]
    assert text(ask(client, messages=parts)) == text(ask(client))


def test_documents_are_in_the_prompt_once(client):
    plain = ask(client)
    documents = [{"text": "Whales sing."}, {"text": "Whales sleep.", "doc_id": "b"}]
    said = "You have access to the following documents:\n\n[Document 1]\nWhales sing.\n\n[Document b]\nWhales sleep."
    with_documents = ask(client, extra_body={"documents": documents})
    by_hand = ask(client, messages=[{"role": "user", "content": said}, *HELLO])
    assert text(with_documents) == text(by_hand)
    assert with_documents.usage.prompt_tokens == by_hand.usage.prompt_tokens > plain.usage.prompt_tokens


def test_completions(client):
    whole = client.completions.create(model="tiny", prompt=["Once", "Twice"], temperature=0, max_tokens=5, logprobs=2, n=2)
    assert [c.index for c in whole.choices] == [0, 1, 2, 3]
    once = [
        c.text for c in client.completions.create(model="tiny", prompt="Once", temperature=0, max_tokens=5, stream=True).__iter__() for c in c.choices
    ]
    assert "".join(once) == whole.choices[0].text == whole.choices[1].text != whole.choices[2].text
    probs = whole.choices[2].logprobs
    assert "".join(probs.tokens) == whole.choices[2].text and probs.text_offset[1] == len(probs.tokens[0])
    assert [len(top) for top in probs.top_logprobs] == [2] * 5


def test_completions_of_tokens_activate_as_peft(client):
    complete = lambda model, prompt: client.completions.create(model=model, prompt=prompt, temperature=0, max_tokens=5).choices[0].text
    assert complete("second", [10, 11, 903, 12]) != complete("tiny", [10, 11, 903, 12])
    assert complete("second", [10, 11, 12]) == complete("tiny", [10, 11, 12])


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ({"model": "nobody"}, openai.NotFoundError, "model 'nobody': expected tiny or an adapter"),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError, "expected one that writes tools"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, openai.BadRequestError, "reads text only"),
        ({"temperature": -1}, openai.BadRequestError, "temperature: expected"),
        ({"max_tokens": 0}, openai.BadRequestError, "max_tokens: expected"),
        ({"n": 0}, openai.BadRequestError, "n: "),
        ({"n": 1000}, openai.BadRequestError, "n: expected at most"),
        ({"n": 10**18}, openai.BadRequestError, "n: expected at most"),
        ({"top_logprobs": 1000, "logprobs": True}, openai.BadRequestError, "top_logprobs: expected"),
        ({"messages": [{"role": "user", "content": "word " * 3000}]}, openai.BadRequestError, "expected at most 2048 tokens"),
        ({"extra_body": {"whatever": [1]}}, openai.BadRequestError, "whatever: expected a field that this server knows"),
        ({"extra_body": {"structured_outputs": {"regex": "(a"}}}, openai.BadRequestError, "regex: expected a regular expression"),
        ({"extra_body": {"structured_outputs": {"regex": "a", "choice": ["b"]}}}, openai.BadRequestError, "got several"),
        ({"extra_body": {"guided_regex": "a", "guided_choice": ["b"]}}, openai.BadRequestError, "got regex and choice"),
        ({"extra_body": {"guided_json": {"type": "array", "uniqueItems": True}}}, openai.BadRequestError, "'uniqueItems'"),
        ({"extra_body": {"structured_outputs": {"grammar": "root = nonsense"}}}, openai.BadRequestError, "grammar: expected GBNF"),
        ({"extra_body": {"structured_outputs": {"json": {"type": "nonsense"}}}}, openai.BadRequestError, "json_schema: expected"),
        ({"extra_body": {"documents": [{"doc_id": "1"}]}}, openai.BadRequestError, "documents.0.text"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_are_openai_s_and_say_what_was_expected(client, change, error, says, stream):
    with pytest.raises(error) as caught:
        list(ask(client, stream=stream, **change))
    assert says in caught.value.body["message"]
    assert caught.value.body.keys() == {"message", "type", "param", "code"}


def test_a_prompt_that_is_too_long_has_openai_s_code(client):
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, messages=[{"role": "user", "content": "word " * 3000}])
    assert caught.value.code == "context_length_exceeded"


def test_a_model_that_does_not_pool_says_so(client):
    with pytest.raises(openai.BadRequestError, match="expected a model that pools"):
        client.embeddings.create(model="tiny", input="x")
