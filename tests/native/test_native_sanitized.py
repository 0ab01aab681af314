"""The C-level tests under AddressSanitizer, LeakSanitizer and UndefinedBehaviorSanitizer; `make sanitize` runs all native tests so."""

import os
import subprocess
from pathlib import Path

import pytest
from native_models import llama, random_adapter, write_adapter, write_model


@pytest.fixture(scope="module")
def programs(repo) -> Path:
    """The folder of the programs."""
    path = Path(os.environ.get("ALORA_SANITIZED", repo / "build" / "sanitized" / "bin"))
    if not (path / "stress").exists():
        pytest.fail(f"{path}: expected the programs under sanitizers, got nothing; run the tests with `make test`")
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> tuple[Path, Path]:
    """A tiny base, and an adapter of it."""
    folder, model = tmp_path_factory.mktemp("sanitized"), llama()
    return write_model(folder / "base.gguf", model), write_adapter(folder / "adapter.gguf", model.architecture, random_adapter(model, 1))


@pytest.mark.parametrize("n_threads, n_rounds", [(1, 40), (3, 10)])
def test_adapters_come_and_go_and_nothing_is_left(programs, files, n_threads, n_rounds):
    done = subprocess.run([programs / "stress", *files, str(n_threads), str(n_rounds)], capture_output=True, text=True)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", f"{n_threads} threads, {n_rounds} adapters each\n")


def test_files_whose_names_no_code_page_has(programs, files, tmp_path):
    """What `make cross` runs on other systems."""
    done = subprocess.run([programs / "abroad", *files], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.endswith("\nok\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["stress", "abroad"])
def test_the_sanitizers_are_in_it(programs, name):
    program = (programs / name).read_bytes()
    assert b"__asan_init" in program and b"__ubsan_handle" in program
