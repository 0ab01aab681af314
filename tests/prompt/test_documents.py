"""Documents: which files are taken, and how they stand in a prompt."""

import os

import pytest

from alora_gguf import PromptError
from alora_gguf.prompt.documents import read_document


def test_text_in_utf_8_is_taken(tmp_path):
    path = tmp_path / "a file.txt"
    path.write_bytes(b"\xef\xbb\xbfcaf\xc3\xa9\n")
    assert read_document(path) == "caf\u00e9\n"


@pytest.mark.parametrize(
    "data, said",
    [
        (b"caf\xe9", "expected UTF-8 text, got byte 0xe9 at 3; save it as UTF-8"),
        ("It rains.".encode("utf-16"), "expected UTF-8 text, got byte 0xff at 0"),
        (b"a\0b", "expected text, got binary data"),
        (b" \n", "expected text, got none"),
        (b"x" * (1 << 20) + b"x", "expected at most 1048576 bytes, got more"),
    ],
    ids=range(5),
)
def test_what_is_no_text_is_refused(tmp_path, data, said):
    path = tmp_path / "file"
    path.write_bytes(data)
    with pytest.raises(PromptError) as e:
        read_document(path)
    assert str(e.value).startswith(f"{path}: {said}") and "\n" not in str(e.value)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")  # reading it would wait for ever
    for name, got in (("nothing", "nothing"), (".", "a folder"), ("pipe", "no file"), ("x\0y", "nothing"), ("x" * 300, "File name too long")):
        with pytest.raises(PromptError, match=f"expected a text file, got {got}; check the path"):
            read_document(tmp_path / name)
