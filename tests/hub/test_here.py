"""What is on this machine: fetched ahead, listed, removed."""

import json
import os
from pathlib import Path

import pytest
from hub_server import BASE, LIBRARY

from alora_gguf import bundled_adapters

FILES = ("README.md", "adapter_config.json", "adapter_model.safetensors")


@pytest.fixture
def listed(alora):
    def listed():
        code, out, err = alora("list", "--json")
        assert (code, err) == (0, "")
        return {(entry["name"], entry["kind"], entry["base"]): entry for entry in json.loads(out)}

    return listed


def test_pull_prints_the_paths_in_the_order_of_the_names(hub, alora, base):
    names = f"hf:{LIBRARY}/relevance", f"hf:{BASE}:Q8_0", "hf:acme/one-adapter"
    code, out, err = alora("pull", *names)
    adapter, model, one = map(Path, out.splitlines())
    assert (code, err) == (0, "")
    assert model.read_bytes() == base.read_bytes() and adapter.parts[-3:] == ("relevance", "tiny-1b", "alora")
    assert sorted(file.name for file in adapter.iterdir()) == sorted(file.name for file in one.iterdir()) == list(FILES)
    code, out, _ = alora("pull", *names, "--json", "--offline")
    assert json.loads(out) == [{"name": name, "path": str(path)} for name, path in zip(names, (adapter, model, one))]


@pytest.mark.parametrize("given", ["tiny-10b", "hf:acme/tiny-10b-GGUF:Q4_0", "FILE"])
def test_pull_is_told_the_base_and_does_not_fetch_it(hub, alora, base, tmp_path, given):
    (tmp_path / "tiny-10b.gguf").symlink_to(base)
    code, out, _ = alora("pull", f"hf:{LIBRARY}/relevance", "--base", tmp_path / "tiny-10b.gguf" if given == "FILE" else given)
    assert code == 0 and sorted(hub.fetched) == [f"relevance/tiny-10b/alora/{file}" for file in FILES]


def test_pull_does_not_guess_among_bases(hub, alora):
    code, out, err = alora("pull", f"hf:{LIBRARY}/relevance")
    assert (code, out, err.count("\n")) == (2, "", 1) and "those for tiny-10b, tiny-1b" in err and hub.fetched == []
    assert alora("pull", f"hf:{LIBRARY}/citations")[0] == 0  # there is one


def test_list_has_what_was_fetched_and_what_was_converted(hub, alora, listed, base):
    assert alora("list") == (0, "nothing is here; alora pull NAME fetches something\n", "")
    alora("pull", f"hf:{LIBRARY}/relevance", f"hf:{BASE}", f"hf:{BASE}:F32", "hf:acme/one-adapter@v1")
    alora("show", f"hf:{LIBRARY}/relevance", "--base", base)
    here = listed()
    assert sorted(here) == sorted([
        (f"hf:{BASE}:Q4_K_M", "base", ""), (f"hf:{BASE}:F32", "base", ""), (f"hf:{LIBRARY}/relevance", "alora", "tiny-1b"),
        ("hf:acme/one-adapter@v1", "lora", ""), ("relevance", "converted", "Tiny Llama"),
    ])  # fmt: skip
    assert here[f"hf:{BASE}:Q4_K_M", "base", ""]["n_bytes"] == base.stat().st_size
    assert here[f"hf:{BASE}:F32", "base", ""]["n_bytes"] == base.stat().st_size + 12
    text = alora("list")[1]
    assert len(text.splitlines()) == len(here) and all(name in text for name, _, _ in here)
    asked = len(hub.asked)
    for name, kind, base_ in here:
        if kind != "converted":
            assert alora("pull", name, "--offline")[0] == 0
    assert len(hub.asked) == asked


def test_list_says_what_fits_which_base_here(hub, alora, listed, base, tmp_path):
    (tmp_path / "tiny-1b.gguf").symlink_to(base)
    alora("pull", f"hf:{LIBRARY}/relevance", f"hf:{LIBRARY}/answerability", "--base", "tiny-1b smollm2-135m-instruct")
    alora("show", f"hf:{LIBRARY}/relevance", "--base", tmp_path / "tiny-1b.gguf")
    alora("show", "certainty")  # that comes along, for the embedded model
    fits = lambda here: {name: about["fits"] for (name, _, _), about in here.items() if "fits" in about}
    here = listed()
    assert set(fits(here)) == {f"hf:{LIBRARY}/relevance", f"hf:{LIBRARY}/answerability", "relevance", "certainty"}
    assert not any(kind == "converted" and name == "adapter" for name, kind, _ in here)
    assert fits(here) == {
        f"hf:{LIBRARY}/relevance": [],
        f"hf:{LIBRARY}/answerability": ["the embedded model"],
        "relevance": [],
        "certainty": ["the embedded model"],
    }
    alora("pull", f"hf:{BASE}")
    here = listed()
    assert fits(here)["relevance"] == fits(here)[f"hf:{LIBRARY}/relevance"] == [f"hf:{BASE}:Q4_K_M"]
    [source] = [about["source"] for about in here.values() if "source" in about]
    assert source == f"hf:{LIBRARY}@{hub.commit(LIBRARY)[:12]}"
    text = alora("list")[1]
    assert f"fits hf:{BASE}:Q4_K_M" in text and "fits the embedded model" in text and f"from {source}" in text


def test_bundled_adapters_are_listed_by_their_names(alora, listed):
    alora("chat", "--demo", "--ctx", "256", "--prompt", "Hello", "--no-answer")
    assert [name for name, kind, _ in listed() if kind == "converted"] == list(bundled_adapters())


def test_rm_removes_what_was_named_and_leaves_the_rest(hub, alora, listed, base, tmp_path):
    alora("pull", f"hf:{LIBRARY}/relevance", f"hf:{BASE}", f"hf:{BASE}:Q8_0", f"hf:{BASE}:F32")
    code, out, err = alora("rm", f"hf:{BASE}:F32")
    assert (code, out, err) == (0, f"removed hf:{BASE}:F32, 12 B\n", "")  # what others do not share
    assert {name for name, _, _ in listed()} == {f"hf:{LIBRARY}/relevance", f"hf:{BASE}:Q4_K_M", f"hf:{BASE}:Q8_0"}
    alora("rm", f"hf:{BASE}:Q8_0")  # the same bytes as the other
    assert Path(alora("pull", f"hf:{BASE}", "--offline")[1].strip()).read_bytes() == base.read_bytes()
    assert alora("rm", f"hf:{BASE}", f"hf:{LIBRARY}/relevance")[0] == 0
    assert listed() == {} and not list((tmp_path / "hf").rglob("*.gguf")) and not list((tmp_path / "hf" / "hub").glob("models--*"))
    alora("show", f"hf:{LIBRARY}/relevance", "--base", base)
    [made] = (tmp_path / "cache").rglob("relevance.gguf")
    (made.parent / "another.gguf").write_bytes(made.read_bytes())
    (made.parent / ".another.gguf.0123.tmp").write_bytes(b"of one that was killed")
    assert alora("rm", "relevance")[0] == 0 and {name for name, kind, _ in listed() if kind == "converted"} == {"another"}
    assert alora("rm", "another")[0] == 0 and {kind for _, kind, _ in listed()} == {"alora"} and not made.parent.exists()


@pytest.mark.parametrize("name", ["hf:acme/none", f"hf:{BASE}:Q2_K", "nobody", "hf:", "..", "hf:acme/../x", f"hf:{BASE}@v1"])
def test_rm_of_what_is_not_there_is_one_line(alora, name, hub):
    alora("pull", f"hf:{BASE}")
    code, out, err = alora("rm", name)
    assert (code, out, err.count("\n")) == (2, "", 1) and alora("pull", f"hf:{BASE}", "--offline")[0] == 0


def test_rm_follows_no_link_out_of_the_cache(hub, alora, tmp_path):
    path = Path(alora("pull", f"hf:{BASE}")[1].strip())
    (elsewhere := tmp_path / "elsewhere.gguf").write_bytes(b"mine")
    os.remove(path)
    path.symlink_to(elsewhere)
    alora("rm", f"hf:{BASE}")
    assert elsewhere.read_bytes() == b"mine" and not path.exists()
