"""The loop: many at once, each as if it were alone; and what goes wrong for one is nothing to the others."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tiny import INVOCATIONS, first_logprobs

from alora_gguf import AloraError, ClosedError, ContextFullError, DecodeError, PromptError
from alora_gguf.engine.loop import TILE

TEXT = list(range(300, 340))


def test_a_seed_says_what_comes(small):
    def draw(seed):
        small.clear_cache()  # without flash attention, sums depend on where cells lie
        return small.generate(TEXT, max_tokens=12, temperature=1.2, seed=seed).tokens

    assert draw(1) == draw(1)
    assert len({tuple(draw(seed)) for seed in range(4)}) > 1


def test_threads_get_their_own_answers(open_model):
    """Each prompt is known by its logits, whoever runs beside it."""
    with open_model(n_ctx=2048) as model:
        calls = [(TEXT[:i] + INVOCATIONS.get(name, []), name) for i in (3, 7, 12, 20) for name in (None, "A", "B")]
        with ThreadPoolExecutor(len(calls)) as pool:
            replies = list(
                pool.map(lambda call: model.generate(call[0], adapter=call[1], temperature=0, max_tokens=6, logprobs=True, top_logprobs=5), calls)
            )
        for (tokens, name), reply in zip(calls, replies):
            fresh = first_logprobs(model, tokens, name)
            top = [t.token for t in reply.logprobs[0].top]
            assert set(top[:2]) <= set(np.argsort(fresh)[-5:])
            assert len(reply.tokens) <= 6
            assert "".join(t.text for t in reply.logprobs) == reply.text


def test_a_long_prompt_does_not_hold_up_the_others(open_model):
    with open_model(n_ctx=1024, n_ubatch=16) as model:
        others = model.generate(TEXT, max_tokens=200, temperature=0, grammar="root ::= [a-z ]*", stream=True)
        next(others)
        long = model.generate([400 + i % 50 for i in range(320)], max_tokens=1, temperature=0, stream=True)
        come = 0

        def count():
            nonlocal come
            for _ in others:
                come += 1

        reader = threading.Thread(target=count)
        reader.start()
        long.result  # noqa: B018
        seen = come
        others.cancel()
        reader.join()
        assert seen >= 320 // 16 - 5  # one of theirs for each ubatch of the prompt


def test_many_tokens_of_the_base_are_of_one_conversation(open_model, monkeypatch):
    """Or they are fewer than a tile has, and no adapted ones beside them."""
    with open_model(n_ctx=2048) as model:
        batches = []

        def is_adapted(span) -> bool:
            return any(start <= span.start for _, start, _ in model.engine.context.activations(span.seq_id))

        def seen(spans, decode=model.engine.context.decode):
            batches.append([(len(span.tokens), is_adapted(span)) for span in spans])
            return decode(spans)

        monkeypatch.setattr(model.engine.context, "decode", seen)
        calls = [([500 + i] * 30 + INVOCATIONS.get(name, []), name) for i, name in enumerate([None, "A", "B"] * 4)] + [(TEXT * 5, None)]
        streams = [model.generate(tokens, adapter=name, max_tokens=3, temperature=0, stream=True) for tokens, name in calls]
        for stream in streams:
            assert stream.result.finish_reason in ("length", "stop")
        for batch in batches:
            assert len(batch) == 1 or all(adapted for _, adapted in batch) or sum(n for n, _ in batch) < TILE
        assert max(len(batch) for batch in batches) > 1
        assert max(n for batch in batches for n, _ in batch) >= TILE


def test_short_prompts_pass_long_ones(open_model):
    with open_model(n_ctx=1024, n_ubatch=16) as model:
        order = []
        long = model.generate([400 + i % 50 for i in range(320)], max_tokens=1, stream=True)
        short = model.generate(TEXT[:20], max_tokens=1, stream=True)
        waits = [threading.Thread(target=lambda s=s, n=n: (s.result, order.append(n))) for s, n in ((long, "long"), (short, "short"))]
        for wait in waits:
            wait.start()
        for wait in waits:
            wait.join()
        assert order == ["short", "long"]


def test_cancelled_calls_end_and_what_they_said_is_theirs(small):
    stream = small.generate(TEXT, max_tokens=400, temperature=0, stream=True)
    said = next(stream) + next(stream)
    stream.cancel()
    reply = stream.result
    assert reply.finish_reason == "cancelled"
    assert reply.text.startswith(said)
    assert len(reply.tokens) < 400
    assert small.generate(TEXT, max_tokens=2, temperature=0).text == reply.text[: len(said)] or len(reply.tokens) >= 2


def test_asyncio_and_threads_read_the_same_streams(small):
    async def main():
        chats = [small.conversation(system="Be brief.") for _ in range(3)]

        async def ask(chat):
            stream = chat.ask("Hello?", max_tokens=5, temperature=0, stream=True)
            chunks = [chunk async for chunk in stream]
            return chunks, await stream, await chat.invoke("A", stream=True, max_tokens=3)

        return await asyncio.gather(*map(ask, chats))

    for chunks, reply, verdict in asyncio.run(main()):
        assert "".join(chunks) == reply.text
        assert verdict.usage.completion_tokens <= 3


def test_more_than_fits_is_done_one_after_another(open_model):
    """Together they need twice the context; the youngest waits, and goes on where it was."""
    with open_model(n_ctx=256, n_seq_max=8) as model:
        prompts = [[300 + i] * 60 for i in range(4)]
        call = {"max_tokens": 60, "temperature": 0, "grammar": "root ::= [a-z ]*"}
        streams = [model.generate(p, stream=True, **call) for p in prompts]
        replies = [s.result for s in streams]
        assert [len(r.tokens) for r in replies] == [60] * 4
        assert {r.finish_reason for r in replies} == {"length"}
        assert all(r.usage.cached_tokens <= 60 for r in replies)


def test_more_calls_than_sequences_wait_for_one(open_model):
    with open_model(n_seq_max=2) as model:
        streams = [model.generate(TEXT[i:], max_tokens=3, temperature=0, stream=True) for i in range(6)]
        assert all(s.result.usage.prompt_tokens == 40 - i for i, s in enumerate(streams))


def test_a_failed_call_is_raised_where_it_was_made_and_nowhere_else(open_model):
    with open_model(n_ctx=256) as model:
        good = model.generate(TEXT, max_tokens=20, temperature=0, stream=True)
        with pytest.raises(ContextFullError):
            model.generate(TEXT * 10)
        with pytest.raises(PromptError):
            model.generate([10**6])
        with pytest.raises(PromptError):
            model.generate(TEXT, grammar="no grammar")
        with pytest.raises(AloraError):
            model.generate(TEXT, adapter="nobody")
        assert len(good.result.tokens) <= 20
        chat = model.conversation()
        with pytest.raises(ContextFullError):
            chat.ask("word " * 1000)
        assert chat.messages == []
        assert chat.ask("Hi", max_tokens=2).text


def test_one_question_at_a_time_but_any_number_of_intrinsics(small):
    chat = small.conversation()
    stream = chat.ask("Tell me a long story.", max_tokens=200, temperature=0, stream=True)
    next(stream)
    with pytest.raises(PromptError, match="being answered"):
        chat.ask("Another?")
    assert chat.invoke("A", max_tokens=2).usage.completion_tokens <= 2
    stream.cancel()
    assert chat.ask("And?", max_tokens=2, temperature=0).text == chat.messages.pop()["content"]
    assert chat.messages.pop()["content"] == "And?"
    assert chat.messages[-1]["content"] == stream.result.text
    assert chat.ask("Go on.", max_tokens=2).usage.cached_tokens > 0


def test_closing_the_model_ends_what_is_under_way(open_model):
    model = open_model()
    stream = model.generate(TEXT, max_tokens=400, temperature=0, grammar="root ::= [a-z ]*", stream=True)
    next(stream)
    model.close()
    with pytest.raises(ClosedError):
        stream.result  # noqa: B018
    with pytest.raises(ClosedError):
        model.generate(TEXT)


@pytest.mark.parametrize("end", ["a decode that fails", "close"])
def test_an_error_that_ends_several_calls_is_each_ones_own(open_model, monkeypatch, end):
    model = open_model()
    try:
        streams = [model.generate(TEXT[i:], max_tokens=400, temperature=0, grammar="root ::= [a-z ]*", stream=True) for i in range(3)]
        for stream in streams:
            next(stream)
        if end == "close":
            model.close()
        else:

            def fail(spans):
                monkeypatch.undo()
                raise DecodeError("decode: expected success, got status -1")

            monkeypatch.setattr(model.engine.context, "decode", fail)
        errors = []
        for stream in [*streams, streams[0]]:  # and each time anew
            with pytest.raises((ClosedError, DecodeError)) as raised:
                stream.result  # noqa: B018
            errors.append(raised.value)
        assert len({id(error) for error in errors}) == 4
        assert len({(type(error), str(error)) for error in errors}) == 1
        if end != "close":
            assert model.generate(TEXT, max_tokens=2).tokens
    finally:
        model.close()
