"""Bases and adapters from a hub: the right files and no others, once; and what is not believed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import BASE, LIBRARY, SMOL, command

FETCH_BASE = "from alora_gguf.hub.bases import base_file\nout(base_file(sys.argv[1]))"
FETCH_ADAPTER = """
from pathlib import Path
from alora_gguf.convert import read_adapter_metadata
from alora_gguf.hub.names import adapter_file
made = read_adapter_metadata(adapter_file(sys.argv[1], lambda: Path(sys.argv[2]), dict))
out([str(made.path), made.name, list(made.invocation_tokens)])
"""


@pytest.mark.parametrize("name, files", [
    (BASE, ["tiny-1b-Q4_K_M.gguf"]),
    (f"{BASE}:q8_0", ["tiny-1b-Q8_0.gguf"]),
    (f"{BASE}:Q4_K", ["tiny-1b-Q4_K.gguf"]),
    (f"{BASE}:F32", [f"F32/tiny-1b-F32-0000{i}-of-00003.gguf" for i in (1, 2, 3)]),
    (f"{BASE}@v1", ["tiny-1b-Q4_K_M.gguf"]),
])  # fmt: skip
def test_of_a_base_what_was_named_is_fetched_and_the_first_part_opened(hub, python, name, files):
    path = Path(python(FETCH_BASE, f"hf:{name}"))
    assert hub.fetched == files and path.as_posix().endswith(f"{hub.commit(BASE)}/{files[0]}")
    for file in files:
        assert (path.parents[files[0].count("/")] / file).read_bytes() == (hub.root / BASE / file).read_bytes()
    assert python(FETCH_BASE, f"hf:{name}") == str(path) and hub.fetched == files  # once


def test_without_the_usual_quantisation_the_first_file_will_do(hub, python):
    os.remove(hub.root / BASE / "tiny-1b-Q4_K_M.gguf")
    python(FETCH_BASE, f"hf:{BASE}")
    assert hub.fetched == [f"F32/tiny-1b-F32-0000{i}-of-00003.gguf" for i in (1, 2, 3)]


@pytest.mark.parametrize("name, folder, invocation", [
    (f"{LIBRARY}/relevance", "relevance/tiny-1b/alora", [5, 6]),
    (f"{LIBRARY}/citations", "citations/tiny-1b/lora", []),
    (f"{LIBRARY}/older@v1", "older/alora/tiny-1b", [8]),
    ("acme/one-adapter", "", [9]),
])  # fmt: skip
def test_the_adapter_for_the_open_base_is_fetched_and_converted_once(hub, python, base, name, folder, invocation):
    path, called, tokens = python(FETCH_ADAPTER, f"hf:{name}", base)
    short = name.partition("@")[0].rpartition("/")[2]
    assert (Path(path).name, called, tokens) == (f"{short}.gguf", short, invocation)
    prefix = f"{folder}/" if folder else ""
    wanted = [f"{prefix}{file}" for file in ("README.md", "adapter_config.json", "adapter_model.safetensors")]
    assert sorted(hub.fetched) == wanted
    before = os.stat(path)
    assert python(FETCH_ADAPTER, f"hf:{name}", base)[0] == path and os.stat(path) == before and sorted(hub.fetched) == wanted
    asked = len(hub.asked)
    assert python(FETCH_ADAPTER, f"hf:{name}", base, HF_HUB_OFFLINE="1")[0] == path and len(hub.asked) == asked


@pytest.mark.parametrize("called, fits", [
    ("tiny-10b-Q4_K_M.gguf", "tiny-10b"), ("Tiny 1B.gguf", "tiny-1b"), ("acme_tiny.1b.f16.gguf", "tiny-1b"), ("models--acme--tiny-1b/model.gguf", "tiny-1b"),
    ("tiny-11b.gguf", None), ("tiny-h-1b.gguf", None), ("model.gguf", None),
])  # fmt: skip
def test_which_base_is_open_decides(hub, python, base, tmp_path, called, fits):
    other = tmp_path / called
    other.parent.mkdir(exist_ok=True)
    other.symlink_to(base)
    python(FETCH_ADAPTER, f"hf:{LIBRARY}/relevance", other)
    assert {file.rpartition("/")[0] for file in hub.fetched} == ({f"relevance/{fits}/alora"} if fits else set())


def test_a_library_without_the_base_says_which_it_has(hub, python, base, tmp_path):
    other = tmp_path / "other-7b.gguf"
    other.symlink_to(base)
    said = python(FETCH_ADAPTER, f"hf:{LIBRARY}/relevance", other)
    assert (
        said.startswith("HubError: ")
        and "expected an adapter for Tiny Llama or other-7b, got those for tiny-10b, tiny-1b" in said
        and hub.fetched == []
    )


@pytest.mark.parametrize("code, name, said", [
    (FETCH_BASE, "acme/nobody", "expected a repository that may be read at {url}/acme/nobody, got none"),
    (FETCH_BASE, f"{BASE}@v9", "got 'v9', which it does not have"),
    (FETCH_BASE, f"{BASE}:Q2_K", "expected a file of Q2_K, got F32/tiny-1b-F32.gguf, tiny-1b-Q4_K.gguf, tiny-1b-Q4_K_M.gguf, tiny-1b-Q8_0.gguf"),
    (FETCH_BASE, LIBRARY, "expected a GGUF model"),
    (FETCH_BASE, f"{LIBRARY}/relevance", "expected a base model"),
    (FETCH_ADAPTER, f"{LIBRARY}/nothing", "expected an adapter 'nothing', got answerability, citations, older, relevance"),
    (FETCH_ADAPTER, LIBRARY, "got answerability, citations, older, relevance; name one as hf:owner/repo/name"),
    (FETCH_ADAPTER, BASE, "got none"),
    (FETCH_ADAPTER, f"{BASE}:Q8_0", "expected an adapter"),
])  # fmt: skip
def test_what_is_not_there_is_one_line_and_nothing_is_fetched(hub, python, base, code, name, said):
    text = python(code, f"hf:{name}", base)
    assert text.startswith("HubError: ") and said.format(url=hub.url) in text and "\n" not in text and hub.fetched == []


@pytest.mark.parametrize("more", [{"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}], ids=["offline", "unreachable"])
def test_without_a_network_it_says_what_would_have_come_from_where(hub, python, base, more):
    url = more.get("HF_ENDPOINT", hub.url)
    for code, name in ((FETCH_BASE, BASE), (FETCH_ADAPTER, f"{LIBRARY}/older")):
        said = python(code, f"hf:{name}", base, **more)
        assert (
            said.startswith(f"HubError: hf:{name}: expected to fetch from {url}/{'/'.join(name.split('/')[:2])}, revision main, got: ")
            and "\n" not in said
        )
    path = python(FETCH_BASE, f"hf:{BASE}")
    asked = len(hub.asked)
    assert python(FETCH_BASE, f"hf:{BASE}", **more) == path
    assert "Q8_0" in python(FETCH_BASE, f"hf:{BASE}:Q8_0", **more) and len(hub.asked) == asked


def test_a_hub_that_is_down_is_no_harm_to_what_is_here(hub, python):
    path = python(FETCH_BASE, f"hf:{BASE}")
    hub.broken = 403
    assert python(FETCH_BASE, f"hf:{BASE}") == path
    assert "403" in python(FETCH_BASE, f"hf:{LIBRARY}")


# the whole way

PASSAGE = "The ferry to Saint Maren leaves at nine and takes two hours. How long does the ferry take?"


def test_from_nothing_to_a_verdict_in_one_command_and_again_offline(hub, alora):
    command = ["chat", "--model", f"hf:{SMOL}:Q4_K_M", "--adapter", f"hf:{LIBRARY}/answerability", "--prompt", PASSAGE, "--no-answer", "--ctx", "512"]
    first = alora(*command, "--invoke", "answerability")
    assert first[0] == 0 and first[1].startswith("answerability: ") and first[2] == ""
    assert len(hub.fetched) == len(set(hub.fetched)) == 5
    asked = len(hub.asked)
    assert alora(*command, "--invoke", "answerability", "--offline") == first and len(hub.asked) == asked


def test_python_takes_the_same_names(hub, python):
    code = """
from alora_gguf import Llama, Model
model, adapter = sys.argv[1:]
with Model(model, n_ctx=64) as opened:
    names = [opened.load_adapter(adapter).name, opened.register_adapter(adapter, "again").name]
    path = str(opened.path)
llama = Llama(model, adapters={"a": adapter, "ours": "answerability"}, n_ctx=64, verbose=False)
llama.load_adapter(adapter)
out([names, llama.model_path == path, sorted(llama._adapters)])
"""
    assert python(code, f"hf:{SMOL}", f"hf:{LIBRARY}/answerability") == [["answerability", "again"], True, ["a", "answerability", "ours"]]


def test_the_server_takes_the_same_names(hub, env):
    argv = [
        "serve",
        "--model",
        f"hf:{SMOL}",
        "--adapter",
        f"hf:{LIBRARY}/answerability",
        "--adapter",
        f"other=hf:{LIBRARY}/answerability@v1",
        "--port",
        "0",
    ]
    process = subprocess.Popen(command(*argv, "--ctx", "512"), env=env, stderr=subprocess.PIPE, text=True)
    lines = [process.stderr.readline(), process.stderr.readline()]
    process.terminate()
    process.communicate()
    assert lines[0] == "alora: serving SmolLM2-135M-Instruct-Q4_K_M; answerability, other\n" and "listening" in lines[1]


def test_show_and_convert_take_the_same_names(hub, alora, env, tmp_path):
    names = [f"hf:{LIBRARY}/answerability", "--base", f"hf:{SMOL}"]
    shown = alora("show", *names, "--diffable")
    assert shown[0] == 0
    converter = [sys.executable, "-c", "from alora_gguf.cli.convert import main; raise SystemExit(main())"]
    convert = lambda *argv: subprocess.run([*converter, *argv], env=env, capture_output=True, text=True, check=False)
    assert convert(names[0], str(tmp_path / "a.gguf"), *names[1:]).returncode == 0
    assert alora("show", tmp_path / "a.gguf", "--diffable") == shown
    assert convert("answerability", str(tmp_path / "b.gguf"), *names[1:]).returncode == 0
    for argv, said in (
        ([names[0], "c.gguf"], "--base: expected the base model"),
        ([names[0], "c.gguf", "--base", "hf:acme/none"], "expected a repository"),
    ):
        done = convert(*argv)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1) and said in done.stderr


# what goes wrong on the way


def test_several_at_once_get_the_same_and_the_right_files(hub, env, base):
    show = command("show", f"hf:{LIBRARY}/answerability", "--base", f"hf:{SMOL}", "--diffable")
    at_once = [subprocess.Popen(show, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = {process.communicate() for process in at_once}
    alone = subprocess.run(show, env=env, capture_output=True, text=True, check=False)
    assert said == {(alone.stdout, "")} and [process.returncode for process in (*at_once, alone)] == [0] * 4


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_who_is_killed_while_fetching_leaves_nothing_half(hub, alora, env, tmp_path, base_q4, sent):
    process = subprocess.Popen(command("pull", f"hf:{SMOL}"), env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and not list((tmp_path / "hf").rglob("*.incomplete")):
        pass
    process.send_signal(sent)
    assert process.communicate() == ("", "") and process.returncode != 0
    assert alora("list", "--json") == (0, "[]\n", "")
    code, out, err = alora("pull", f"hf:{SMOL}")
    assert (code, err) == (0, "") and Path(out.strip()).read_bytes() == base_q4.read_bytes()


def test_a_full_disk_is_one_line_and_nothing_half(hub, alora, env):
    def full(*argv):
        limited = ["bash", "-c", "trap '' XFSZ; ulimit -f 1000; exec \"$@\"", "-", *command(*argv)]
        done = subprocess.run(limited, env=env, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        return done.stderr

    show = ["show", f"hf:{LIBRARY}/answerability", "--base", f"hf:{SMOL}"]
    assert f"from {hub.url}/{SMOL}, revision main, got: File too large; make room in " in full("pull", f"hf:{SMOL}")
    assert alora("pull", show[1], show[3])[0] == 0
    assert "make room" in full(*show)
    assert alora(*show)[0] == 0


# what is not believed


def test_only_safetensors_are_read_of_what_others_made(hub, python, base):
    os.rename(hub.root / LIBRARY / "older/alora/tiny-1b/adapter_model.safetensors", hub.root / LIBRARY / "older/alora/tiny-1b/adapter_model.bin")
    said = python(FETCH_ADAPTER, f"hf:{LIBRARY}/older", base)
    assert "adapter_model.safetensors, got older/alora/tiny-1b/adapter_model.bin; only safetensors" in said and hub.fetched == []


@pytest.mark.parametrize(
    "file", ["../../escaped.gguf", "/tmp/escaped.gguf", "a/../../b.gguf", "..\\b.gguf", "C:\\b.gguf", "C:b.gguf", "a\x1b[2J.gguf", "\\b.gguf"]
)
def test_names_that_leave_the_folder_are_refused(hub, python, file):
    hub.info = lambda info: {**info, "siblings": [{"rfilename": file, "size": 3}, *info["siblings"]]}
    said = python(FETCH_BASE, f"hf:{BASE}")
    assert said.startswith("HubError: ") and "expected names of files that stay in its folder" in said and said.isprintable() and hub.fetched == []


@pytest.mark.parametrize("file", ["adapter_config.json", "README.md", "adapter_model.safetensors"])
def test_what_is_too_large_is_not_fetched(hub, python, base, file):
    name = f"older/alora/tiny-1b/{file}"
    hub.info = lambda info: {**info, "siblings": [{**s, "size": 10**11} if s["rfilename"] == name else s for s in info["siblings"]]}
    said = python(FETCH_ADAPTER, f"hf:{LIBRARY}/older", base)
    assert f"of {name}, got 100.0 GB" in said and hub.fetched == []


def test_what_turns_out_too_large_is_not_read(hub, python, base):
    """The hub says nothing of its size."""
    (hub.root / LIBRARY / "older/alora/tiny-1b/io.yaml").write_text("#" * 200_000)
    hub.info = lambda info: {**info, "siblings": [{"rfilename": s["rfilename"]} for s in info["siblings"]]}
    assert "expected at most 100.0 KB of older/alora/tiny-1b/io.yaml, got 200.0 KB" in python(FETCH_ADAPTER, f"hf:{LIBRARY}/older", base)


@pytest.mark.parametrize("sha", ["main", "../../x", "", None, 7, "A" * 40])
def test_a_commit_is_a_commit(hub, python, sha):
    hub.info = lambda info: {**info, "sha": sha}
    assert "expected a commit of 40 hex digits" in python(FETCH_BASE, f"hf:{BASE}") and hub.fetched == []


@pytest.mark.parametrize("size", ["many", -1, None, [1]])
def test_sizes_that_are_none_are_no_traceback(hub, python, size):
    hub.info = lambda info: {**info, "siblings": [{**s, "size": size} for s in info["siblings"]]}
    assert isinstance(python(FETCH_BASE, f"hf:{BASE}"), str)


def test_other_bytes_than_the_hub_has_said_do_not_stay(hub, python):
    good = (hub.root / BASE / "tiny-1b-Q4_K_M.gguf").read_bytes()
    hub.changed["tiny-1b-Q4_K_M.gguf"] = good[:-1] + bytes([good[-1] ^ 1])
    said = python(FETCH_BASE, f"hf:{BASE}")
    assert said.startswith("HubError: ") and "sha256" in said
    hub.changed.clear()
    assert Path(python(FETCH_BASE, f"hf:{BASE}")).read_bytes() == good


@pytest.mark.parametrize("etag", ["../../../../escaped", "..", ""])
def test_what_a_server_puts_elsewhere_is_not_read(hub, python, etag):
    """huggingface_hub makes the name of a file of its ETag."""
    hub.etag["tiny-1b-Q4_K_M.gguf"] = etag
    for _ in range(2):
        assert python(FETCH_BASE, f"hf:{BASE}").startswith("HubError: ")


def test_a_client_of_the_server_names_nothing_on_the_hub(hub, tmp_path):
    from alora_gguf.serve.adapter_files import AdapterFiles
    from alora_gguf.serve.problem import Problem

    with pytest.raises(Problem, match="expected a path in a folder that the server may load adapters from"):
        AdapterFiles(None, [tmp_path]).load_allowed(Path(f"hf:{LIBRARY}/relevance"), "a")


def test_what_was_cut_off_is_not_half_there(hub, python, base):
    hub.cut["tiny-1b-Q4_K_M.gguf"] = 7000
    said = python(FETCH_BASE, f"hf:{BASE}")
    assert said.startswith(f"HubError: hf:{BASE}: expected to fetch tiny-1b-Q4_K_M.gguf from {hub.url}/{BASE}")
    hub.cut.clear()
    assert Path(python(FETCH_BASE, f"hf:{BASE}")).read_bytes() == base.read_bytes()


def test_importing_loads_nothing_of_the_hub(python):
    code = "import alora_gguf, alora_gguf.model, alora_gguf.cli\nout([m for m in ('huggingface_hub', 'httpx', 'httpx2', 'requests', 'torch') if m in sys.modules])"
    assert python(code) == []
