"""The drop-in Llama: upstream's where no adapter is named, and the engine's own results where one is."""

import json

import pytest
from tiny import INVOCATIONS, random_adapter

from alora_gguf import Llama, PromptError, UnknownAdapterError

TEXT = "The quick brown fox jumps over"


@pytest.fixture(scope="module")
def llama(base_q4, random_adapters, answerability):
    llama = Llama(str(base_q4), n_ctx=512, n_threads=1, verbose=False, logits_all=True, adapters={**random_adapters, "answerability": answerability})
    yield llama
    llama.close()


def plain(llama, prompt, n=6, **options):
    return llama.create_completion(prompt, max_tokens=n, temperature=0, **options)["choices"][0]["text"]


def test_without_an_adapter_it_is_upstreams(llama, base_q4):
    import llama_cpp

    upstream = llama_cpp.Llama(str(base_q4), n_ctx=512, n_threads=1, verbose=False)
    assert isinstance(llama, llama_cpp.Llama)
    assert plain(llama, TEXT) == plain(upstream, TEXT)
    messages = [{"role": "user", "content": "Hello!"}]
    ask = lambda llm: llm.create_chat_completion(messages, max_tokens=8, temperature=0)["choices"][0]["message"]["content"]
    assert ask(llama) == ask(upstream)
    upstream.close()


def test_what_was_computed_with_one_is_never_anothers(llama):
    """Every order of calls gives what each gives by itself."""
    tokens = llama.tokenize(TEXT.encode())
    calls = [(tokens + INVOCATIONS[name], name) for name in ("A", "B")] + [(tokens, None), (tokens + INVOCATIONS["A"], None)]
    alone = []
    for prompt, name in calls:
        llama.reset()
        alone.append(plain(llama, prompt, adapter=name))
    assert len(set(alone)) == 4
    for i in (0, 1, 0, 2, 1, 3, 0, 0, 3, 2):
        prompt, name = calls[i]
        assert plain(llama, prompt, adapter=name) == alone[i]


def test_the_prefix_is_kept_on_the_way_in_and_out(llama):
    tokens = llama.tokenize(TEXT.encode())
    decoded, decode = [], llama._ctx.decode
    llama._ctx.decode = lambda batch: (decoded.append(batch.n_tokens()), decode(batch))[1]
    try:
        llama.reset()
        sums = []
        for prompt, name in ((tokens, None), (tokens + INVOCATIONS["A"], "A"), (tokens + [7], None)):
            decoded.clear()
            plain(llama, prompt, n=1, adapter=name)
            sums.append(sum(decoded))
    finally:
        llama._ctx.decode = decode
    assert sums == [len(tokens), 2, 1]


def test_streams_and_logprobs(llama):
    tokens = llama.tokenize(TEXT.encode()) + INVOCATIONS["A"]
    whole = plain(llama, tokens, adapter="A")
    chunks = llama.create_completion(tokens, max_tokens=6, temperature=0, stream=True, adapter="A")
    first = next(chunks)["choices"][0]["text"]
    between = plain(llama, TEXT)
    assert first and whole.startswith(first) and between != whole
    llama.reset()
    assert "".join(c["choices"][0]["text"] for c in llama.create_completion(tokens, max_tokens=6, temperature=0, stream=True, adapter="A")) == whole
    logprobs = llama.create_completion(tokens, max_tokens=3, temperature=0, logprobs=2, adapter="A")["choices"][0]["logprobs"]
    assert "".join(logprobs["tokens"]) == whole[: len("".join(logprobs["tokens"]))]


def test_a_chat_is_asked_with_the_invocation(llama, model):
    """As Conversation.invoke asks it."""
    messages = [{"role": "user", "content": "Paris is in France. Where is Paris?"}]
    reply = llama.create_chat_completion(messages, adapter="answerability", temperature=0, max_tokens=8)
    wanted = model.conversation(messages=messages).invoke("answerability", max_tokens=8)
    assert reply["choices"][0]["message"]["content"] == wanted.text
    assert reply["usage"]["prompt_tokens"] == wanted.usage.prompt_tokens
    chunks = llama.create_chat_completion(messages, adapter="answerability", temperature=0, max_tokens=8, stream=True)
    assert "".join(p["choices"][0]["delta"].get("content") or "" for p in chunks) == wanted.text


IO = """
model: ~
response_format: '{"type": "object", "properties": {"open": {"enum": ["yes", "no"]}}, "required": ["open"]}'
transformations: ~
instruction: "{last_message} Is {claim}?<|im_start|> judge"
parameters: {max_completion_tokens: 20}
"""


def test_an_io_yaml_asks_as_it_does_in_a_conversation(llama, model, base_q4, tmp_path):
    invocation = model.tokenize("<|im_start|> judge")
    path = random_adapter(base_q4, tmp_path / "judge.gguf", invocation, 5)
    (tmp_path / "judge.io.yaml").write_text(IO)
    messages = [{"role": "user", "content": "The pier is open.<|im_end|>"}]
    documents = ["It opens at nine."]
    llama.load_adapter(path)
    model.load_adapter(path)
    try:
        reply = llama.create_chat_completion(messages, adapter="judge", documents=documents, arguments={"claim": "it so"})
        wanted = model.conversation(messages=messages).invoke("judge", documents=documents, claim="it so")
        assert json.loads(reply["choices"][0]["message"]["content"])["open"] in ("yes", "no")
        assert reply["choices"][0]["message"]["content"] == wanted.text
        assert reply["usage"]["prompt_tokens"] == wanted.usage.prompt_tokens
        with pytest.raises(PromptError, match="claim"):
            llama.create_chat_completion(messages, adapter="judge")
        free = llama.create_chat_completion(messages, adapter="judge", arguments={"claim": "x"}, max_tokens=4, grammar=None)
        assert free["usage"]["completion_tokens"] <= 4
    finally:
        llama.unload_adapter("judge")
        model.unload_adapter("judge")


def test_states_know_their_adapter(llama):
    import llama_cpp

    tokens = llama.tokenize(TEXT.encode()) + INVOCATIONS["A"]
    adapted, base = plain(llama, tokens, adapter="A"), plain(llama, tokens)
    plain(llama, tokens, adapter="A")
    state = llama.save_state()
    llama.reset()
    llama.load_state(state)
    assert plain(llama, tokens) == base
    llama.set_cache(llama_cpp.LlamaRAMCache())
    try:
        for _ in range(2):
            assert plain(llama, tokens, adapter="A") == adapted
            assert plain(llama, tokens) == base
    finally:
        llama.set_cache(None)


def test_names_are_checked(llama, random_adapters):
    with pytest.raises(UnknownAdapterError, match="answerability"):
        llama(TEXT, adapter="nobody")
    llama.chat_handler = lambda **_: None
    with pytest.raises(PromptError, match="create_completion"):
        llama.create_chat_completion([], adapter="A")
    llama.chat_handler = None
    llama.load_adapter(random_adapters["A"], "more")
    llama.unload_adapter("more")
    with pytest.raises(UnknownAdapterError):
        llama.unload_adapter("more")


def test_a_path_will_do(base_q4, llama):
    path_alone = Llama(base_q4, n_ctx=64, n_threads=1, verbose=False)
    try:
        assert path_alone.model_path == llama.model_path
    finally:
        path_alone.close()


@pytest.mark.parametrize("name", ["functions", "function_call", "tools", "tool_choice"])
def test_tools_with_an_adapter_are_refused_by_name(llama, name):
    messages, tools = [{"role": "user", "content": "Hi"}], [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    names = ["functions", "function_call", "tools", "tool_choice"]
    with pytest.raises(PromptError, match=f"^{name}: expected none with an adapter"):
        llama.create_chat_completion(messages, adapter="A", **{name: tools})
    with pytest.raises(PromptError, match=f"^{name}: expected none with an adapter"):
        llama.create_chat_completion(messages, *[None] * names.index(name), tools, adapter="A")
    assert llama.create_chat_completion(messages, adapter="A", max_tokens=1, **{name: None})["choices"]


def test_a_llama_that_nobody_has_any_more_is_freed(base_q4, random_adapters):
    import gc
    import weakref

    gc.collect()
    gc.disable()
    try:
        llama = Llama(base_q4, n_ctx=64, n_threads=1, verbose=False, adapters=random_adapters)
        plain(llama, TEXT, n=2, adapter="A")
        there = weakref.ref(llama)
        del llama
        assert there() is None
    finally:
        gc.enable()
