"""The servers that the tests share: on a tiny random model, and the demo."""

import sys
from pathlib import Path

import pytest

for folder in ("serve", "engine"):
    sys.path.insert(0, str(Path(__file__).parent.parent / folder))


@pytest.fixture(scope="session")
def tiny_base(base_q4, tmp_path_factory) -> Path:
    from tiny import llama

    return llama(base_q4, tmp_path_factory.mktemp("tiny") / "tiny.gguf")


@pytest.fixture(scope="session")
def tiny_adapters(tiny_base, tmp_path_factory) -> dict[str, Path]:
    """Two intrinsics and an ordinary LoRA; the folder `more` has one that no server has at its start."""
    from tiny import random_adapter

    folder = tmp_path_factory.mktemp("tiny-adapters")
    (folder / "more").mkdir()
    made = {name: random_adapter(tiny_base, folder / f"{name}.gguf", invocation, seed)
            for seed, (name, invocation) in enumerate({"first": [901, 902], "second": [903], "plain": []}.items())}
    random_adapter(tiny_base, folder / "more" / "late.gguf", [904], 9)
    return made


@pytest.fixture(scope="session")
def server(tiny_base, tiny_adapters, tmp_path_factory):
    """On the tiny model, with its adapters, folders to load from, and the names that the conformance bodies ask for."""
    from live import running

    args = [arg for path in tiny_adapters.values() for arg in ("--adapter", path)]
    names = [arg for name in ("tiny", "original-model-name", "dummy-model-1b") for arg in ("--name", name)]
    more = tiny_adapters["first"].parent / "more"
    with running(tmp_path_factory.mktemp("server") / "log", "--model", tiny_base, "--ctx", 2048, *args, *names,
                 "--adapters-from", more, base=tiny_base, more=more, **tiny_adapters) as server:
        yield server


@pytest.fixture(scope="session")
def demo(tmp_path_factory):
    """`alora serve --demo`, and a folder to load adapters from."""
    from live import running

    more = tmp_path_factory.mktemp("demo-adapters")
    with running(tmp_path_factory.mktemp("demo") / "log", "--demo", "--ctx", 4096, "--adapters-from", more, more=more) as server:
        yield server
