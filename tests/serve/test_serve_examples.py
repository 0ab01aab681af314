"""The examples that the web page offers: what the bundled intrinsics say of them is right, with room to spare, however it is rounded."""

import json
import platform
from pathlib import Path

import pytest

EXAMPLES = json.loads((Path(__file__).parents[2] / "alora_gguf" / "serve" / "page" / "examples.json").read_text())
KERNELS = ["generic", "dotprod"] if platform.machine() in ("aarch64", "arm64") else ["generic", "avx2", "avx512"]
SHARES = {"answerability": "answerability_likelihood", "certainty": "certainty"}
SEEDS = range(2)


@pytest.mark.parametrize("rounding", [*KERNELS, "float32"])
def test_the_verdicts_on_the_examples_are_right(rounding, base_q4, request, monkeypatch):
    """Likelihoods are 0.2 or more on the right side of one half, behind answers of several seeds: what a person gets is one of them."""
    from alora_gguf import Model
    from alora_gguf.bundled import bundled_adapters

    if rounding != "float32":
        monkeypatch.setenv("ALORA_KERNEL", rounding)
    base = request.getfixturevalue("base_f32") if rounding == "float32" else base_q4
    wrong = []
    with Model(base, n_ctx=2048) as model:
        for name, path in bundled_adapters().items():
            model.load_adapter(path, name)
        for example in EXAMPLES:
            assert example["ask"].keys() <= model.adapters.keys()
            for seed in SEEDS:
                chat = model.conversation()
                answer = chat.ask(example["say"], seed=seed, max_tokens=80).text
                for name, said in chat.invoke_all(list(example["ask"])).items():
                    wanted, got = example["ask"][name], said.result
                    if isinstance(wanted, str):
                        is_right = [*got.values()] == [wanted]
                    else:
                        is_right = got[SHARES[name]] >= 0.7 if wanted else got[SHARES[name]] <= 0.3
                    if not is_right:
                        wrong.append((example["say"], answer, name, got))
    assert wrong == []


def test_every_example_shows_a_verdict_either_way():
    """Some are likely and some are not, and texts are what they have to be: what a model that says one thing always would not pass."""
    for name in SHARES:
        assert {example["ask"][name] for example in EXAMPLES if name in example["ask"]} == {True, False}
    assert all(isinstance(example["ask"].get("query-rewrite"), str) for example in EXAMPLES)
