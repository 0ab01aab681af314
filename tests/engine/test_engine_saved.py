"""Saved conversations: they go on where they were, in another process's model too; what is wrong is refused."""

import hashlib
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from alora_gguf import ContextFullError, SavedConversationError, UnknownAdapterError
from tiny import random_adapter


@pytest.fixture(scope="module")
def saved(open_model, tmp_path_factory):
    """A conversation, its next answer, and the file that was saved before that."""
    path = tmp_path_factory.mktemp("saved") / "chat.alora"
    with open_model() as model:
        chat = model.conversation(system="You answer briefly.")
        chat.ask("What is the tallest mountain?", max_tokens=12, temperature=0)
        chat.save(path)
        n = len(chat.cells()[1])
        answer = chat.ask("And the longest river?", max_tokens=8, temperature=0)
    return path, n, answer


def test_it_goes_on_without_a_prefill(saved, open_model):
    path, n, answer = saved
    with open_model() as model:
        chat = model.restore(path)
        assert [m["role"] for m in chat.messages] == ["system", "user", "assistant"]
        verdict = chat.invoke("A", max_tokens=1)
        assert n - 4 <= verdict.usage.cached_tokens <= n  # what ends the answer was not computed when it was saved
        again = chat.ask("And the longest river?", max_tokens=8, temperature=0)
        assert again.text == answer.text
        assert again.usage.cached_tokens >= answer.usage.cached_tokens
        assert model.restore(path).messages  # what is there already is not read again


def test_a_saved_recurrent_state(base_q4, tmp_path):
    from alora_gguf import Model
    from tiny import mamba2

    with Model(mamba2(base_q4, tmp_path / "m.gguf"), n_ctx=256, n_threads=1) as model:
        chat = model.conversation()
        chat.ask("Hello?", max_tokens=5, temperature=0)
        chat.save(tmp_path / "chat")
        model.clear_cache()
        assert model.restore(tmp_path / "chat").ask("More?", max_tokens=2).usage.cached_tokens > 10


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7), cut=st.booleans())
def test_a_damaged_file_is_refused(saved, small, tmp_path_factory, place, bit, cut):
    data = bytearray(saved[0].read_bytes())
    at = int(place * len(data))
    if cut:
        del data[at:]
    else:
        data[at] ^= 1 << bit
    path = tmp_path_factory.mktemp("damaged") / "chat"
    path.write_bytes(data)
    with pytest.raises(SavedConversationError, match="chat"):
        small.restore(path)


@pytest.mark.parametrize("header, said", [
    (b"{", "header: expected JSON with a version"),
    (b"[]", "header: expected JSON with a version"),
    (b'{"version": 1}', "version: expected 3, got 1"),
    (b'{"version": 3}', "header: expected llama_cpp in it, got NoneType"),
    (b'{"version": 3, "llama_cpp": "0.3.36", "model": 5}', "header: expected model in it, got int"),
], ids=range(5))  # fmt: skip
def test_a_header_of_another_version_or_program_is_refused(small, tmp_path, header, said):
    data = b"ALORACNV" + len(header).to_bytes(8, "little") + header
    (tmp_path / "chat").write_bytes(data + hashlib.sha256(data).digest())
    with pytest.raises(SavedConversationError, match=said):
        small.restore(tmp_path / "chat")


def test_documents_and_notes_come_with_it(small, tmp_path):
    chat = small.conversation(messages=[{"role": "user", "content": "Hi"}])
    chat.attach("It rains.", "weather")
    chat.notes["mine"] = [1, {"a": None}]
    chat.save(tmp_path / "chat")
    again = small.restore(tmp_path / "chat")
    assert (again.documents, again.notes, again.messages) == (chat.documents, chat.notes, chat.messages)
    chat.notes["mine"] = object()
    before = (tmp_path / "chat").read_bytes()
    with pytest.raises(SavedConversationError, match="values of JSON"):
        chat.save(tmp_path / "chat")
    assert (tmp_path / "chat").read_bytes() == before


def test_what_it_was_not_saved_with_is_refused(saved, base_q4, open_model, small, tmp_path):
    from alora_gguf import Model
    from tiny import llama

    path = saved[0]
    with Model(llama(base_q4, tmp_path / "other.gguf"), n_ctx=256, n_threads=1) as other, pytest.raises(SavedConversationError, match="model"):
        other.restore(path)
    with open_model(type_k="f16", type_v="f16") as other, pytest.raises(SavedConversationError, match="cells"):
        other.restore(path)
    with pytest.raises(SavedConversationError, match="nothing"):
        small.restore(tmp_path / "nothing")


def test_the_lora_of_a_conversation_comes_with_it(base_q4, open_model, tmp_path):
    lora = random_adapter(base_q4, tmp_path / "style.gguf", [], 5)
    with open_model() as model:
        model.load_adapter(lora)
        chat = model.conversation(adapter="style")
        chat.ask("Hi", max_tokens=4, temperature=0)
        assert chat.ask("So?", max_tokens=4, temperature=0).usage.cached_tokens > 10
        assert model.conversation(messages=chat.messages).ask("So?", max_tokens=1).usage.cached_tokens == 0
        chat.save(tmp_path / "chat")
        model.clear_cache()
        assert model.restore(tmp_path / "chat").ask("More?", max_tokens=2).usage.cached_tokens > 10
        model.unload_adapter("style")
        with pytest.raises(UnknownAdapterError):
            model.restore(tmp_path / "chat")
        random_adapter(base_q4, lora, [], 6)
        model.load_adapter(lora)
        with pytest.raises(SavedConversationError, match="style"):
            model.restore(tmp_path / "chat")


def test_saving_is_all_or_nothing(small, tmp_path):
    chat = small.conversation(messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(SavedConversationError):
        chat.save(tmp_path / "no folder" / "chat")
    path = tmp_path / "chat"
    path.mkdir()
    with pytest.raises(SavedConversationError):
        chat.save(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_conversation_that_was_never_computed_is_saved_as_text(small, tmp_path):
    messages = [{"role": "user", "content": "never asked before"}]
    small.conversation(messages=messages).save(tmp_path / "chat")
    assert small.restore(tmp_path / "chat").messages == messages
    header = (tmp_path / "chat").read_bytes()[16:-32]
    assert json.loads(header)["n_cells"] >= 0


def test_one_that_does_not_fit_is_refused_and_nothing_is_lost(open_model, tmp_path):
    with open_model(n_ctx=1024) as model:
        chat = model.conversation(messages=[{"role": "user", "content": "word " * 400}])
        chat.ask("Go on", max_tokens=1)
        chat.save(tmp_path / "chat")
    with open_model(n_ctx=256) as model:
        model.generate([300] * 50, max_tokens=1)
        with pytest.raises(ContextFullError, match="256"):
            model.restore(tmp_path / "chat")
        assert model.generate([300] * 50, max_tokens=1).usage.cached_tokens == 50
