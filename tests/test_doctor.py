"""The doctor: it says what is there, and finds what is wrong even where the library ends the process."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from alora_gguf.doctor.report import _FLAGS, _processor
from alora_gguf.runtime.folder import LIB_DIR

LIB = Path(os.environ.get("ALORA_LIB_PATH") or LIB_DIR)


def doctor(*argv, **env):
    code = "from alora_gguf.cli import main; raise SystemExit(main())"
    return subprocess.run([sys.executable, "-c", code, "doctor", *argv], capture_output=True, text=True, check=False, env={**os.environ, **env})


def test_a_whole_installation(repo):
    done = doctor("--json")
    report = json.loads(done.stdout)
    assert (done.returncode, done.stderr, report["problems"]) == (0, "", [])
    assert "CPU" in report["library"]["backends"] and report["library"]["devices"]["CPU"]["memory"] > 0
    assert report["processor"]["used"] and report["model"]["path"].endswith(".gguf") and report["model"]["state"] == "computes"
    names = {path.parent.parent.name for path in repo.glob("intrinsics/*/adapter/adapter_config.json")}
    assert report["adapters"] == dict.fromkeys(names, "computes")
    assert report["extras"].keys() == {"verify", "train", "bench"}  # what serve needs comes along


def test_for_people():
    done = doctor()
    lines = done.stdout.splitlines()
    assert (done.returncode, lines[-1]) == (0, "Nothing is wrong.")
    assert [line.split()[0] for line in lines[:4]] == ["alora_gguf", "llama.cpp", "library", "backends"]


def wrong(done) -> str:
    """The only problem."""
    lines = done.stdout.splitlines()
    assert (done.returncode, done.stderr, lines[-2]) == (1, "", "wrong:")
    return lines[-1]


@pytest.fixture
def broken(tmp_path) -> Path:
    folder = tmp_path / "lib"
    shutil.copytree(LIB, folder)
    return folder


def test_no_library(tmp_path):
    assert f"{tmp_path}: expected the libraries of alora_gguf, got none" in wrong(doctor(ALORA_LIB_PATH=str(tmp_path)))


def test_a_library_that_is_cut_short(broken):
    [path] = broken.glob("libllama.*")
    os.truncate(path, path.stat().st_size // 10)  # where the loader maps it, touching it is a SIGBUS
    assert re.search(f"{broken}: expected libraries that can be loaded.*; ", wrong(doctor(ALORA_LIB_PATH=str(broken))))


def test_a_library_that_is_something_else(broken):
    [path] = broken.glob("libggml-cpu.*")
    path.write_text("no library")
    said = wrong(doctor(ALORA_LIB_PATH=str(broken)))
    assert f"{broken}: expected libraries that can be loaded, got: " in said and said.endswith("; install the package again")


def test_a_library_without_the_patch(unpatched_lib):
    assert "expected the library of alora_gguf, got" in wrong(doctor(ALORA_LIB_PATH=str(unpatched_lib)))


def test_another_llama_cpp_python(tmp_path):
    info = tmp_path / "llama_cpp_python-0.0.1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: llama-cpp-python\nVersion: 0.0.1\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    assert "llama-cpp-python: expected " in (said := wrong(doctor(PYTHONPATH=path))) and "got 0.0.1" in said


def test_an_ability_that_this_processor_lacks():
    info = Path("/proc/cpuinfo")
    found = re.search(r"^flags\s*:(.*)$", info.read_text(), re.MULTILINE) if info.exists() else None
    lacking = [name for name, flag in _FLAGS.items() if found and flag not in found[1].split()]
    if not lacking:
        pytest.skip("it has all of them, or nothing says so")
    processor = {}
    [said] = _processor(processor, ["OPENMP", lacking[0]])
    assert said.startswith(f"processor: expected {lacking[0]}, which the library was built for, got none; ")
    assert processor["used"] == ["OPENMP", lacking[0]] and not set(processor["unused"]) & set(lacking)


def test_kernels_without_vectors():
    """They are slow, so it says so: a library of an old compiler has no others."""
    assert "kernels: expected those of a compiler with vectors, got scalar ones" in wrong(doctor(ALORA_KERNEL="scalar"))
    assert "adapters by the kernels generic" in doctor(ALORA_KERNEL="generic").stdout
