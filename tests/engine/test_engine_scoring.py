"""Labels after a prompt: their log probabilities are those of computing each by itself, whatever shares a batch with what."""

import random
import threading

import numpy as np
import pytest
from tiny import INVOCATIONS, gemma3, llama, mamba2, random_adapter

from alora_gguf import ContextFullError, Model
from alora_gguf.engine.cache import Activation
from alora_gguf.engine.scoring import Scores, Scoring, Tree

TEXT = [300 + i % 7 for i in range(40)]
LABELS = [[400], [401, 402], [401, 403, 404], [401, 403, 405], [406, 402], [401, 403, 404, 407, 408]]


def scored(model, *scorings, wait=True):
    """Submits them together, and waits."""
    left = threading.Semaphore(0)
    for scoring in scorings:
        scoring.on_end = left.release
    model.engine.loop.submit(*scorings)
    for _ in scorings:
        assert left.acquire(timeout=120)
    return [scoring.result() for scoring in scorings]


def scoring(model, prompt, labels, adapter=None, **options):
    chosen = model.adapter(adapter) if adapter else None
    start = chosen.start_in(prompt) if chosen else None
    return Scoring(prompt, labels, model.vocab, activations=[Activation(chosen, start)] if chosen else [], **options)


def expected(model, prompt, labels, adapter=None):
    """Each label in a row of its own."""
    sums = []
    for label in labels:
        [row] = model.logits([([*prompt, *label], adapter)])
        row = row.astype(np.float64)
        row -= row.max(axis=1, keepdims=True)
        logprobs = row - np.log(np.exp(row).sum(axis=1, keepdims=True))
        sums.append(sum(logprobs[len(prompt) - 1 + i, token] for i, token in enumerate(label)))
    return np.array(sums)


def check(got, wanted):
    """Gemma's GELU is a table of 16 bits in ggml, so that its batches differ."""
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=1e-3)


@pytest.fixture(scope="module")
def models(base_q4, tmp_path_factory):
    """A transformer, one with a window, and a recurrent one, each with an activated adapter A."""
    folder = tmp_path_factory.mktemp("scoring")
    made = {
        "llama": (llama(base_q4, folder / "llama.gguf"), ("attn_q", "ffn_down")),
        "gemma3": (gemma3(base_q4, folder / "gemma3.gguf", 16), ("attn_q", "ffn_down")),
        "mamba2": (mamba2(base_q4, folder / "mamba2.gguf"), ("ssm_in",)),
    }
    opened = {}
    for name, (path, targets) in made.items():
        opened[name] = Model(path, n_ctx=1024, n_threads=1, type_k="f32", type_v="f32", flash_attn=False)
        opened[name].load_adapter(random_adapter(path, folder / f"{name}-A.gguf", INVOCATIONS["A"], 3, targets=targets), "A")
    yield opened
    for model in opened.values():
        model.close()


@pytest.fixture(params=["llama", "gemma3", "mamba2"])
def model(request, models):
    models[request.param].clear_cache()
    return models[request.param]


@pytest.mark.parametrize("adapter", [None, "A"])
def test_labels_are_scored_as_each_by_itself(model, adapter):
    prompt = TEXT + INVOCATIONS["A"]
    [got] = scored(model, scoring(model, prompt, LABELS, adapter))
    check(got, expected(model, prompt, LABELS, adapter))


def test_questions_of_many_kinds_share_a_batch(model):
    prompts = [(TEXT + [310 + i] * i + INVOCATIONS["A"], "A" if i % 2 else None) for i in range(8)]
    got = scored(model, *(scoring(model, prompt, LABELS[: 2 + i % 5], adapter) for i, (prompt, adapter) in enumerate(prompts)))
    for i, (prompt, adapter) in enumerate(prompts):
        check(got[i], expected(model, prompt, LABELS[: 2 + i % 5], adapter))


def test_the_order_of_labels_changes_nothing(model):
    [first] = scored(model, scoring(model, TEXT, LABELS))
    order = random.Random(1).sample(range(len(LABELS)), len(LABELS))
    [other] = scored(model, scoring(model, TEXT, [LABELS[i] for i in order]))
    check(other, first[order])


def test_labels_after_a_prompt_that_is_in_the_cache(model):
    [first] = scored(model, scoring(model, TEXT, LABELS))
    model.generate(TEXT, max_tokens=3)
    again = scoring(model, TEXT, LABELS)
    [got] = scored(model, again)
    assert again.usage.cached_tokens >= len(TEXT) - 1
    check(got, first)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_all_of_it_is_one_batch(models, monkeypatch, name):
    model = models[name]
    model.clear_cache()
    model.generate(TEXT, max_tokens=1)
    n = []
    decode = model.engine.context.decode
    monkeypatch.setattr(model.engine.context, "decode", lambda spans: (n.append(sum(len(s.tokens) for s in spans)), decode(spans))[1])
    scored(model, *(scoring(model, [*TEXT, 310 + i, 320], LABELS) for i in range(5)))
    assert n == [5 * (2 + len(Tree(LABELS).tokens))]


def test_255_labels_of_several_tokens(models, monkeypatch):
    """More ways than there are sequences: they take turns."""
    model = models["llama"]
    labels = [[400 + i // 16, 500 + i % 16, 600 + i] for i in range(255)]
    [got] = scored(model, scoring(model, TEXT, labels))
    check(got[::17], expected(model, TEXT, labels[::17]))
    free = model.engine.context._free_seqs
    kept, free[:] = list(free), free[:3]
    try:
        [few] = scored(model, scoring(model, [*TEXT, 310], labels[:20]))
    finally:
        free[:] = [*kept[: len(kept) - 3], *free]
    check(few, expected(model, [*TEXT, 310], labels[:20]))


def test_no_sequence_and_no_cell_is_lost(model):
    n_before = model.engine.context.n_free_seqs
    for _ in range(3):
        scored(model, *(scoring(model, [*TEXT, 310 + i], LABELS) for i in range(6)))
    model.clear_cache()
    assert (model.engine.context.n_free_seqs, model.engine.cache.n_cells) == (n_before, 0)


def test_where_cells_are_few_labels_take_turns(base_q4, tmp_path):
    with Model(llama(base_q4, tmp_path / "tiny.gguf"), n_ctx=256, n_threads=1, type_k="f32", type_v="f32", flash_attn=False) as model:
        labels = [[400 + i, 500, 600] for i in range(200)]
        many, few, none = scoring(model, TEXT, labels), scoring(model, [*TEXT, 310], LABELS), scoring(model, [*TEXT, 311], [[400] * 300])
        with pytest.raises(ContextFullError, match="expected room for"):
            scored(model, many, few, none)
        with pytest.raises(ContextFullError):
            none.result()
        check(few.result(), expected(model, [*TEXT, 310], LABELS))
        check(many.result()[::50], expected(model, TEXT, labels[::50]))
        assert model.engine.context.n_free_seqs == 256 - len(model.engine.cache._by_seq)


def test_a_cancelled_one_has_no_result(model):
    one, other = scoring(model, TEXT, LABELS), scoring(model, [*TEXT, 310], LABELS)
    one.cancel()
    assert [found is None for found in scored(model, one, other)] == [True, False]


def test_what_was_found_is_known_by_all_that_went_into_it(model):
    scores = Scores(2)
    prompt = TEXT + INVOCATIONS["A"]
    base, adapted, salted = scoring(model, prompt, LABELS), scoring(model, prompt, LABELS, "A"), scoring(model, prompt, LABELS, cache_salt="x")
    assert scores.get(base) is None
    [found] = scored(model, base)
    scores.put(base)
    assert scores.get(scoring(model, prompt, LABELS)) is found
    assert [scores.get(other) for other in (adapted, salted, scoring(model, TEXT, LABELS), scoring(model, prompt, LABELS[1:]))] == [None] * 4
    scored(model, adapted, salted)
    scores.put(adapted)
    scores.put(salted)
    assert scores.get(base) is None  # the oldest goes
