"""Watchers: they judge what has been said, and the answer does not know of it."""

import pytest
from tiny import random_adapter

from alora_gguf import NoInvocationError, PromptError, UnknownAdapterError, Verdict
from alora_gguf.engine.pace import SHARE, Pace

QUESTION = "Tell me a story of three short sentences."


@pytest.fixture(scope="module")
def answer(open_model):
    """An answer without watchers, and what the intrinsic A says of it."""
    with open_model(n_ctx=1024) as model:
        chat = model.conversation()
        reply = chat.ask(QUESTION, temperature=0, max_tokens=60)
        return reply, chat.invoke("A", max_tokens=8).text


def test_every_sentence_is_judged_and_the_whole(small, answer):
    verdicts, chunks = [], []
    chat = small.conversation()
    reply = chat.ask(QUESTION, temperature=0, max_tokens=60, watch=["A", "B"], on_text=chunks.append, on_verdict=verdicts.append)
    assert reply.text == "".join(chunks)
    assert len(reply.text) > 20
    assert sorted(verdicts, key=lambda v: v.n_chars) == reply.verdicts
    for name in ("A", "B"):
        places = [v.n_chars for v in reply.verdicts if v.name == name]
        assert places == sorted(set(places))
        assert places[-1] == len(reply.text)
        assert all(reply.text[:n].rstrip("\"')")[-1] in ".!?\n" for n in places[:-1])
    assert all(v.error is None for v in reply.verdicts)


def test_a_verdict_is_that_of_the_intrinsic_on_the_same_words(small):
    chat = small.conversation()
    reply = chat.ask(QUESTION, temperature=0, max_tokens=20, watch=["A"], watch_every=8)
    assert [v.name for v in reply.verdicts] == ["A"] * 3
    last = reply.verdicts[-1]
    assert last.n_chars == len(reply.text)
    assert last.reply.usage.prompt_tokens == chat.invoke("A").usage.prompt_tokens
    cached = [v.reply.usage.cached_tokens for v in reply.verdicts]
    assert cached == sorted(cached)
    assert cached[0] >= reply.usage.prompt_tokens  # the answer's own cells are shared


def test_they_come_among_the_pieces(small):
    stream = small.conversation().ask(QUESTION, temperature=0, max_tokens=20, watch=["A"], watch_every=5, stream=True)
    items = list(stream)
    assert any(isinstance(item, Verdict) for item in items)
    assert "".join(item for item in items if not isinstance(item, Verdict)) == stream.result.text


def test_cancelling_the_answer_ends_them(small):
    stream = small.conversation().ask(QUESTION, temperature=0, max_tokens=300, watch=["A"], watch_every=3, stream=True)
    next(stream)
    stream.close()
    assert stream.result.finish_reason == "cancelled"
    assert small.engine.loop.call(lambda: not small.engine.loop._running)


def test_what_cannot_watch_is_refused(small, base_q4, tmp_path):
    chat = small.conversation()
    with pytest.raises(UnknownAdapterError):
        chat.ask("Hi", watch=["nobody"])
    with pytest.raises(PromptError):
        chat.ask("Hi", watch=["A"], watch_every=0)
    small.register_adapter(random_adapter(base_q4, tmp_path / "lora.gguf", [], 4))
    with pytest.raises(NoInvocationError):
        chat.ask("Hi", watch=["lora"])
    small.unload_adapter("lora")
    assert chat.messages == []


@pytest.mark.parametrize("cost", [0.1, 1.0, 10.0])
def test_the_background_takes_its_share_and_no_more(cost):
    """On a machine where a token more makes a step `cost` times its length longer."""
    pace, front, back, n_back = Pace(), 0.0, 0.0, 0
    for _ in range(2000):
        n = min(pace.allowance(1), 8)
        pace.record(1, n, 0.01 + n * cost * 0.01)
        front, back, n_back = front + 0.01, back + n * cost * 0.01, n_back + n
    assert back <= 1.3 * SHARE * front
    assert back >= 0.7 * SHARE * front


@pytest.mark.parametrize("cost", [0.3, 1.0, 3.0])
def test_a_short_answer_does_not_pay_for_the_time_before_it(cost):
    """Nothing ran in the background for long, then it has always something to do."""
    pace, step, n_steps, back = Pace(), 0.01, 64, 0.0
    for n in [0, 1] + 2000 * [0]:  # it has learnt what a token costs
        pace.record(1, n, step + n * cost * step)
    pace.record(512, 0, 100 * step)  # the answer's prompt
    pace.record(1, 0, step)
    for _ in range(n_steps):
        n = min(pace.allowance(1), 8)
        pace.record(1, n, step + n * cost * step)
        back += n * cost * step
    assert 0 < back <= (SHARE * n_steps + max(2, cost)) * step
