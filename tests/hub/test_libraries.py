"""Libraries of intrinsics: all that is for the open base, from the hub or a folder, and what is said of the rest."""

import json
import os
import shutil
from pathlib import Path

import pytest
from hub_server import BASE, LIBRARY, SMOL

FAMILY = "smollm2-135m-instruct"
SKILLS = "acme/skills-r1.0"
FILES = ("README.md", "adapter_config.json", "adapter_model.safetensors", "io.yaml")
PASSAGE = "The ferry to Saint Maren leaves at nine and takes two hours. How long does the ferry take?"
LOAD = """
import logging
logging.basicConfig(level=logging.INFO, format="%(message)s")
from alora_gguf import Model
with Model(sys.argv[1], n_ctx=256) as model:
    out({a.name: [a.metadata.kind, a.path.name, a.metadata.repository, a.metadata.revision] for a in model.load_intrinsics(sys.argv[2])})
"""
CHOOSE = """
from pathlib import Path
from alora_gguf.hub.library import intrinsics_of
out(sorted(intrinsics_of(sys.argv[2], Path(sys.argv[1]))))
"""


@pytest.fixture
def skills(hub, repo, base_q4):
    """A library for the embedded model: two aLoRAs, one of them beside its LoRA, a LoRA alone; one for another base, and one that is damaged."""
    import tiny_peft

    root = hub.root / SKILLS
    ours = repo / "tests" / "adapters" / "answerability"
    shutil.copytree(ours, root / "answerability" / FAMILY / "alora")
    plain = shutil.copytree(ours, root / "answerability" / FAMILY / "lora")
    fields = {**json.loads((plain / "adapter_config.json").read_text()), "alora_invocation_tokens": None}
    (plain / "adapter_config.json").write_text(json.dumps(fields))
    shutil.copytree(plain, root / "citations" / FAMILY / "lora")
    shutil.copytree(repo / "intrinsics" / "certainty" / "adapter", root / "certainty" / "alora" / FAMILY)
    tiny_peft.write_adapter(root / "elsewhere" / "tiny-1b" / "alora", alora_invocation_tokens=[5])
    return root


@pytest.fixture
def snapshot(skills, tmp_path):
    """The same as a folder."""
    return shutil.copytree(skills, tmp_path / "skills")


def test_all_that_is_for_the_base_is_loaded_an_alora_before_a_lora(hub, python, skills, base_q4):
    loaded = python(LOAD, base_q4, f"hf:{SKILLS}")
    commit = hub.commit(SKILLS)
    assert loaded == {
        "answerability": ["alora", "answerability.gguf", SKILLS, commit],
        "certainty": ["alora", "certainty.gguf", SKILLS, commit],
        "citations": ["lora", "citations.gguf", SKILLS, commit],
    }
    folders = f"answerability/{FAMILY}/alora", f"certainty/alora/{FAMILY}", f"citations/{FAMILY}/lora"
    assert set(hub.fetched) <= {f"{folder}/{file}" for folder in folders for file in FILES} and len(hub.fetched) == len(set(hub.fetched))
    asked = len(hub.asked)
    assert python(LOAD, base_q4, f"hf:{SKILLS}", HF_HUB_OFFLINE="1") == loaded and len(hub.asked) == asked


def test_the_chat_from_nothing_and_again_without_a_network(hub, alora, skills):
    command = ["chat", "--model", f"hf:{SMOL}", "--intrinsics", f"hf:{SKILLS}", "--ctx", "512", "--prompt", PASSAGE, "--no-answer"]
    code, out, err = alora(*command, "--invoke", "answerability")
    steps = [
        f"alora: hf:{SKILLS}: {name}, {i} of 3: {what}"
        for i, name in enumerate(("answerability", "certainty", "citations"), 1)
        for what in ("fetching", "converting")
    ]
    assert (code, err.splitlines()) == (0, steps) and out.startswith("answerability: ")
    asked = len(hub.asked)
    assert alora(*command, "--invoke", "answerability", "--offline") == (0, out, "") and len(hub.asked) == asked


def test_without_a_network_nothing_of_a_library_is_half_there(hub, alora, skills):
    command = ["chat", "--intrinsics", f"hf:{SKILLS}", "--ctx", "512", "--prompt", PASSAGE, "--no-answer"]
    code, out, err = alora(*command, "--offline")
    assert (code, out, err.count("\n")) == (2, "", 1) and f"expected to fetch from {hub.url}/{SKILLS}, revision main" in err
    alora("pull", f"hf:{SKILLS}/certainty", "--base", FAMILY)
    code, out, err = alora(*command, "--offline", "--invoke", "certainty")
    assert err.startswith(f"alora: hf:{SKILLS}: certainty, 1 of 1: converting\n") and hub.fetched == [f"certainty/alora/{FAMILY}/{file}" for file in
        ("adapter_config.json", "adapter_model.safetensors", "io.yaml", "README.md")]  # fmt: skip


def test_one_that_fails_is_one_line_and_the_rest_is_loaded(hub, alora, skills):
    (skills / "certainty" / "alora" / FAMILY / "adapter_model.safetensors").write_bytes(b"nothing of the kind")
    command = ["chat", "--model", f"hf:{SMOL}", "--intrinsics", f"hf:{SKILLS}", "--ctx", "512", "--prompt", PASSAGE, "--no-answer"]
    code, out, err = alora(*command, "--invoke", "answerability")
    [line] = [line for line in err.splitlines() if "left out" in line]
    assert code == 0 and line.startswith(f"alora: hf:{SKILLS}: certainty: left out: ") and "adapter_model.safetensors" in line
    assert "certainty" in alora(*command, "--invoke", "certainty")[2].splitlines()[-1]  # nobody has it
    for file in skills.rglob("*.safetensors"):
        file.write_bytes(b"")
    code, out, err = alora(*command)
    assert (code, out) == (2, "") and err.splitlines()[-1].startswith("alora: error: ")


def test_a_name_that_is_taken_is_left_out(alora, skills):
    command = ["chat", "--model", f"hf:{SMOL}", "--ctx", "512", "--prompt", PASSAGE, "--no-answer", "--json"]
    code, out, err = alora(*command, "--demo", "--intrinsics", f"hf:{SKILLS}", "--intrinsics", f"hf:{SKILLS}", "--invoke", "answerability")
    taken = [line.split(": ")[2] for line in err.splitlines() if "which is taken" in line or "one that is taken" in line]
    assert code == 0 and taken == ["answerability", "certainty", "answerability", "certainty", "citations"]


def test_a_library_without_the_base_says_which_it_has(hub, python, skills, base, tmp_path):
    (other := tmp_path / "other-7b.gguf").symlink_to(base)
    for library in (f"hf:{SKILLS}", skills):
        said = python(CHOOSE, other, library)
        assert f"expected adapters for Tiny Llama or other-7b, got those for {FAMILY}, tiny-1b; take one of these" in said
    assert hub.fetched == []


@pytest.mark.parametrize("name, said", [
    ("hf:acme/nobody", "expected a repository"), (f"hf:{BASE}", "expected a library of adapters, got 7 other files"), (f"hf:{LIBRARY}:Q8_0", "a quantisation"),
    ("nowhere", "expected a folder of adapters, or hf:owner/repo[@revision], got nothing"), ("/etc/passwd", "got a file"), ("", "expected folders with adapter_config.json, got none"),
])  # fmt: skip
def test_what_is_no_library_is_one_line(hub, python, base, name, said, tmp_path):
    (tmp_path / "empty").mkdir()
    text = python(CHOOSE, base, name or tmp_path / "empty")
    assert said in text and "\n" not in text and hub.fetched == []


def test_a_folder_is_a_library_at_any_height(python, snapshot, base_q4, tmp_path):
    shutil.move(snapshot, tmp_path / "libraries" / "skills")
    root = tmp_path / "libraries" / "skills"
    everything = ["answerability", "certainty", "citations"]
    for folder, names in (
        (root, everything), (root.parent, everything), (root / "answerability", ["answerability"]), (root / "answerability" / FAMILY, ["answerability"]),
        (root / "certainty", ["certainty"]), (root / "certainty" / "alora", ["certainty"]), (root / "citations" / FAMILY / "lora", ["citations"]),
    ):  # fmt: skip
        assert python(CHOOSE, base_q4, folder) == names
        assert python(CHOOSE, base_q4, os.path.relpath(folder)) == names


def test_a_folder_of_the_hubs_cache_is_a_library(alora, python, skills, base_q4, tmp_path):
    [path] = {Path(line).parents[2] for line in alora("pull", f"hf:{SKILLS}", "--base", FAMILY)[1].splitlines()}
    for folder in (path, path.parents[1]):  # the snapshot, and the repository
        loaded = python(LOAD, base_q4, folder)
        assert set(loaded) == {"answerability", "certainty", "citations"} and {about[2] for about in loaded.values()} == {SKILLS}


def test_folders_of_names_alone_are_a_library_but_not_checkpoints(python, repo, base_q4, tmp_path):
    ours = repo / "tests" / "adapters" / "answerability"
    for name in ("one", "two", "two/checkpoint-500", "runs/checkpoint-500"):
        shutil.copytree(ours, tmp_path / "mine" / name)
    assert python(CHOOSE, base_q4, tmp_path / "mine") == ["one", "two"]
    assert python(CHOOSE, base_q4, tmp_path / "mine" / "two") == ["two"]


def test_mellea_s_index_names_the_adapters_that_have_weights(python, repo, base_q4, tmp_path):
    root = tmp_path / "switch"
    shutil.copytree(repo / "tests" / "adapters" / "answerability", root / "io_configs" / "first")
    (root / "io_configs" / "second").mkdir()
    (root / "io_configs" / "second" / "io.yaml").write_text("name: second\n")
    index = [
        {"adapter_name": name, "io_config": f"io_configs/{folder}/io.yaml", "technology": "alora"}
        for name, folder in (("judge", "first"), ("second", "second"), ("out", "../.."))
    ]
    (root / "adapter_index.json").write_text(json.dumps({"adapters": index}))
    assert set(python(LOAD, base_q4, root)) == {"judge"}
    for name in ("../../escaped", "a/b", "", "..", "a\n", "x" * 200):
        index[0]["adapter_name"] = name
        (root / "adapter_index.json").write_text(json.dumps({"adapters": index}))
        assert "adapter_index.json: adapter_name: expected letters" in python(CHOOSE, base_q4, root)
    for text in ("", "[]", '{"adapters": 3}', '{"adapters": [{"adapter_name": "a"}]}', "{" * 10_000):
        (root / "adapter_index.json").write_text(text)
        said = python(CHOOSE, base_q4, root)
        assert "adapter_index.json: index: expected adapters with adapter_name and io_config" in said and "\n" not in said


def test_pull_fetches_all_that_are_for_the_base(hub, alora, skills):
    code, out, err = alora("pull", f"hf:{SKILLS}", "--base", FAMILY, "--json")
    pulled = json.loads(out)
    assert err.splitlines() == [
        f"alora: hf:{SKILLS}: {name}, {i} of 3: fetching" for i, name in enumerate(("answerability", "certainty", "citations"), 1)
    ]
    assert alora("pull", f"hf:{SKILLS}", "--base", FAMILY, "--json") == (0, out, "")
    assert code == 0 and [one["name"] for one in pulled] == [f"hf:{SKILLS}/{name}" for name in ("answerability", "certainty", "citations")]
    assert all((Path(one["path"]) / "adapter_config.json").is_file() for one in pulled)
    code, out, err = alora("pull", f"hf:{SKILLS}")
    assert (code, out, err.count("\n")) == (2, "", 1) and f"expected adapters for a base that is named, got those for {FAMILY}, tiny-1b" in err
    code, out, _ = alora("pull", f"hf:{SMOL}", f"hf:{SKILLS}")
    assert code == 0 and len(out.splitlines()) == 4


def test_two_processes_at_once_get_the_same_adapters(env, python, skills, base_q4):
    import subprocess

    from hub_server import command

    chat = command("chat", "--intrinsics", f"hf:{SKILLS}", "--ctx", "256", "--prompt", PASSAGE, "--no-answer", "--invoke", "answerability")
    at_once = [subprocess.Popen(chat, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate() for process in at_once]
    assert [process.returncode for process in at_once] == [0, 0], said
    assert said[0][0] == said[1][0] != ""
    assert not [line for _, err in said for line in err.splitlines() if not line.endswith((": fetching", ": converting"))]
    assert len(python(LOAD, base_q4, f"hf:{SKILLS}", HF_HUB_OFFLINE="1")) == 3


@pytest.mark.parametrize("at", ["fetching", "converting"])
def test_who_is_killed_on_the_way_leaves_nothing_half(hub, alora, env, skills, at):
    import subprocess

    from hub_server import command

    chat = ["chat", "--intrinsics", f"hf:{SKILLS}", "--ctx", "256", "--prompt", PASSAGE, "--no-answer", "--invoke", "answerability"]
    process = subprocess.Popen(command(*chat), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not process.stderr.readline().rstrip().endswith(at):
        assert process.poll() is None
    process.kill()
    process.communicate()
    code, out, err = alora(*chat)
    assert code == 0 and out.startswith("answerability: ") and "left out" not in err
    assert alora(*chat, "--offline") == (0, out, "")


def test_the_server_takes_libraries_and_says_where_they_are_from(hub, env, skills, snapshot):
    import subprocess
    import urllib.request

    from hub_server import command

    shutil.move(snapshot / "answerability", snapshot / "renamed")
    argv = ["serve", "--model", f"hf:{SMOL}", "--intrinsics", f"hf:{SKILLS}", "--intrinsics", snapshot, "--port", "0", "--ctx", "512"]
    process = subprocess.Popen(command(*argv), env=env, stderr=subprocess.PIPE, text=True)
    lines = []
    while "listening" not in "".join(lines[-1:]):
        lines.append(process.stderr.readline())
        assert lines[-1]
    [url] = [word for word in lines[-1].split() if word.startswith("http")]
    with urllib.request.urlopen(f"{url}/v1/models") as answer:
        models = {model["id"]: model.get("source") for model in json.load(answer)["data"]}
    process.terminate()
    process.communicate()
    source = {"repository": SKILLS, "revision": hub.commit(SKILLS)}
    assert "alora: serving SmolLM2-135M-Instruct-Q4_K_M; answerability, certainty, citations, renamed\n" in lines
    assert [models[name] for name in ("answerability", "certainty", "citations", "renamed")] == [source, source, source, None]


def test_where_names_fit_no_base_its_size_decides_if_that_is_clear(hub, python, tmp_path):
    """A base that is called otherwise: what begins as its architecture and has its size, and nothing else that has it."""
    import tiny_peft

    root = hub.root / "acme/by-size"
    tiny_peft.write_adapter(root / "relevance" / "llama-1b" / "alora", alora_invocation_tokens=[5])
    of_others = {name.replace("layers.1", "layers.3"): values for name, values in tiny_peft.adapter_tensors().items()}
    tiny_peft.write_adapter(root / "relevance" / "llama-3b" / "alora", of_others, alora_invocation_tokens=[6])
    tiny_peft.write_adapter(root / "relevance" / "qwen-1b" / "alora", alora_invocation_tokens=[7])
    base = tiny_peft.write_base(tmp_path / "mine.gguf")
    made = "from pathlib import Path\nfrom alora_gguf.convert import read_adapter_metadata\nfrom alora_gguf.hub.library import intrinsics_of\nout([read_adapter_metadata(make()).invocation_tokens for make in intrinsics_of(sys.argv[2], Path(sys.argv[1])).values()])"
    for library in ("hf:acme/by-size", root):
        assert python(made, base, library) == [[5]]
    assert {file.split("/")[1] for file in hub.fetched} <= {
        "llama-1b",
        "llama-3b",
    } and "relevance/llama-3b/alora/adapter_config.json" not in hub.fetched
    shutil.copytree(root / "relevance" / "llama-1b", root / "relevance" / "llama-1c")
    for library in ("hf:acme/by-size", root):
        assert "got those for llama-1b, llama-1c, llama-3b, qwen-1b" in python(made, base, library)


def test_names_of_several_bases_are_told_apart_by_size(hub, python, tmp_path):
    import tiny_peft

    root = hub.root / "acme/by-size"
    tiny_peft.write_adapter(root / "relevance" / "mine" / "alora", alora_invocation_tokens=[5])
    of_others = {name.replace("layers.1", "layers.3"): values for name, values in tiny_peft.adapter_tensors().items()}
    tiny_peft.write_adapter(root / "relevance" / "tiny-llama" / "alora", of_others, alora_invocation_tokens=[6])
    base = tiny_peft.write_base(tmp_path / "mine.gguf")  # calls itself Tiny Llama
    code = (
        "from alora_gguf.hub.names import adapter_source\nfrom pathlib import Path\nout(adapter_source(sys.argv[2], lambda: Path(sys.argv[1]), dict))"
    )
    assert python(code, base, "hf:acme/by-size/relevance").endswith("relevance/mine/alora")
