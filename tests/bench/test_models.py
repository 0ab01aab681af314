"""What is measured is a model and adapters like any others, and the same each time."""

import gguf
import numpy as np
import pytest

from alora_gguf.bench.models import RANK, SHAPES, Files, invocation_of
from alora_gguf.errors import ModelLoadError


def test_the_random_model_runs_with_its_adapters(files):
    from alora_gguf import Model

    with Model(files.model("tiny"), n_ctx=256) as model:
        model.load_adapter(files.adapter("tiny", 0), "a")
        tokens = [1, 500, 600, *invocation_of(0)]
        base, adapted = model.logits([(tokens, None), (tokens, "a")])
        assert np.isfinite(base).all() and np.isfinite(adapted).all()
        assert np.abs(adapted - base)[:3].max() < 1e-3 < np.abs(adapted - base)[3:].max()
        assert not any(model.vocab.is_eog(int(token)) for token in adapted.argmax(axis=-1))


def test_an_adapter_has_every_linear_layer(files):
    shape = SHAPES["tiny"]
    tensors = gguf.GGUFReader(files.adapter("tiny", 1)).tensors
    assert len(tensors) == 2 * 7 * shape.n_layer
    assert {min(tensor.shape) for tensor in tensors} == {RANK}


def test_what_is_made_twice_is_the_same(files, tmp_path):
    weights = lambda f, number: (f.peft_adapter("tiny", number) / "adapter_model.safetensors").read_bytes()
    assert weights(files, 2) == weights(Files(tmp_path), 2) != weights(files, 3)


def test_an_unknown_model_is_refused_by_name(files):
    with pytest.raises(ModelLoadError, match="'2b': expected one of .*135m"):
        files.model("2b")
