"""Chunks that no model said: thoughts, text and tool calls in any order, with the reply that they are of."""

import itertools
import json
from types import SimpleNamespace

from hypothesis import strategies as st

from alora_gguf.reply import CallHead, Chunk, Reply, ToolCall, Usage

_WORDS = st.text(alphabet='ab {"}\\é漢🙂\n', min_size=1, max_size=8)
_ARGUMENTS = st.dictionaries(st.sampled_from(["city", "n"]), _WORDS | st.integers() | st.none(), max_size=2)


def chunk(text, kind="text", call=None):
    made = Chunk(text)
    made.kind, made.call = kind, call
    return made


@st.composite
def said(draw):
    """(chunks, reply, runs), where runs are what follows each other: (kind, text) or ("tool_call", head, text)."""
    runs = []
    for kind in draw(st.lists(st.sampled_from(["reasoning", "text", "tool_call"]), max_size=5)):
        if kind == "tool_call":
            n = sum(run[0] == "tool_call" for run in runs)
            runs.append((kind, CallHead(n, f"call_{n}", draw(st.sampled_from(["look", "ask"]))), json.dumps(draw(_ARGUMENTS), ensure_ascii=False)))
        elif not runs or runs[-1][0] != kind:
            runs.append((kind, draw(_WORDS)))
    chunks = []
    for kind, *head, text in runs:
        edges = sorted({0, len(text), *draw(st.lists(st.integers(0, len(text)), max_size=3))})
        chunks += [chunk("", kind, head[0])] if head else []
        chunks += [chunk(text[a:b], kind, *head) for a, b in itertools.pairwise(edges)]
    calls = [ToolCall(run[1].id, run[1].name, json.loads(run[2])) for run in runs if run[0] == "tool_call"]
    joined = lambda kind: "".join(run[1] for run in runs if run[0] == kind)
    reason = draw(st.sampled_from(["length", "tool_calls" if calls else "stop"]))
    usage = Usage(prompt_tokens=9, cached_tokens=4, completion_tokens=7, ttft_ms=1.0, tokens_per_second=1.0, reasoning_tokens=2)
    reply = Reply(joined("text"), usage, reason, reasoning=joined("reasoning"), tool_calls=calls)
    return SimpleNamespace(chunks=chunks, reply=reply, runs=runs)


def events_of(answer, made):
    events = [*answer.begin(made.reply)]
    for piece in made.chunks:
        events += answer.piece(piece)
    return json.loads(json.dumps([*events, *answer.end(made.reply, {})]))


def parsed(text):
    """The events of a response's body: their names have to be those in the data."""
    events = []
    for block in text.strip().split("\n\n"):
        name, data = block.split("\n", 1)
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events
