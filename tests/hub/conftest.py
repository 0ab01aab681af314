"""What the tests of the hub share: a hub on the loopback interface, and Python in a process that knows it."""

import os
import shutil
import sys
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "prompt"))

from hub_server import BASE, LIBRARY, SMOL, Hub, environment, run_alora, run_python


@pytest.fixture(scope="session")
def contents(repo, base_q4, tmp_path_factory):
    """The embedded model and an adapter for it; bases in several quantisations, one split; a library of intrinsics in both layouts; an adapter as a repository."""
    import tiny_peft

    root = tmp_path_factory.mktemp("contents")
    (root / BASE).mkdir(parents=True)
    base = tiny_peft.write_base(root / "base.gguf")
    for name in ("tiny-1b-Q8_0", "tiny-1b-Q4_K", "tiny-1b-Q4_K_M", "mmproj-Q4_K_M"):
        shutil.copy(base, root / BASE / f"{name}.gguf")
    for i in (1, 2, 3):
        (root / BASE / "F32").mkdir(exist_ok=True)
        (root / BASE / "F32" / f"tiny-1b-F32-0000{i}-of-00003.gguf").write_bytes(base.read_bytes() if i == 1 else b"part %d" % i)
    for folder, invocation in {
        f"{LIBRARY}/relevance/tiny-1b/alora": [5, 6],
        f"{LIBRARY}/relevance/tiny-1b/lora": None,
        f"{LIBRARY}/relevance/tiny-10b/alora": [7],
        f"{LIBRARY}/citations/tiny-1b/lora": None,
        f"{LIBRARY}/older/alora/tiny-1b": [8],
        f"{LIBRARY}/older/lora/tiny-1b": None,
        "acme/one-adapter": [9],
    }.items():
        path = tiny_peft.write_adapter(root / folder, alora_invocation_tokens=invocation)
        (path / "optimizer.pt").write_bytes(b"nobody asked for it")
        (path / "README.md").write_text("---\nlicense: mit\n---\n")
    os.remove(base)
    (root / SMOL).mkdir()
    (root / SMOL / "SmolLM2-135M-Instruct-Q4_K_M.gguf").symlink_to(base_q4)
    shutil.copytree(repo / "tests" / "adapters" / "answerability", root / LIBRARY / "answerability" / "smollm2-135m-instruct" / "alora")
    return root


@pytest.fixture
def hub(contents, tmp_path):
    shutil.copytree(contents, tmp_path / "served", symlinks=True)
    with Hub(tmp_path / "served") as hub:
        yield hub


@pytest.fixture
def base(hub):
    """The base of the library, on this machine."""
    return hub.root / BASE / "tiny-1b-Q4_K_M.gguf"


@pytest.fixture(scope="session")
def granites(tmp_path_factory):
    """Of tests/tiny_granite.py, by name."""
    from real_templates import FOLDER
    from tiny_granite import write_granites

    if not FOLDER.is_dir():
        pytest.skip(f"{FOLDER}: no templates; run `make test`")
    return write_granites(tmp_path_factory.mktemp("granites"), FOLDER)


@pytest.fixture
def env(hub, tmp_path):
    return environment(hub, tmp_path)


@pytest.fixture
def python(env):
    return partial(run_python, env)


@pytest.fixture
def alora(env):
    return partial(run_alora, env)
