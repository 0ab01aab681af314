"""What an adapter may be called: a file, a folder, or the name of one that comes along; and what is said of other names."""

import os
import shutil

import pytest

from alora_gguf import Model, bundled_adapters
from alora_gguf.cli import main
from alora_gguf.errors import AdapterFileError, AloraError, ConversionError, ModelLoadError
from alora_gguf.hub.names import adapter_file, adapter_name

PASSAGE = "The ferry to Saint Maren leaves at nine and takes two hours. How long does the ferry take?"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """What is converted here is kept here."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def bare(base_q4):
    with Model(base_q4, n_ctx=512) as model:
        yield model


@pytest.fixture
def peft(repo, tmp_path):
    """A PEFT folder whose name has a dot in it."""
    return shutil.copytree(repo / "tests" / "adapters" / "answerability", tmp_path / "answers-v1.0")


@pytest.fixture
def chat(capfd):
    def chat(*argv):
        code = main(["chat", "--prompt", PASSAGE, "--no-answer", "--ctx", "512", *map(str, argv)])
        return code, *capfd.readouterr()

    return chat


def test_every_bundled_adapter_loads_by_its_name(bare):
    for name, folder in bundled_adapters().items():
        by_name, by_path = bare.load_adapter(name), bare.load_adapter(folder, "by path")
        assert by_name.name == name and by_name.path.stem == name
        assert (by_name.io or by_name.decides) and by_name.sha256 == by_path.sha256


def test_a_registered_name_means_the_same(bare):
    registered = bare.register_adapter("answerability")
    assert registered.name == "answerability" and registered.path == bare.load_adapter("answerability", "other").path


def test_what_exists_wins_over_a_bundled_name(bare, peft, answerability):
    shutil.copytree(peft, "answerability")
    theirs = bare.load_adapter("answerability")
    shutil.rmtree("answerability")
    ours = bare.load_adapter("answerability", "ours")
    shutil.copy(answerability, "answerability")
    file = bare.load_adapter("answerability", "file")
    assert os.path.samefile(file.path, "answerability")
    assert theirs.sha256 != ours.sha256 != file.sha256


@pytest.mark.parametrize("name", ["answerabilty", "nobody", "x y", "a\x1b[2J"])
def test_an_unknown_name_is_a_line_with_those_that_there_are(bare, name):
    with pytest.raises(AdapterFileError) as e:
        bare.load_adapter(name)
    assert ", ".join(bundled_adapters()) in str(e.value) and str(e.value).isprintable()


@pytest.mark.parametrize("path", ["nothing.gguf", "./answerability", "no/answerability", "answerability/", "", ".", ".."])
def test_a_path_is_no_name(bare, path):
    with pytest.raises(AloraError) as e:
        bare.load_adapter(path)
    assert "certainty" not in str(e.value) and "\n" not in str(e.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_a_pipe_is_not_waited_for(bare, tmp_path):
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(AdapterFileError, match="pipe.gguf: expected a GGUF file or a PEFT folder, got neither; check the path$"):
        bare.load_adapter(tmp_path / "pipe.gguf")


def test_the_package_is_not_asked_about_paths(answerability):
    nobody = lambda: pytest.fail("asked")
    assert adapter_file(answerability, nobody, nobody) == answerability
    assert adapter_file("a/b", nobody, nobody).name == "b"


def test_a_peft_folder_is_called_as_the_folder(bare, peft, monkeypatch):
    tensors = peft / "adapter_model.safetensors"
    assert (
        bare.load_adapter(peft).name
        == bare.load_adapter(tensors).name
        == adapter_name(tensors)
        == adapter_name(peft)
        == adapter_name(f"{peft}/")
        == "answers-v1.0"
    )
    monkeypatch.chdir(peft)
    assert bare.load_adapter(".", None).name == "answers-v1.0"


def test_a_bundled_adapter_for_another_base_is_refused(peft, tmp_path):
    import tiny_peft

    base = tiny_peft.write_base(tmp_path / "base.gguf")
    with pytest.raises(ConversionError):
        adapter_file("answerability", lambda: base, bundled_adapters)


def test_an_adapter_in_place_of_the_model_is_called_one(peft, answerability, tmp_path):
    for path in (peft, answerability):
        with pytest.raises(ModelLoadError, match="expected a base model, got an adapter"):
            Model(path)
    (tmp_path / "text.gguf").write_text("no model")
    for path in (tmp_path / "text.gguf", tmp_path / "nothing", tmp_path):
        with pytest.raises(ModelLoadError) as e:
            Model(path)
        assert "adapter" not in str(e.value).replace(str(path), "")


def test_the_chat_takes_folders_and_names(chat, peft):
    code, out, err = chat("--adapter", peft, "answerability", "--invoke", "answers-v1.0", "--invoke", "answerability")
    assert (code, err) == (0, "")
    assert [line.partition(":")[0] for line in out.splitlines()] == ["answers-v1.0", "answerability"]
    not_here = ("certainty", "decide")  # judges an answer, and there is none; is no intrinsic
    names = [name for name in bundled_adapters() if name not in not_here]
    os.mkdir("answerability")  # what comes along is meant, and no other
    code, out, err = chat("--demo", *(f"--invoke={name}" for name in names))
    assert (code, err) == (0, "") and [line.partition(":")[0] for line in out.splitlines()] == names


@pytest.mark.parametrize("argv, said", [
    (["--demo", "--adapter", "answerability"], "expected a name of its own, got 'answerability'"),
    (["--adapter", "answerability/../certainty", "certainty"], "answerability/../certainty: expected a GGUF adapter"),
    (["--adapter", "nobody"], "expected a file, a folder or one of answerability"),
    (["--adapter", "empty"], "empty: file: expected adapter_config.json, got none"),
    (["--adapter", "all"], "expected a name of its own, got 'all'"),
])  # fmt: skip
def test_what_is_wrong_with_an_adapter_is_one_line(chat, argv, said):
    os.mkdir("empty")
    code, out, err = chat(*argv)
    assert (code, out, err.count("\n")) == (2, "", 1) and said in err


def test_show_takes_what_load_adapter_takes(capfd, peft, answerability):
    shown = []
    for given in (peft, answerability, "answerability"):
        assert main(["show", str(given), "--diffable"]) == 0
        shown.append([line for line in capfd.readouterr().out.splitlines() if not line.startswith("general.name")])
    assert shown[0] == shown[1] != shown[2]
    assert main(["show", str(peft), "--base", "nothing.gguf"]) == 2
    assert "nothing.gguf" in capfd.readouterr().err
