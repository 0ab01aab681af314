"""From tokens to text: stop strings and characters in chunks, and where an answer ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alora_gguf.engine.cache import Branch
from alora_gguf.engine.detokenizer import TextUntilStop
from alora_gguf.engine.request import Request
from alora_gguf.runtime.sampling import SamplingParams

PIECES = st.lists(st.text("ab", max_size=4), max_size=12)
STOPS = st.lists(st.text("ab", min_size=1, max_size=4), max_size=3)


@given(PIECES, st.text("ab", min_size=1, max_size=4))
def test_text_ends_before_the_stop_string_however_it_is_cut(chunks, stop):
    text = TextUntilStop([stop])
    heard = ""
    for chunk in chunks:
        heard += "".join(text.push(chunk.encode()))
        if text.stopped:
            break
    heard += "".join(text.flush())
    whole = "".join(chunks)
    assert heard == text.text == whole.split(stop)[0]
    assert text.stopped == (stop in whole)


@given(PIECES, STOPS)
def test_nothing_of_any_stop_string_is_ever_heard(chunks, stops):
    text = TextUntilStop(stops)
    heard = ""
    for chunk in chunks:
        heard += "".join(text.push(chunk.encode()))
        assert not any(stop in heard for stop in stops)
        if text.stopped:
            break
    heard += "".join(text.flush())
    assert "".join(chunks).startswith(heard)
    assert text.stopped == any(stop in "".join(chunks) for stop in stops)


def test_tokens_that_cannot_begin_a_stop_string_are_not_held_back():
    text = TextUntilStop(["</end>"])
    assert ["".join(text.push(p.encode())) for p in ("one <", "two </e", "n", "ds</", "en")] == ["", "one <", "", "two </en", ""]
    assert text.flush() == ["ds</en"]


class Replay:
    """In the place of a Request's sampler: the tokens of a text, so that the text is known."""

    def __init__(self, tokens):
        self.tokens = list(tokens)

    is_over = False

    def sample(self, logits, *, constrained):
        return self.tokens.pop(0)

    def take_forced(self, n_most):
        return []

    def free(self):
        pass


def replay(model, tokens, **sampling):
    chunks = []
    request = Request([1], SamplingParams.of(sampling), model.vocab, on_chunk=chunks.append)
    request.branch = Branch(None, 0, [1])
    request._sampler.free()
    request._sampler = Replay(tokens)
    while request.finish_reason is None:
        request.advance([None])
    request.finish()
    return chunks, request.reply()


def test_characters_of_several_tokens_come_whole(shared):
    text = "na\u00efve \U0001f99c \u4e16\u754c \u0928\u092e\u0938\u094d\u0924\u0947"
    tokens = shared.tokenize(text)
    assert len(tokens) > len(text)  # some characters are several tokens
    chunks, reply = replay(shared, [*tokens, shared.vocab.eos])
    assert "".join(chunks) == reply.text == text
    assert not any("\ufffd" in chunk for chunk in chunks)
    assert reply.tokens == tokens


def test_a_character_that_is_cut_off_is_replaced(shared):
    tokens = shared.tokenize("a \U0001f99c")
    chunks, reply = replay(shared, tokens, max_tokens=len(tokens) - 1)
    assert reply.text == "".join(chunks) == "a \ufffd"
    assert reply.finish_reason == "length"


@pytest.mark.parametrize("stop, want", [(["\U0001f99c"], "ab "), (["\u754c", "b \U0001f99c"], "a"), (["zz"], None)])
def test_stop_strings_across_tokens(shared, stop, want):
    text = "ab \U0001f99c \u4e16\u754c"
    chunks, reply = replay(shared, [*shared.tokenize(text), shared.vocab.eos], stop=stop)
    assert "".join(chunks) == reply.text == (text if want is None else want)
    assert reply.finish_reason == "stop"


@pytest.mark.parametrize("n", [1, 3])
def test_max_tokens(shared, n):
    with shared.conversation() as chat:
        reply = chat.ask("Count to one hundred.", max_tokens=n, temperature=0)
    assert (reply.finish_reason, reply.usage.completion_tokens, len(reply.tokens)) == ("length", n, n)


def test_the_end_token_is_no_part_of_the_answer(shared):
    with shared.conversation(messages=[{"role": "user", "content": "Is it late?"}]) as chat:
        reply = chat.invoke("answerability")
    assert reply.finish_reason == "stop"
    assert not any(shared.vocab.is_eog(token) for token in reply.tokens)
    assert reply.text == shared.detokenize(reply.tokens)
