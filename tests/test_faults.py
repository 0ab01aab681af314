"""Faults of the machine: processes that are killed, disks and memory that are full, files cut short, clocks that jump."""

import ast
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import alora_gguf
from alora_gguf import ContextFullError, Model, ModelLoadError, SavedConversationError
from alora_gguf.convert import ConversionError, base_fingerprint, convert, export

MESSAGES = [{"role": "user", "content": "word " * 150}]

SAVES = """
import sys
from alora_gguf import Model
with Model(sys.argv[1], n_ctx=512, n_threads=1) as model:
    chat = model.conversation(messages=[{"role": "user", "content": "word " * 150}])
    model.generate(chat.cells()[1], max_tokens=1)
    while True:
        chat.save(sys.argv[2])
        print("saved", flush=True)
"""


@pytest.fixture
def read_only(tmp_path) -> Path:
    """A folder that nobody may write in: for root, one of the kernel's."""
    if os.geteuid() == 0:
        return Path("/sys") if Path("/sys/kernel").exists() else pytest.skip("no /sys on this system")
    tmp_path.chmod(0o500)
    return tmp_path


@pytest.mark.parametrize("seconds", [0.0, 0.013, 0.05])
def test_a_kill_while_saving_leaves_a_whole_file(base_q4, shared, tmp_path, seconds):
    path = tmp_path / "chat"
    with subprocess.Popen([sys.executable, "-c", SAVES, str(base_q4), str(path)], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        time.sleep(seconds)
        process.kill()
    header = path.read_bytes()
    assert header[:8] == b"ALORACNV"
    with pytest.raises(SavedConversationError, match="cells: expected"):  # the shared model has other cells; all before that is right
        shared.restore(path)
    assert all(other.name.startswith(".chat.") for other in tmp_path.iterdir() if other != path)


def test_a_full_disk_loses_nothing(shared, answerability, base_q4, repo, full_disk, tmp_path):
    chat, path, adapter = shared.conversation(messages=MESSAGES), tmp_path / "chat", tmp_path / "adapter.gguf"
    chat.save(path)
    shutil.copy(answerability, adapter)
    before = {file: file.read_bytes() for file in (path, adapter)}
    chat.add("assistant", "more " * 1000)
    for error, write in (
        (SavedConversationError, lambda: chat.save(path)),
        (ConversionError, lambda: convert(repo / "tests" / "adapters" / "answerability", adapter, base=base_q4, outtype="f32")),
        (ConversionError, lambda: export(adapter, tmp_path / "folder", base_q4)),
    ):
        with full_disk(), pytest.raises(error, match="File too large") as raised:
            write()
        assert "\n" not in str(raised.value) and str(tmp_path) in str(raised.value)
        assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    chat.save(path)
    assert shared.restore(path).messages == chat.messages


def test_a_read_only_folder_is_one_line(shared, base_q4, answerability, repo, read_only):
    before = sorted(read_only.iterdir())
    for error, write in (
        (SavedConversationError, lambda: shared.conversation(messages=MESSAGES).save(read_only / "chat")),
        (ConversionError, lambda: convert(repo / "tests" / "adapters" / "answerability", read_only / "a.gguf", base=base_q4)),
        (ConversionError, lambda: export(answerability, read_only / "folder", base_q4)),
    ):
        with pytest.raises(error, match=rf"^{re.escape(str(read_only))}.*: expected [^\n]*$"):
            write()
    assert sorted(read_only.iterdir()) == before


def test_a_model_cut_short_anywhere_is_one_line(base_q4, tmp_path):
    path = tmp_path / "cut.gguf"
    shutil.copy(base_q4, path)
    size = path.stat().st_size
    for cut in (size - 1, size // 2, 3_000_000, 1_700_000, 900_000, 5000, 500, 24, 23, 4, 3, 0):
        os.truncate(path, cut)
        with pytest.raises(ModelLoadError, match=r"^[^\n]*cut.gguf: expected a GGUF model, got: [^\n]+; check the file$"):
            Model(path, n_ctx=256)
    with pytest.raises(alora_gguf.AloraError, match="cut.gguf"):
        base_fingerprint(path)


# Once without a limit: where a library's thread-local variables find no room when they are first used, the C library ends the process.
LOADS = """
import os, re, resource, sys
from alora_gguf import AloraError, Model
Model(sys.argv[1], n_ctx=256, n_threads=1).close()
has = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10
for more in map(int, sys.argv[2:]):
    child = os.fork()
    if not child:
        resource.setrlimit(resource.RLIMIT_AS, (has + (more << 20),) * 2)
        try:
            Model(sys.argv[1], n_ctx=16384, n_threads=1)
        except AloraError as e:
            print(e, flush=True)
            os._exit(3)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 3 << 8, more
"""


@pytest.mark.skipif(sys.platform != "linux", reason="sizes by /proc")
def test_memory_that_ends_while_loading_is_one_line(base_q4):
    """The cells take 360 MiB, the file 92: each limit stops at another allocation. Near 1 MiB it would be ggml_init's own, which asserts."""
    limits = ["0", "4", "8", "32", "80", "128", "200"]
    done = subprocess.run([sys.executable, "-c", LOADS, str(base_q4), *limits], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(limits) and all(line.startswith(str(base_q4)) and "make room in memory" in line for line in lines), lines


COMPUTES = """
import os, re, resource, sys
from alora_gguf import DecodeError, Model
from alora_gguf.runtime.context import Span
spans = [Span(0, list(range(500)), 0, 1)]
with Model(sys.argv[1], n_ctx=2048, n_threads=1) as model:
    for more in map(int, sys.argv[2:]):
        child = os.fork()
        if not child:
            has = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1])
            before = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, ((has + more) << 10, before[1]))
            try:
                model.engine.context.decode(spans)
                os._exit(1)
            except DecodeError as e:
                resource.setrlimit(resource.RLIMIT_AS, before)
                print(e, flush=True)
            model.engine.context.decode(spans)
            os._exit(3)
        assert os.waitpid(child, 0)[1] == 3 << 8, more
"""


@pytest.mark.skipif(sys.platform != "linux", reason="sizes by /proc")
def test_memory_that_ends_while_computing_is_one_line(base_q4):
    """Cells that were tried are gone again, and the graph takes more than a MiB; with more room the same context computes."""
    limits = ["0", "60", "100", "300", "1000"]
    done = subprocess.run([sys.executable, "-c", COMPUTES, str(base_q4), *limits], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(limits) and all(line.startswith("decode of 500 tokens: expected ") and "memory" in line for line in lines), lines


def test_a_context_that_is_full_loses_nothing(base_q4):
    with Model(base_q4, n_ctx=256, n_threads=1) as model:
        chat = model.conversation(messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}])
        first = chat.ask("Name a river.", max_tokens=4, temperature=0)
        said = list(chat.messages)
        grows = (lambda: chat.ask("so " * 300), 256), (lambda: chat.attach("so " * 300), 173), (lambda: model.generate("so " * 300), 256)
        for grow, n_most in grows:  # behind a document there has to be room for a question
            with pytest.raises(ContextFullError, match=f"expected at most {n_most} tokens"):
                grow()
        assert chat.messages == said and not chat.documents
        del chat.messages[-2:]
        assert chat.ask("Name a river.", max_tokens=4, temperature=0).text == first.text


def test_a_standard_output_that_is_full_is_one_line(answerability):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "alora_gguf.cli", "show", str(answerability)], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 2
    assert (
        done.stderr
        == "alora: error: standard output: expected a file that can be read or written, got: No space left on device; check the path and the room there\n"
    )


# clocks

OF_THE_WALL = {"time.time", "datetime.now", "datetime.today", "datetime.utcnow", "date.today"}
FOR_PEOPLE = {"answer.py", "models.py", "environment.py", "held.py"}  # OpenAI's `created`, a template's strftime_now, a conversation's date


def test_no_time_is_measured_by_a_clock_that_can_be_set():
    folder = Path(alora_gguf.__file__).parent
    found = {
        path.name
        for path in sources(folder)
        if path.parent.name not in ("bench", "train", "eval")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and ast.unparse(node) in OF_THE_WALL
    }
    assert found == FOR_PEOPLE


def test_a_clock_that_jumps_changes_nothing(shared, monkeypatch):
    ask = lambda: shared.conversation().ask("How are you?", max_tokens=6, temperature=0, watch=["answerability"])
    before = ask()
    jumps = iter(range(10**6))
    monkeypatch.setattr(time, "time", lambda: (-1) ** next(jumps) * 1e9)
    after = ask()
    assert after.text == before.text and 0 <= after.usage.ttft_ms < 600_000 and after.usage.tokens_per_second >= 0


def sources(folder: Path):
    """Every Python file of the package."""
    for where, _, names in os.walk(folder, followlinks=True):
        yield from (Path(where) / name for name in names if name.endswith(".py"))
