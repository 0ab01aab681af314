"""Which libllama is loaded, each time in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import alora_gguf
from alora_gguf.runtime.folder import LIB_DIR


def run(code, cwd=None, **env):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, **env})


def test_a_foreign_llama_cpp_is_refused(unpatched_lib):
    done = run(
        """
import llama_cpp
import alora_gguf
for _ in range(2):
    try:
        alora_gguf.Model
    except ImportError as e:
        assert isinstance(e, alora_gguf.ForeignLibraryError)
        print(e)
""",
        LLAMA_CPP_LIB_PATH=str(unpatched_lib),
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 2 and lines[0] == lines[1]
    assert str(unpatched_lib) in lines[0] and lines[0].endswith("import alora_gguf before llama_cpp")


def test_ours_first_and_llama_cpp_after_it(unpatched_lib):
    done = run(
        """
import os
from alora_gguf import Model
from llama_cpp import llama_cpp
assert llama_cpp._lib.alora_abi_version() == 3
print(os.environ["LLAMA_CPP_LIB_PATH"])
""",
        LLAMA_CPP_LIB_PATH=str(unpatched_lib),
    )
    assert done.stdout.strip() == str(unpatched_lib), done.stderr  # a child process decides for itself


def test_a_folder_without_libraries_is_named(tmp_path):
    done = run("from alora_gguf import Model", ALORA_LIB_PATH=str(tmp_path))
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert "ForeignLibraryError" in last and str(tmp_path) in last and "pip install" in last


def test_backends_are_loaded_once():
    done = run("from alora_gguf.runtime.library import llama_cpp as L; print(L._lib.alora_load_backends(), L._lib.alora_load_backends())")
    before, after = map(int, done.stdout.split())
    assert before == after > 0, done.stderr


def test_importing_the_package_loads_no_library():
    done = run("import sys, alora_gguf, alora_gguf.convert; alora_gguf.AloraError; print(*(m for m in ('llama_cpp', 'numpy') if m in sys.modules))")
    assert "llama_cpp" not in done.stdout.split() and done.returncode == 0, done.stderr


def test_every_public_name_is_there():

    assert all(getattr(alora_gguf, name) is not None for name in alora_gguf.__all__)
    assert set(dir(alora_gguf)) == set(alora_gguf.__all__)
    assert not hasattr(alora_gguf, "nothing")


NAMES = {  # of libraries and of modules, as CMake and llama.cpp give them
    "Linux": ("libllama.so", "libggml.so", "libggml-rpc.so"),
    "macOS": ("libllama.dylib", "libggml.dylib", "libggml-rpc.dylib"),
    "macOS, modules": ("libllama.dylib", "libggml.dylib", "libggml-rpc.so"),
    "Windows, MSVC": ("llama.dll", "ggml.dll", "ggml-rpc.dll"),
    "Windows, GNU": ("libllama.dll", "ggml.dll", "ggml-rpc.dll"),
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_its_neighbours_are_found(names, tmp_path):
    from alora_gguf.runtime.library import beside

    for name in names:
        (tmp_path / name).touch()
    libllama, ggml, rpc = map(tmp_path.joinpath, names)
    assert (beside(libllama, "ggml"), beside(libllama, "ggml-rpc")) == (ggml, rpc)


@pytest.mark.parametrize("libllama, ggml", [("libllama.so", "libggml.so"), ("libllama.dylib", "libggml.dylib"), ("llama.dll", "ggml.dll")])
def test_a_neighbour_that_is_missing_is_named_as_it_is(libllama, ggml, tmp_path):
    from alora_gguf.runtime.library import beside

    assert beside(tmp_path / libllama, "ggml") == tmp_path / ggml


def test_a_relative_folder_is_the_same_one():
    """Windows takes only whole paths for a folder of libraries."""
    lib = Path(os.environ.get("ALORA_LIB_PATH") or LIB_DIR).resolve()
    done = run(
        "from alora_gguf.runtime.library import llama_cpp, library; print(llama_cpp._lib._name); library('ggml')",
        cwd=lib.parent,
        ALORA_LIB_PATH=lib.name,
    )
    assert done.returncode == 0 and Path(done.stdout.strip()).is_absolute() and Path(done.stdout.strip()).parent.samefile(lib), done.stderr
