"""return_progress: how much of a long prompt is read, in llama-server's words."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from alora_gguf.engine.channel import Channel
from alora_gguf.serve import generation
from alora_gguf.serve.generation import Generation

CHAT = {"messages": [{"role": "user", "content": "Of the ships that came in. " * 200}], "max_tokens": 4, "stream": True}
TEXT = {"prompt": "Of the ships that went out. " * 100, "n": 2, "max_tokens": 4, "stream": True}


def chunks(server, path, body):
    status, _, text = server.call("POST", path, {**body, "stream_options": {"include_usage": True}})
    assert status == 200, text
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: {")]


@pytest.mark.parametrize(("path", "body"), [("/v1/chat/completions", CHAT), ("/v1/completions", TEXT)], ids=["chat", "completions"])
def test_what_is_said_of_a_prompt(server, path, body):
    """Behind the role and before the answer; and the last of it is that all is read."""
    plain = chunks(server, path, {**body, "cache_salt": path})
    made = chunks(server, path, {**body, "cache_salt": f"other {path}", "return_progress": True})
    at = [i for i, chunk in enumerate(made) if "prompt_progress" in chunk]
    n_before = len([chunk for chunk in made[: at[0]] if chunk["choices"]])
    assert n_before == ("chat" in path) and at == list(range(n_before, n_before + len(at)))
    told = [made[i]["prompt_progress"] for i in at]
    assert all(set(one) == {"total", "cache", "processed", "time_ms"} for one in told)
    usage = made[-1]["usage"]
    assert told[-1]["processed"] == told[-1]["total"] == usage["prompt_tokens"]
    assert told[-1]["cache"] == usage["prompt_tokens_details"]["cached_tokens"] == 0
    assert not any("prompt_progress" in chunk for chunk in plain)
    said = lambda some: "".join(c["delta"].get("content", "") if "delta" in c else c["text"] for chunk in some for c in chunk["choices"])
    assert said(made[: at[-1] + 1]) == "" != said(made)
    again = chunks(server, path, {**body, "cache_salt": f"other {path}", "return_progress": True})
    [last] = [chunk["prompt_progress"] for chunk in again if "prompt_progress" in chunk][-1:]
    assert last["cache"] == again[-1]["usage"]["prompt_tokens_details"]["cached_tokens"] > 0


def test_nothing_is_said_twice_and_no_piece_is_taken(monkeypatch):
    monkeypatch.setattr(generation, "_OFTEN", 0.001)
    request = SimpleNamespace(progress=(0, 100), n_cached=None, reply=lambda: None)
    made = Generation.__new__(Generation)
    made._channel, made._readers, made._requests, made._t_start = Channel(), [request], [request], 0.0

    async def read():
        reading = made.reading()
        early = asyncio.ensure_future(anext(reading))
        await asyncio.sleep(0.02)
        assert not early.done()  # it has no place yet
        request.n_cached, request.progress = 20, (20, 100)
        told = [await early]
        next_one = asyncio.ensure_future(anext(reading))
        await asyncio.sleep(0.02)
        assert not next_one.done()
        request.progress = 60, 100
        told.append(await next_one)
        request.progress = 100, 100
        made._channel.put((0, "text"))
        told += [one async for one in reading]
        assert [(one["cache"], one["processed"], one["total"]) for one in told] == [(20, 20, 100), (20, 60, 100), (20, 100, 100)]
        return await made._channel.get_async()

    assert asyncio.run(read()) == (0, "text")


def test_what_fails_before_there_is_a_piece_is_raised():
    def fails():
        raise ValueError("no")

    request = SimpleNamespace(progress=(0, 100), n_cached=0, reply=fails)
    made = Generation.__new__(Generation)
    made._channel, made._readers, made._requests, made._t_start = Channel(), [request], [request], 0.0
    made._channel.end()

    async def read():
        return [one async for one in made.reading()]

    with pytest.raises(ValueError, match="no"):
        asyncio.run(read())
