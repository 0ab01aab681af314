"""Adapters by name: in memory while they are needed and there is room."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tiny import INVOCATIONS, first_logprobs

from alora_gguf import AdapterFileError, AdapterMemoryError, Model, UnknownAdapterError

N = 6
PROMPT = list(range(300, 310)) + INVOCATIONS["A"]


@pytest.fixture(scope="module")
def crowd(base_q4, random_adapters, tmp_path_factory):
    """A model with N adapters by name and room for three."""
    folder = tmp_path_factory.mktemp("crowd")
    size = random_adapters["A"].stat().st_size
    with Model(base_q4, n_ctx=512, n_threads=1, adapter_memory=int(3.5 * size)) as model:
        for i in range(N):
            shutil.copy(random_adapters["A"], folder / f"a{i}.gguf")
            model.register_adapter(folder / f"a{i}.gguf")
        yield model


def resident(model) -> list[str]:
    return model.engine.loop.call(lambda: [a.name for a in model.adapters.values() if a.ptr])


@settings(max_examples=5, deadline=None, derandomize=True, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.integers(0, N - 1), min_size=1, max_size=8))
def test_the_three_that_were_used_last_are_in_memory(crowd, order):
    for i in [3, 4, 5, *order]:
        crowd.generate(PROMPT, adapter=f"a{i}", max_tokens=1)
    last = list(dict.fromkeys(reversed([3, 4, 5, *order])))[:3]
    assert sorted(resident(crowd)) == sorted(f"a{i}" for i in last)
    assert crowd.adapters.n_bytes <= crowd.engine.loop.call(lambda: crowd.adapters._budget)


def test_more_at_once_than_fit_wait_for_each_other(crowd):
    with ThreadPoolExecutor(N) as pool:
        replies = list(pool.map(lambda i: crowd.generate(PROMPT, adapter=f"a{i}", max_tokens=3, temperature=0), range(N)))
    assert len({tuple(reply.tokens) for reply in replies}) == 1
    assert len(resident(crowd)) == 3


def test_cells_outlive_the_tensors(crowd):
    crowd.generate(PROMPT, adapter="a0", max_tokens=1)
    for i in (1, 2, 3, 4):
        crowd.generate(PROMPT, adapter=f"a{i}", max_tokens=1)
    assert "a0" not in resident(crowd)
    assert crowd.generate(PROMPT, adapter="a0", max_tokens=1).usage.cached_tokens == len(PROMPT)


def test_names_come_and_go(open_model, random_adapters, base_q4, tmp_path):
    from tiny import random_adapter

    path = shutil.copy(random_adapters["A"], tmp_path / "x.gguf")
    with open_model() as model:
        model.load_adapter(path)
        assert resident(model) == ["x"]
        first = first_logprobs(model, PROMPT, "x")
        model.generate(PROMPT, adapter="x", max_tokens=1)
        model.unload_adapter("x")
        assert resident(model) == []
        with pytest.raises(UnknownAdapterError, match="A, B"):
            model.generate(PROMPT, adapter="x")
        model.load_adapter(path)
        assert model.generate(PROMPT, adapter="x", max_tokens=1).usage.cached_tokens == len(PROMPT)  # the same file
        other = random_adapter(base_q4, tmp_path / "other.gguf", INVOCATIONS["A"], 9)
        model.load_adapter(other, "x")
        assert resident(model) == ["x"]
        assert model.generate(PROMPT, adapter="x", max_tokens=1).usage.cached_tokens == 10  # not its cells
        assert abs(first_logprobs(model, PROMPT, "x") - first).max() > 1


def test_an_adapter_in_use_stays_until_the_call_has_ended(open_model, random_adapters, tmp_path):
    path = shutil.copy(random_adapters["A"], tmp_path / "x.gguf")
    with open_model() as model:
        model.load_adapter(path)
        stream = model.generate(PROMPT, adapter="x", max_tokens=30, temperature=0, stream=True)
        next(stream)
        model.unload_adapter("x")
        model.load_adapter(random_adapters["B"], "x")
        assert stream.result.finish_reason in ("stop", "length")
        assert model.engine.loop.call(lambda: len(model.adapters._resident)) == 1


def test_what_is_wrong_with_a_file_is_said_by_the_call_that_needs_it(open_model, random_adapters, tmp_path):
    path = tmp_path / "x.gguf"
    with open_model() as model:
        with pytest.raises(AdapterFileError):
            model.register_adapter(path)
        path.write_bytes(b"not an adapter")
        model.register_adapter(path)
        with pytest.raises(AdapterFileError):
            model.generate(PROMPT, adapter="x")
        shutil.copy(random_adapters["A"], path)
        model.register_adapter(path)
        model.adapter("x").metadata  # noqa: B018
        shutil.copy(random_adapters["B"], path)
        os.utime(path, ns=(1, 1))
        with pytest.raises(AdapterFileError, match="changed"):
            model.generate(PROMPT, adapter="x")
        assert model.generate(PROMPT, adapter="A", max_tokens=1).tokens


def test_one_larger_than_all_the_room_is_refused(base_q4, random_adapters):
    with Model(base_q4, n_ctx=256, n_threads=1, adapter_memory=1000) as model:
        with pytest.raises(AdapterMemoryError, match="1000"):
            model.load_adapter(random_adapters["A"])
        model.register_adapter(random_adapters["A"])
        with pytest.raises(AdapterMemoryError):
            model.generate(PROMPT, adapter="A")
        assert model.generate(PROMPT, max_tokens=1).tokens
