"""The house: who may import whom, what is said of each room, and the names that users see."""

import ast
import subprocess
import sys

import pytest

import alora_gguf


@pytest.fixture(scope="module")
def rooms(repo):
    """What is in the package, by its first name."""
    return {
        path.stem
        for path in (repo / "alora_gguf").iterdir()
        if (path.suffix == ".py" or (path / "__init__.py").is_file()) and path.stem != "__init__"
    }


def test_no_import_runs_upwards_and_none_in_a_circle(repo):
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-cache"],
        cwd=repo,
        env={"PYTHONPATH": str(repo), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_the_table_of_rooms_has_every_room_and_no_other(repo, rooms):
    lines = (repo / "docs" / "architecture.md").read_text().partition("## The rooms")[2].splitlines()
    cells = [line.split("|")[2] for line in lines if line.startswith("|")][2:]
    named = {
        name.rstrip("/").removesuffix(".py") for cell in cells for name in cell.replace("`", "").split(", ") if name.strip().startswith("alora_gguf/")
    }
    said = {name.strip().split("/")[1].removesuffix(".py") for name in named}
    assert said | {"convert"} == rooms | {"convert"}


def test_type_checkers_see_the_names_that_there_are(repo):
    """Each public name is imported for type checkers from where it is found when it is asked for."""
    [block] = [node for node in ast.parse((repo / "alora_gguf" / "__init__.py").read_text()).body if isinstance(node, ast.If)]
    seen = {alias.asname: node.module for node in block.body for alias in node.names}
    assert seen == alora_gguf._HOME
    assert {"__version__", *seen} == set(alora_gguf.__all__)


def test_the_package_imports_in_the_repositorys_root(repo):
    done = subprocess.run(
        [sys.executable, "-c", "import alora_gguf, alora_gguf.convert; print(alora_gguf.__version__)"],
        cwd=repo,
        env={"PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == alora_gguf.__version__


def test_the_pin_of_llama_cpp_python_is_one(repo):
    from alora_gguf.versions import LLAMA_CPP_PYTHON

    [line] = [line for line in (repo / "pyproject.toml").read_text().splitlines() if "llama-cpp-python" in line]
    assert f'"llama-cpp-python=={LLAMA_CPP_PYTHON}"' in line
