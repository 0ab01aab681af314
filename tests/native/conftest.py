"""Tiny models and adapters on disk, and what their logits must be."""

import tarfile
from pathlib import Path

import numpy as np
import pytest
from native_models import (
    TinyAdapter,
    TinyModel,
    bert,
    bloom,
    gemma2,
    gemma3,
    granite_hybrid,
    llama,
    mamba,
    merged,
    random_adapter,
    t5,
    write_adapter,
    write_model,
)
from native_runtime import Runtime

MODELS = {
    "dense": llama(),
    "tied": llama(tied=True),
    "experts": llama(n_expert=4),
    "hybrid": granite_hybrid(),
    "encoder": bert(),
    "wide": llama(n_dim=32),
    "one head each": llama(n_head_kv=4),
    "many heads": llama(n_dim=8, n_head=60, n_head_kv=1),
    "recurrent": mamba(),
    "windows": gemma3(),
    "soft cap": gemma2(),
    "slopes": bloom(),
    "both": t5(),
}


class Zoo:
    """Writes a model at its first use, an adapter and a merged model at every use."""

    def __init__(self, folder: Path):
        self._folder, self._n_files = folder, 0

    def path(self) -> Path:
        self._n_files += 1
        return self._folder / f"{self._n_files}.gguf"

    def model(self, kind: str) -> TinyModel:
        return MODELS[kind]

    def base(self, kind: str) -> Path:
        path = self._folder / f"{kind}.gguf"
        return path if path.exists() else write_model(path, MODELS[kind])

    def adapter(self, kind: str, seed: int = 1, **options) -> TinyAdapter:
        return random_adapter(MODELS[kind], seed, **options)

    def load(self, runtime: Runtime, kind: str, adapter: TinyAdapter) -> int:
        return runtime.load(write_adapter(self.path(), MODELS[kind].architecture, adapter))

    def expected(self, kind: str, tokens: list[int], start: int, *adapters: tuple[TinyAdapter, float]) -> np.ndarray:
        """Logits of every token, where the adapters, each times its scale, are active from `start` on.

        Nothing of ours computes it: the base decodes what lies before the start, and a model whose weights
        have the adapters in them goes on from its cells.
        """
        with Runtime(self.base(kind)) as base, Runtime(write_model(self.path(), merged(MODELS[kind], *adapters))) as adapted:
            before = base.logits((0, tokens[:start], 0)) if start else []
            if start:
                assert adapted.restore(0, base.save(0))
            after = adapted.logits((0, tokens[start:], start)) if start < len(tokens) else []
        return np.concatenate([*before, *after])


@pytest.fixture(scope="session")
def zoo(tmp_path_factory) -> Zoo:
    return Zoo(tmp_path_factory.mktemp("zoo"))


@pytest.fixture(scope="session")
def archive(unpatched_lib) -> Path:
    """The source distribution that the build downloaded."""
    return next(unpatched_lib.parent.glob("llama_cpp_python-*.tar.gz"))


@pytest.fixture(scope="session")
def pristine(archive, tmp_path_factory) -> Path:
    """llama.cpp's own source, as it comes in the archive."""
    out = tmp_path_factory.mktemp("source")
    with tarfile.open(archive) as tar:
        prefix = f"{archive.name.removesuffix('.tar.gz')}/vendor/llama.cpp/"
        for member in tar:
            name = member.name.removeprefix(prefix)
            if member.isfile() and name.startswith(("CMakeLists.txt", "LICENSE", "src/", "include/", "ggml/include/", "ggml/src/ggml-cpu/ops.cpp")):
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                (out / name).write_bytes(tar.extractfile(member).read())
    return out
