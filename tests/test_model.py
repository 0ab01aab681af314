"""The model: its rows whatever the batches, its adapters coming and going, and bad input refused."""

import threading
import weakref

import numpy as np
import pytest
from reference import PRECISE, relative_error

from alora_gguf import ClosedError, ContextFullError, Model, ModelLoadError, PromptError, SequenceLimitError, UnknownAdapterError


@pytest.fixture(scope="module")
def small(base_q4):
    """Fewer cells and tokens in a batch than llama.cpp has outputs for, were it not told."""
    with Model(base_q4, n_ctx=256, n_batch=16, n_ubatch=8, n_seq_max=32, **PRECISE) as model:
        yield model


def filler(seed, n):
    return np.random.default_rng(seed).integers(100, 40000, n).tolist()


# rows


def test_chunks_equal_the_whole(base_f32, adapter_files):
    """In float32: the rounding of 4-bit products depends on the batch's shape and on the processor."""
    path = adapter_files["attention"]
    with Model(base_f32, n_ctx=256, **PRECISE) as model, Model(base_f32, n_ctx=256, n_batch=16, n_ubatch=8, **PRECISE) as chunked:
        chunked.load_adapter(path)
        # the invocation lies across batches of 16
        row = filler(0, 14) + list(model.load_adapter(path).invocation_tokens) + filler(1, 23)
        rows = [(row, None), (row, path.stem), (filler(2, 5), path.stem)]
        whole = model.logits(rows)
        for got, alone, want in zip(chunked.logits(rows), (model.logits([r])[0] for r in rows), whole):
            assert got.shape == want.shape and got.dtype == np.float32
            assert relative_error(got, want) < 2e-5 and relative_error(alone, want) < 2e-5
        assert relative_error(whole[1], whole[0]) > 1e-3


def test_rows_may_be_arrays_and_none_at_all(shared):
    assert shared.logits([]) == []
    got = shared.logits([(np.array([5, 6, 7]), None), [(5, 6, 7), None]])
    assert np.array_equal(got[0], got[1])


@pytest.mark.parametrize("rows, error", [
    ([([], None)], PromptError), ([([-1], None)], PromptError), ([([49152], None)], PromptError), ([([1.0], None)], PromptError),
    ([("ab", None)], PromptError), ([[1, 2, 3]], PromptError), (["ab"], PromptError), ([([1], "nobody")], UnknownAdapterError),
    ([([1] * 3000, None)], ContextFullError), ([([1], None)] * 17, SequenceLimitError),
], ids=range(10))  # fmt: skip
def test_bad_rows_are_refused_and_nothing_stays(small, shared, rows, error):
    model = small if error is ContextFullError else shared
    with pytest.raises(error) as raised:
        model.logits([([5, 6], None), *rows])
    assert "\n" not in str(raised.value)
    assert len(model.logits([([5, 6], None)])[0]) == 2


# adapters


def test_adapters_come_and_go(small, variants):
    prompt = filler(3, 4) + [1, 847, 42] + filler(4, 4)
    base = small.logits([(prompt, None)])[0]
    first = small.load_adapter(variants["other"], "a")
    adapted = small.logits([(prompt, "a")])[0]
    assert np.array_equal(adapted[:4], base[:4]) and (adapted[4:] != base[4:]).any(axis=-1).all()

    assert small.load_adapter(variants["answerability"], "a") is small.adapter("a") is not first  # under the same name
    assert np.array_equal(small.logits([(prompt, "a")])[0], base)  # its invocation does not occur
    small.unload_adapter("a")
    with pytest.raises(UnknownAdapterError, match=r"adapter 'a': expected one that is loaded \((none|other)\)"):
        small.logits([(prompt, "a")])
    with pytest.raises(UnknownAdapterError):
        small.unload_adapter("a")
    assert np.array_equal(small.logits([(prompt, None)])[0], base)

    small.load_adapter(variants["other"], "a")
    assert np.array_equal(small.logits([(prompt, "a")])[0], adapted)
    small.unload_adapter("a")


def test_a_conversation_outlives_its_adapters(small, variants):
    with small.conversation(system="Be brief.") as chat:
        chat.add("user", "Is it late?")
        for _ in range(2):
            small.load_adapter(variants["answerability"], "a")
            verdict = chat.invoke("a")
            small.unload_adapter("a")
            with pytest.raises(UnknownAdapterError):
                chat.invoke("a")
        assert verdict.usage.cached_tokens == verdict.usage.prompt_tokens  # the same file's cells, though it was loaded again


# life


@pytest.mark.parametrize("options, said", [
    ({"n_ctx": -1}, "n_ctx: expected a whole number from 0"), ({"n_ctx": 999_999_999}, "expected a context that fits into memory, got 999999999"), ({"n_ctx": "many"}, "got 'many'"), ({"n_batch": 0}, "n_batch"),
    ({"n_ubatch": 0}, "n_ubatch"), ({"n_seq_max": 0}, "n_seq_max: expected a whole number from 1 to 256, got 0"), ({"n_seq_max": 257}, "n_seq_max"),
    ({"n_threads": -1}, "n_threads"), ({"type_k": "q9"}, "type_k: expected one of f32, f16"), ({"type_v": 99}, "type_v: .*got 99"),
    ({"adapter_memory": -1}, "adapter_memory: expected a whole number from 0"), ({"type_v": "q8_0", "flash_attn": False}, "flash_attn"), ({"rpc_servers": ["127.0.0.1:1"]}, "RPC server '127.0.0.1:1'"),
    ({"rpc_servers": ["nowhere"]}, "RPC server 'nowhere'"),
], ids=str)  # fmt: skip
def test_bad_options_are_refused(base_q4, options, said):
    with pytest.raises(ModelLoadError, match=said) as raised:
        Model(base_q4, **{"n_ctx": 256, **options})
    assert "\n" not in str(raised.value)


def test_files_that_are_no_model_are_refused(base_q4, answerability, tmp_path):
    (tmp_path / "text.gguf").write_text("not a model\n" * 100)
    (tmp_path / "cut.gguf").write_bytes(base_q4.read_bytes()[:3_000_000])
    (tmp_path / "empty.gguf").touch()
    for path, said in (
        (tmp_path / "text.gguf", "magic"), (tmp_path / "cut.gguf", "corrupted or incomplete"), (tmp_path / "empty.gguf", "expected a GGUF model"),
        (tmp_path / "nothing.gguf", "got nothing"), (tmp_path, "got a folder"), (answerability, "expected a base model, got an adapter"),
    ):  # fmt: skip
        with pytest.raises(ModelLoadError, match=said) as raised:
            Model(path)
        assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_a_quantised_cache(base_q4):
    with Model(base_q4, n_ctx=256, type_k="q8_0", type_v="Q8_0", flash_attn=True) as model:
        assert np.isfinite(model.logits([(filler(5, 10), None)])[0]).all()


def test_everything_of_a_closed_model_says_so(base_q4, variants):
    model = Model(base_q4, n_ctx=256)
    model.load_adapter(variants["other"])
    chat, answering, judging = model.conversation(), model.conversation(), model.conversation()
    endless = {"stream": True, "grammar": "root ::= [a-z ] root"}
    answer, verdict = answering.ask("Count to ten.", **endless), judging.invoke("other", **endless, max_tokens=1000)
    next(answer)
    model.close()
    model.close()
    for call in (
        lambda: model.logits([([1], None)]), model.conversation, lambda: model.tokenize("a"), lambda: model.detokenize([5]),
        lambda: model.load_adapter(variants["other"]), lambda: chat.ask("Hm?"), lambda: chat.invoke_all([]), lambda: list(answer),
        lambda: list(verdict),
    ):  # fmt: skip
        with pytest.raises(ClosedError, match="was closed"):
            call()
    assert answering.messages == []
    for conversation in (chat, answering, judging):
        conversation.close()


def test_a_model_that_nobody_has_any_more_is_freed(base_q4, variants):
    model = Model(base_q4, n_ctx=256)
    model.load_adapter(variants["other"])
    model.conversation().invoke("other", max_tokens=2)
    model.generate("Once upon", max_tokens=2)
    context, model = model.engine.context, weakref.ref(model)
    assert model() is None and not context.ptr


def test_closing_waits_for_the_step_of_another_thread(base_q4):
    model = Model(base_q4, n_ctx=256)
    ended = []

    def talk():
        try:
            model.conversation().ask("Tell me a long story.", max_tokens=10_000, temperature=0, on_text=lambda _: speaking.set())
        except ClosedError as e:
            ended.append(e)

    speaking = threading.Event()
    thread = threading.Thread(target=talk)
    thread.start()
    assert speaking.wait(60)
    model.close()
    thread.join(60)
    assert len(ended) == 1
