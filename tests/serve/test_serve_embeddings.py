"""Embeddings of a model that pools, between answers of the same model."""

import numpy as np
import openai
import pytest
from live import running
from tiny import llama


@pytest.fixture(scope="module", params=[1, 3], ids=["mean", "last"])
def pooling(base_q4, tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("pooling")
    with running(folder / "log", "--model", llama(base_q4, folder / "pooling.gguf", request.param), "--ctx", 2048) as server:
        yield server


def test_embeddings(pooling):
    with pooling.client() as client:
        answer = lambda: client.completions.create(model="pooling", prompt="Whales", temperature=0, max_tokens=6).choices[0].text
        before = answer()
        embed = lambda texts, **how: [np.array(e.embedding) for e in client.embeddings.create(model="pooling", input=texts, **how).data]
        whales, ships, again = embed(["Whales sing.", "Ships sink.", "Whales sing."])
        assert np.array_equal(whales, again) and whales @ ships < 0.999
        assert np.linalg.norm(whales) == pytest.approx(1, abs=1e-5) and len(whales) == 64
        assert np.allclose(embed("Whales sing.", encoding_format="float")[0], whales, atol=1e-6)
        assert answer() == before
        with pytest.raises(openai.BadRequestError, match="expected at most 512 tokens"):
            embed("word " * 600)
        assert len(embed([1, 2, 3])) == 1
