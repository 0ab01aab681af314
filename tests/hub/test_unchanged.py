"""What is remembered of files is given again as long as they are the same, and never longer."""

import builtins
import os
import time

import pytest

from alora_gguf.hub.converted import as_gguf
from alora_gguf.hub.unchanged import remembered


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    return [tmp_path / "a", tmp_path / "b"]


@pytest.fixture
def counted(files):
    """The value of the files, and how often it was computed."""
    computed = []

    def counted(given=files):
        value = remembered("it", given, lambda: computed.append(1) or "".join(file.read_text() for file in given))
        return value, len(computed)

    return counted


def test_it_is_computed_once(counted):
    assert [counted() for _ in range(3)] == [("ab", 1)] * 3


def test_it_is_computed_again_for_anything_else(files, counted, tmp_path):
    a, b = files
    n = counted()[1]
    for change in (
        lambda: a.write_text("aa"), lambda: a.write_text("cc"), lambda: (a.write_text("dd"), os.utime(a, ns=(1, 1))), lambda: os.utime(b, ns=(5, 5)),
        lambda: (b.rename(tmp_path / "old"), b.write_text("b")), lambda: os.replace(tmp_path / "old", b),
    ):  # fmt: skip
        change()
        value, computed = counted()
        assert value == a.read_text() + b.read_text() and computed > n
        n = computed
        assert counted() == (value, n)
    assert counted([a])[1] == n + 1 and counted([a, b])[1] == n + 2


def test_changes_that_do_not_show_are_not_missed(files, counted, monkeypatch):
    """On a file system whose times are whole seconds."""
    os.utime(files[0], ns=(0, 1_000_000_000))
    assert counted()[1] == 1 and counted()[1] == 2  # its last change was a moment ago, and the next could be as long ago
    later = time.time_ns() + 3_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: later)
    assert counted()[1] == 3 and counted()[1] == 3


def test_what_changes_right_after_it_was_looked_at_is_seen(files, counted):
    for text in "xyzxyzxyz":
        files[0].write_text(text)
        assert counted()[0] == f"{text}b"


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"3", b"\xff", b'{"state": [], "value": "x"}', b"[" * 100_000])
def test_a_damaged_memory_is_none(counted, tmp_path, text):
    counted()
    [kept] = (tmp_path / "cache" / "alora_gguf" / "unchanged").iterdir()
    kept.write_bytes(text)
    assert counted() == ("ab", 2) and counted() == ("ab", 2)
    value = kept.read_text().replace('"ab"', "7")
    kept.write_text(value)
    assert counted() == ("ab", 3)


def test_a_cache_that_cannot_be_written_is_none(counted, tmp_path):
    (tmp_path / "cache").write_text("a file")
    assert [counted() for _ in range(2)] == [("ab", 1), ("ab", 2)]


def test_what_fails_is_not_remembered(files):
    with pytest.raises(KeyError):
        remembered("it", files, lambda: {}["x"])
    assert remembered("it", files, lambda: "x") == "x"


def test_the_tensors_of_a_folder_are_read_once(files, repo, base_q4, tmp_path, monkeypatch):
    """Only to convert them, and to know them again; then nothing of them is looked at but what the system says."""
    import shutil

    folder = shutil.copytree(repo / "tests" / "adapters" / "answerability", tmp_path / "peft")
    first = as_gguf(folder, base_q4)
    opened = []
    real = builtins.open
    monkeypatch.setattr(builtins, "open", lambda file, *args, **kwargs: opened.append(str(file)) or real(file, *args, **kwargs))
    assert as_gguf(folder, base_q4) == first and not [file for file in opened if str(folder) in file]
    (folder / "io.yaml").write_text((folder / "io.yaml").read_text() + "# another\n")
    assert as_gguf(folder, base_q4) != first and [file for file in opened if file.endswith(".safetensors")]
