"""Saved conversations: they go on where they were, in another process's model too; what is wrong is refused."""

import hashlib
import json
import os
import random
import signal
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import random_adapter

from alora_gguf import AloraError, ContextFullError, Model, SavedConversationError, UnknownAdapterError
from alora_gguf.conversation.saved import check_target

IO_YAML = "model: ~\nresponse_format: ~\ntransformations: ~\nparameters: {{max_completion_tokens: 6}}\ninstruction: '{}'\n"
JUDGES = {"judge": "Please judge what was said, at once. <judge> Now.", "weigh": "Please judge what was asked. <weigh> Well?"}
GREEDY = {"logprobs": True, "top_logprobs": 3}


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
    (b'{"version": 1}', "version: expected 6, got 1"),
    (b'{"version": 6}', "header: expected llama_cpp in it, got NoneType"),
    (b'{"version": 6, "llama_cpp": "0.3.36", "model": 5}', "header: expected model in it, got int"),
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
    from tiny import llama

    path = saved[0]
    with (
        Model(llama(base_q4, tmp_path / "other.gguf"), n_ctx=256, n_threads=1) as other,
        pytest.raises(SavedConversationError, match=f"expected a conversation with other, got one with {base_q4.stem}; load the model"),
    ):
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


def test_saving_is_all_or_nothing(small, tmp_path, monkeypatch):
    chat = small.conversation(messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(SavedConversationError):
        chat.save(tmp_path / "no folder" / "chat")
    path = tmp_path / "chat"
    path.mkdir()
    with pytest.raises(SavedConversationError):
        chat.save(path)
    with monkeypatch.context() as m, pytest.raises(KeyboardInterrupt):
        m.setattr("os.fsync", lambda _: signal.raise_signal(signal.SIGINT))
        chat.save(tmp_path / "another")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_what_is_no_file_is_not_waited_for(small, tmp_path):
    """Neither a pipe that nobody writes into nor a device without an end."""
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(SavedConversationError, match="got another kind of file"):
            small.restore(path)
        with pytest.raises(SavedConversationError, match="got another kind of file"):
            check_target(path)


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
        chat = model.restore(tmp_path / "chat", on_full="drop-oldest")  # where the next question leaves it out
        assert len(chat.messages) == 3 and chat.n_dropped == 0
        reply = chat.ask("Go on", max_tokens=1)
        assert chat.n_dropped == 3 and len(reply.warnings) == 1 and len(chat.messages) == 5


# what stands between the conversation and an intrinsic


@pytest.fixture(scope="module")
def open_judged(base_q4, tmp_path_factory):
    """Opens a model whose intrinsics have an instruction, of which some is the base's."""
    folder = tmp_path_factory.mktemp("judges")

    def open_judged(**options):
        model = Model(base_q4, **{"n_ctx": 1024, "n_threads": 1, **options})
        for seed, (name, instruction) in enumerate(JUDGES.items()):
            file = folder / f"{name}.gguf"
            if not file.exists():
                random_adapter(base_q4, file, model.tokenize(f" <{name}>"), seed)
                (folder / f"{name}.io.yaml").write_text(IO_YAML.format(instruction))
            model.load_adapter(file)
        return model

    return open_judged


@pytest.fixture(scope="module")
def judged(open_judged, tmp_path_factory):
    """A file that was saved after all intrinsics were asked, and what they said: the tokens and their likelihoods."""
    path = tmp_path_factory.mktemp("judged") / "chat"
    with open_judged() as model:
        chat = model.conversation(system="You answer briefly.")
        chat.ask("What is the tallest mountain?", max_tokens=12, temperature=0)
        verdicts = {name: chat.invoke(name, **GREEDY) for name in JUDGES}
        chat.save(path)
    return path, verdicts


def header_of(path) -> tuple[dict, bytes]:
    data = path.read_bytes()
    n = int.from_bytes(data[8:16], "little")
    return json.loads(data[16 : 16 + n]), data[16 + n : -32]


def write(path, header: dict, states: bytes) -> None:
    text = json.dumps(header).encode()
    data = b"ALORACNV" + struct.pack("<Q", len(text)) + text + states
    path.write_bytes(data + hashlib.sha256(data).digest())


def test_an_intrinsic_that_is_asked_again_stands_on_the_same_cells(judged, open_judged, tmp_path, monkeypatch):
    path, verdicts = judged
    with open_judged() as model:
        model.generate(list(range(300, 337)), max_tokens=1)  # cells lie elsewhere
        chat = model.restore(path)
        decode, decoded = model.engine.context.decode, []
        monkeypatch.setattr(model.engine.context, "decode", lambda spans: (decoded.extend(spans), decode(spans))[1])
        for _ in range(2):
            for name, before in verdicts.items():
                again = chat.invoke(name, **GREEDY)
                assert (again.tokens, again.logprobs) == (before.tokens, before.logprobs)
                adapted = model.tokenize(JUDGES[name])
                assert before.usage.prompt_tokens - again.usage.cached_tokens <= len(adapted)
            chat.save(tmp_path / "again")  # what was restored is saved again
            model.clear_cache()
            chat = model.restore(tmp_path / "again")
            assert model.engine.context.n_free_seqs == model.engine.context.n_seq_max - 3
        starts = {name: chat.fork(model.adapter(name), chat.messages).activations[-1].start for name in JUDGES}
        assert min(span.start for span in decoded) >= min(starts.values())  # of the base's tokens, none was computed again
        n = model.engine.loop.call(lambda: model.engine.cache.n_cells)
        assert model.restore(tmp_path / "again").messages and model.engine.loop.call(lambda: model.engine.cache.n_cells) == n  # all is there


def test_what_both_begin_with_is_saved_once(judged):
    header, states = header_of(judged[0])
    one, other = header["asides"]
    shared = next(i for i, (a, b) in enumerate(zip(one["tokens"], other["tokens"])) if a != b)
    assert shared > 2 and one["after"] == other["after"] == len(header["tokens"])
    assert (one["n_cells"], other["n_cells"]) == (len(one["tokens"]), len(other["tokens"]) - shared)
    assert len(states) > one["n_bytes"] + other["n_bytes"]


def test_nothing_of_others_is_saved_with_it(open_judged, tmp_path):
    with open_judged() as model:
        chats = [
            model.conversation(system="You answer briefly.", messages=[{"role": "user", "content": f"{word} is my secret"}])
            for word in ("one", "two")
        ]
        for chat in chats:
            chat.invoke("judge", max_tokens=1)
        chats[0].save(tmp_path / "chat")
        header, _ = header_of(tmp_path / "chat")
        assert "two" not in model.detokenize([t for aside in header["asides"] for t in aside["tokens"]])
        chats[0].messages[-1]["content"] = "another question"
        chats[0].save(tmp_path / "chat")
        assert header_of(tmp_path / "chat")[0]["asides"] == []  # it was asked of what is not said any more


def test_what_is_taken_back_after_an_intrinsic_is_saved_as_a_file_that_can_be_read(open_judged, tmp_path):
    """What intrinsics were asked on is not said any more, in part or wholly: taken back, or left out of a full context."""
    with open_judged() as model:
        chat = model.conversation(system="You answer briefly.")
        for question in ("What is the tallest mountain?", "And the longest river?", "And the widest sea?"):
            chat.ask(question, **GREEDY)
            chat.invoke("judge", max_tokens=1)
        messages = list(chat.messages)
        for n_kept, n_dropped in ((7, 4), *((n, 0) for n in range(6, -1, -1))):
            chat.messages[n_kept:], chat.n_dropped = [], n_dropped
            chat.save(tmp_path / "chat")
            assert model.restore(tmp_path / "chat").messages == messages[:n_kept]


def test_asides_that_have_no_room_are_left_away(judged, open_judged):
    path, verdicts = judged
    n = header_of(path)[0]["n_cells"]
    for options in ({"n_seq_max": 1}, {"n_seq_max": 2}, {"n_ctx": 256}):
        with open_judged(**options) as model:
            chat = model.restore(path)
            assert chat.invoke("weigh", max_tokens=1).usage.cached_tokens >= n
            model.clear_cache()
            assert model.engine.loop.call(lambda: (model.engine.cache.n_cells, model.engine.context.n_free_seqs)) == (
                0,
                model.engine.context.n_seq_max,
            )


def test_a_memory_without_ranges_of_cells_saves_the_conversation_alone(base_q4, open_judged, tmp_path):
    from tiny import gemma3, mamba2

    for maker, window in ((mamba2, {}), (gemma3, {"window": 16})):
        base = maker(base_q4, tmp_path / f"{maker.__name__}.gguf", **window)
        with Model(base, n_ctx=256, n_threads=1, swa_full=False) as model:
            lora = random_adapter(base, tmp_path / f"{maker.__name__}-judge.gguf", model.tokenize(" <judge>"), 1, targets=("ssm_in", "attn_k"))
            (tmp_path / f"{maker.__name__}-judge.io.yaml").write_text(IO_YAML.format(JUDGES["judge"]))
            model.load_adapter(lora, "judge")
            chat = model.conversation()
            chat.ask("Hello?", max_tokens=5, temperature=0)
            chat.invoke("judge", max_tokens=2)
            chat.save(tmp_path / "chat")
            assert header_of(tmp_path / "chat")[0]["asides"] == []
            model.clear_cache()
            assert model.restore(tmp_path / "chat").invoke("judge", max_tokens=2).usage.cached_tokens > 10


@pytest.mark.parametrize("change", [
    {"after": -1}, {"after": 10**9}, {"after": "1"}, {"n_cells": 0}, {"n_cells": 10**6}, {"n_bytes": 0}, {"n_bytes": 10**30}, {"n_bytes": None},
    {"tokens": []}, {"tokens": ["a"]}, {"tokens": [-1]}, {"tokens": {}},
], ids=str)  # fmt: skip
def test_an_aside_that_cannot_be_is_refused(judged, small, tmp_path, change):
    header, states = header_of(judged[0])
    header["asides"][0].update(change)
    write(tmp_path / "chat", header, states)
    with pytest.raises(SavedConversationError, match="chat"):
        small.restore(tmp_path / "chat")


@pytest.mark.parametrize("seed", range(12))
def test_states_of_a_hostile_file_do_no_harm(judged, open_judged, tmp_path, seed):
    """With a SHA-256 that fits: it is refused, or its cells are as they are; the model goes on."""
    rng = random.Random(seed)
    header, states = header_of(judged[0])
    states = bytearray(states)
    ends = [len(states) - sum(aside["n_bytes"] for aside in header["asides"][i:]) for i in range(3)]
    for _ in range(rng.randint(1, 3)):
        at = rng.choice([0, *ends[:2]]) + 4 * rng.randint(0, 40)  # where counts and positions stand
        states[at : at + 4] = struct.pack("<I", rng.choice([0, 1, 2, 60, 2**31 - 1, 2**31, 2**32 - 1]))
    if rng.random() < 0.3:
        header["asides"][0]["n_bytes"] += rng.choice([-8, 8])
    write(tmp_path / "chat", header, bytes(states))
    with open_judged() as model:
        try:
            chat = model.restore(tmp_path / "chat")
        except (SavedConversationError, ContextFullError):
            chat = model.conversation(messages=[{"role": "user", "content": "Hi"}])
        try:
            chat.invoke("judge", max_tokens=2)
        except AloraError:
            pass  # cells that are none
        model.clear_cache()
        assert model.engine.loop.call(lambda: (model.engine.cache.n_cells, model.engine.context.n_free_seqs)) == (0, model.engine.context.n_seq_max)
        assert model.generate([300, 301], max_tokens=1).tokens
