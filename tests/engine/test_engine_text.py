"""Text from tokens: the same whatever the tokens are, and log probabilities that concatenate to it."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from alora_gguf.engine.detokenizer import TextUntilStop
from alora_gguf.reply import TokenLogprob

TEXT = st.text(alphabet="ab.é漢🙂", max_size=20)


def cut(data: bytes, places) -> list[bytes]:
    edges = [0, *sorted({p % (len(data) + 1) for p in places}), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges) if a != b]


@given(TEXT, st.lists(st.text(alphabet="ab.é", min_size=1, max_size=3), max_size=2), st.lists(st.integers(0, 100)))
def test_ends_before_the_first_stop_string_wherever_tokens_end(text, stop, places):
    out, chunks = TextUntilStop(stop), []
    for i, token in enumerate(cut(text.encode(), places)):
        chunks += out.push(token, TokenLogprob("", i, -float(i)))
        if out.stopped:
            break
    chunks += out.flush()
    first = min((i for i in (text.find(s) for s in stop) if i >= 0), default=len(text))
    said = "".join(chunks)
    # a stop string counts as soon as it is whole: a longer one that begins earlier may still be on its way
    assert said == text[: len(said)]
    assert len(said) == first or (out.stopped and first <= len(said) and text[len(said) :].startswith(out.stop_string))
    assert out.stopped == (out.stop_string in stop) == any(s in text for s in stop)
    assert out.text == said
    assert "".join(t.text for chunk in chunks for t in chunk.logprobs) == said
    assert out.logprobs == [t for chunk in chunks for t in chunk.logprobs]
    assert all("".join(t.text for t in chunk.logprobs) == chunk for chunk in chunks)


@given(TEXT, st.lists(st.integers(0, 100)))
def test_without_a_stop_string_only_a_character_that_is_not_whole_is_held_back(text, places):
    out, data = TextUntilStop(), b""
    for token in cut(text.encode(), places):
        data += token
        out.push(token)
        whole = data.decode("utf-8", errors="ignore")
        assert whole.startswith(out.text)
        assert out.text == whole or data.decode("utf-8", errors="replace").endswith("\ufffd")


def test_bytes_that_are_no_text_are_shown_as_such():
    out = TextUntilStop()
    assert out.push(b"a\xe6", TokenLogprob("", 0, 0.0)) == []
    assert out.flush() == ["a\ufffd"]
    assert [t.text for t in out.logprobs] == ["a\ufffd"]
