"""What an answer says beside its text; and that one which cannot begin leaves nothing behind."""

import asyncio
import json

import pytest
from tiny import bytes_vocabulary, llama, random_adapter

from alora_gguf import ContextFullError, Model, PromptError
from alora_gguf.prompt.builder import Prompt
from alora_gguf.runtime.sampling import SamplingParams
from alora_gguf.serve.adapter_files import AdapterFiles
from alora_gguf.serve.prompt import Prepared
from alora_gguf.serve.service import Limits, Service

GREEDY = {"temperature": 0, "max_tokens": 3}


def complete(server, **body):
    status, _, answer = server.call("POST", "/v1/completions", {**GREEDY, **body})
    assert status == 200, answer
    return answer


def chunks(server, **body):
    text = server.call("POST", "/v1/completions", {**GREEDY, **body, "stream": True})[2]
    return [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: {")]


def test_a_completion_without_the_invocation_warns(server):
    base, got = complete(server, prompt=[5, 6, 7]), complete(server, prompt=[5, 6, 7], model="first")
    assert got["choices"][0]["text"] == base["choices"][0]["text"] and got["model"] == "first"
    [warning] = got["warnings"]
    assert warning.startswith("adapter 'first': expected its invocation, tokens [901, 902], in the prompt, got none") and "\n" not in warning
    assert "warnings" not in base
    for more in ({}, {"stream_options": {"include_usage": True}}):
        streamed = chunks(server, prompt=[5, 6, 7], model="first", **more)
        assert [chunk.get("warnings") for chunk in streamed] == [None] * (len(streamed) - 1) + [[warning]]
    both = complete(server, prompt=[[5, 6, 7], [5, 6, 901, 902]], model="first", n=2)
    assert both["warnings"] == [warning] and len(both["choices"]) == 4


def test_where_the_adapter_is_active_there_is_no_warning(server):
    assert "warnings" not in complete(server, prompt=[5, 901, 902], model="first")
    assert "warnings" not in complete(server, prompt=[5, 6], model="plain")
    assert not any("warnings" in chunk for chunk in chunks(server, prompt=[5, 901, 902], model="first"))
    chat = {"messages": [{"role": "user", "content": "Hi"}], "model": "first", **GREEDY}
    assert "warnings" not in server.call("POST", "/v1/chat/completions", chat)[2]


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    base = llama(bytes_vocabulary(folder / "vocabulary.gguf"), folder / "base.gguf")
    with Model(base, n_ctx=64, n_threads=1) as model:
        model.load_adapter(random_adapter(base, folder / "A.gguf", [291], 1))
        yield Service(model, ["base"], Limits(2, 2, 100), AdapterFiles(model))


@pytest.mark.parametrize("fails", ["begin", "make", "choice"])
def test_what_cannot_begin_leaves_nothing_behind(service, fails):
    """Neither in the list of what runs nor at the gate, which is let go of once."""

    def make():
        if fails == "make":
            raise PromptError("messages: expected others")
        tokens = [3] * 1000 if fails == "begin" else [10**6] if fails == "choice" else [3]
        return [(Prepared(Prompt(tokens)), SamplingParams(max_tokens=2))]

    async def fail():
        async with service.generating(1, make, streams=False, cache_salt=None):
            pass

    async def works():
        async with service.generating(
            2, lambda: [(Prepared(Prompt([3])), SamplingParams(max_tokens=2))] * 2, streams=False, cache_salt=None
        ) as generation:
            assert service.gate.n_running == 2 and len(service._running) == 1
            return await generation.ended()

    async def main():
        for _ in range(5):
            with pytest.raises((ContextFullError, PromptError)):
                await fail()
            assert (service.gate.n_running, service.gate.n_waiting, service._running) == (0, 0, set())
        assert len(await works()) == 2
        await asyncio.sleep(0)
        assert (service.gate.n_running, service._running) == (0, set())

    asyncio.run(main())


def test_one_bos(service, tmp_path):
    """Where the model wants one, whether the text has it or not."""
    from live import running

    model = service.model
    assert model.vocab.add_bos and model.vocab.bos == 1
    plain, written = (model.generate(text, max_tokens=1, temperature=0, logprobs=True) for text in ("w1 w2", "<s>w1 w2"))
    whole = model.generate([1, *model.tokenize("w1 w2")], max_tokens=1, temperature=0, logprobs=True)
    assert plain.usage.prompt_tokens == whole.usage.prompt_tokens
    assert plain.logprobs[0].logprob == pytest.approx(whole.logprobs[0].logprob, abs=1e-5)
    assert written.usage.prompt_tokens == 1 + len(model.tokenize("<s>w1 w2", special=True)[1:])
    base = llama(bytes_vocabulary(tmp_path / "vocabulary.gguf"), tmp_path / "pooling.gguf", pooling=1)
    with running(tmp_path / "log", "--model", base, "--ctx", 64) as server:
        embed = lambda text: server.call("POST", "/v1/embeddings", {"input": text})[2]
        texts = ["w1 w2", "<s>w1 w2"]
        tokens = [[1, *model.tokenize("w1 w2")], model.tokenize("<s>w1 w2")]
        for text, row in zip(texts, tokens):
            assert row.count(1) == 1
            got = embed(text)
            assert got["usage"]["prompt_tokens"] == len(row)
            assert got["data"][0]["embedding"] == pytest.approx(embed(row)["data"][0]["embedding"], abs=1e-6)
