"""What the tests of the engine share: small contexts on the embedded model, with two random adapters."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def random_adapters(base_q4, tmp_path_factory) -> dict[str, Path]:
    from tiny import INVOCATIONS, random_adapter

    folder = tmp_path_factory.mktemp("random")
    return {name: random_adapter(base_q4, folder / f"{name}.gguf", invocation, seed) for seed, (name, invocation) in enumerate(INVOCATIONS.items())}


@pytest.fixture(scope="session")
def open_model(base_q4, random_adapters):
    """Opens the embedded model with the adapters A and B; cells in float32, so that batches differ little."""
    from alora_gguf import Model

    def open_model(**options):
        model = Model(base_q4, **{"n_ctx": 512, "n_threads": 1, "type_k": "f32", "type_v": "f32", "flash_attn": False, **options})
        for path in random_adapters.values():
            model.register_adapter(path)
        return model

    return open_model


@pytest.fixture(scope="module")
def small(open_model):
    with open_model() as model:
        yield model
