"""What a model thought and what it answered: divided the same wherever tokens end, and nothing of either is lost."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alora_gguf.engine.detokenizer import TextUntilStop
from alora_gguf.prompt.thinking import Thinking
from alora_gguf.reply import TokenLogprob

PLAIN = Thinking("<think>", "</think>")
CHANNELS = Thinking("<|channel|>analysis<|message|>", "<|end|>", "<|start|>assistant", "<|channel|>final<|message|>")
RESPONSE = Thinking("<think>", "</think>", "", "<response>", "</response>")
WORDS = st.text(alphabet="ab <é漢", min_size=1, max_size=12).map(str.strip).filter(len)


def divided(said: str, thinking: Thinking | None, places=(), *, stop=(), in_thought=False):
    out, chunks = TextUntilStop(stop, thinking, in_thought=in_thought), []
    data = said.encode()
    edges = [0, *sorted({p % (len(data) + 1) for p in places}), len(data)]
    tokens = [data[a:b] for a, b in itertools.pairwise(edges) if a != b]
    for i, token in enumerate(tokens):
        chunks += out.push(token, TokenLogprob("", i, -float(i)))
        if out.stopped:
            break
    chunks += out.flush()
    of = {kind: "".join(p for p in chunks if p.kind == kind) for kind in ("reasoning", "text")}
    assert of == {"reasoning": out.reasoning, "text": out.text}  # what streams is what is kept
    assert "".join(t.text for t in out.logprobs) == out.text
    assert out.n_tokens <= len(tokens)
    return out


@given(WORDS, WORDS, st.lists(st.integers(0, 200)), st.sampled_from(["", "\n", "\n\n"]))
def test_a_thought_and_an_answer(thought, answer, places, space):
    for thinking, said in (
        (PLAIN, f"{space}<think>{space}{thought}{space}</think>{space}{answer}"),
        (CHANNELS, f"<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant<|channel|>final<|message|>{answer}"),
        (CHANNELS, f"<|channel|>analysis<|message|>{thought}<|end|>{space}<|start|>assistant{space}<|channel|>final<|message|>{answer}"),
        (RESPONSE, f"<think>{thought}</think>{space}<response>{answer}</response>"),
        (RESPONSE, f"<think>{thought}</think>{space}{answer}"),
    ):
        out = divided(said, thinking, places)
        assert (out.reasoning, out.text) == (thought, answer)


@given(WORDS, WORDS, st.lists(st.integers(0, 200)))
def test_a_thought_that_the_prompt_has_begun(thought, answer, places):
    out = divided(f"{thought}\n</think>\n\n{answer}", PLAIN, places, in_thought=True)
    assert (out.reasoning, out.text) == (thought, answer)
    out = divided(f"{thought}\n", PLAIN, places, in_thought=True)  # cut short
    assert (out.reasoning, out.text) == (thought, "")


@given(st.text(alphabet="ab <é漢\n", max_size=12), st.lists(st.integers(0, 100)))
def test_an_answer_without_a_thought_is_as_it_was_said(answer, places):
    for thinking in (None, PLAIN, RESPONSE):
        out = divided(answer, thinking, places)
        assert (out.reasoning, out.text) == ("", answer)
    out = divided(f"<|channel|>final<|message|>{answer}", CHANNELS, places)
    assert (out.reasoning, out.text) == ("", answer)


def test_thoughts_in_several_messages_are_all_thoughts():
    one = "<|channel|>analysis<|message|>a<|end|><|start|>assistant"
    out = divided(f"{one}{one}<|channel|>final<|message|>b", CHANNELS, range(0, 200, 3))
    assert (out.reasoning, out.text) == ("aa", "b")


@given(st.lists(st.integers(0, 100)))
def test_a_stop_string_counts_in_the_answer_alone(places):
    out = divided("<think>a. b</think>c. d", PLAIN, places, stop=[". "])
    assert (out.reasoning, out.text) == ("a. b", "c") and out.stopped


@pytest.mark.parametrize(
    "said, is_thinking", [("", False), ("<thi", False), ("<think>", True), ("<think>a</thi", True), ("<think>a</think>", False), ("a<think>", False)]
)
def test_whether_the_next_token_is_of_the_thought(said, is_thinking):
    out = TextUntilStop((), PLAIN)
    for c in said:
        out.push(c.encode())
    assert out.is_thinking is is_thinking


def test_tokens_are_counted_up_to_what_is_certain():
    """What a watcher judges are the tokens up to there, those of the thought and of its tags included."""
    out = TextUntilStop((), PLAIN)
    for token in ("<think>", "a", " b", "</think>", "\n\n", "c"):
        out.push(token.encode())
    assert (out.text, out.n_tokens) == ("c", 6)
