"""The pinned source and the patches: applied exactly, once, and taken back without a trace; a wrong source stops."""

import importlib.util
import io
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from alora_gguf import versions as pinned

REPO = Path(__file__).resolve().parents[2]
SOURCE = REPO / "native" / "source.py"


def load_module():
    spec = importlib.util.spec_from_file_location("native_source", SOURCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


source = load_module()


class Hunk:
    """Lines of one hunk of a patch, and where they begin (from 1) before and after it."""

    def __init__(self, patch: Path, path: str, header: str, lines: list[str]):
        self.patch, self.path, self.lines = patch, path, lines
        self.old_start, self.new_start = map(int, re.match(r"@@ -(\d+),\d+ \+(\d+),\d+ @@", header).groups())
        self.old = [line[1:] for line in lines if line[0] in " -"]
        self.new = [line[1:] for line in lines if line[0] in " +"]


def hunks(*patches: Path) -> list[Hunk]:
    """Of the patches, default: of all in their order."""
    out = []
    for patch in patches or source.PATCHES:
        path = None
        for line in patch.read_text().splitlines():
            if line.startswith("+++ b/"):
                path = line[6:]
            elif line.startswith("@@") and path:
                out.append((patch, path, line, []))
            elif path and not line.startswith("--- "):
                out[-1][3].append(line)
    return [Hunk(*fields) for fields in out]


TOUCHED = sorted({hunk.path for hunk in hunks()})
each_patch = pytest.mark.parametrize("patch", source.PATCHES, ids=lambda p: p.stem)


@pytest.fixture
def tree(pristine, tmp_path) -> Path:
    """The files that the patches touch, as they came."""
    for name in TOUCHED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pristine / name, tmp_path / name)
    return tmp_path


def contents(tree: Path) -> dict[str, bytes]:
    return {str(p.relative_to(tree)): p.read_bytes() for p in tree.rglob("*") if p.is_file()}


def times(tree: Path) -> dict[str, int]:
    return {str(p.relative_to(tree)): p.stat().st_mtime_ns for p in tree.rglob("*") if p.is_file()}


# the patches


def test_every_patch_file_is_applied():
    assert sorted(source.PATCHES) == sorted((REPO / "native" / "patches").iterdir())


def test_every_hunk_is_where_it_says_it_is(tree):
    """No fuzz and no offset: before in the tree that the patches before it left, after in the patched one."""
    lines = lambda: {name: (tree / name).read_text().splitlines() for name in TOUCHED}
    for patch in source.PATCHES:
        before = lines()
        source.apply_patch(tree, patch)
        after = lines()
        assert {name for name in TOUCHED if before[name] != after[name]} == set(source.touched(patch))
        for h in hunks(patch):
            assert before[h.path][h.old_start - 1 :][: len(h.old)] == h.old
            assert after[h.path][h.new_start - 1 :][: len(h.new)] == h.new


def test_they_only_add_lines(tree):
    before = {name: (tree / name).read_text().splitlines() for name in TOUCHED}
    source.apply_patches(tree)
    assert not [line for h in hunks() for line in h.lines if line[0] == "-"]
    for name in TOUCHED:
        added = [line for h in hunks() if h.path == name for line in h.lines if line[0] == "+"]
        after = (tree / name).read_text().splitlines()
        rest = iter(after)
        assert all(line in rest for line in before[name])  # in this order
        assert len(after) == len(before[name]) + len(added)


def test_twice_is_once(tree):
    source.apply_patches(tree)
    once = contents(tree)
    source.apply_patches(tree)
    assert contents(tree) == once


@pytest.mark.parametrize("n", range(len(source.PATCHES)))
def test_a_tree_with_some_of_them_gets_the_rest(tree, n):
    for patch in source.PATCHES[:n]:
        source.apply_patch(tree, patch)
    some = contents(tree)
    source.apply_patches(tree)
    whole = contents(tree)
    assert whole != some
    source.apply_patches(tree, reverse=True)
    source.apply_patches(tree)
    assert contents(tree) == whole


def test_the_reverse_restores_every_byte(tree):
    before = contents(tree)
    source.apply_patches(tree, reverse=True)
    assert contents(tree) == before
    source.apply_patches(tree)
    assert contents(tree) != before
    source.apply_patches(tree, reverse=True)
    assert contents(tree) == before


@pytest.mark.parametrize("gone", ["masked-cells", "decode-errors"])
def test_each_can_go_alone(tree, monkeypatch, gone):
    """All but the first, which is what they are for: the others still apply without fuzz."""
    lines = {patch.stem: {line for h in hunks(patch) for line in h.lines if line[0] == "+"} for patch in source.PATCHES}
    monkeypatch.setattr(source, "PATCHES", tuple(p for p in source.PATCHES if p.stem != gone))
    source.apply_patches(tree)
    now = {f"+{line}" for text in contents(tree).values() for line in text.decode().splitlines()}
    for stem, added in lines.items():
        assert (added <= now) == (stem != gone)


@pytest.mark.parametrize("hunk", hunks(), ids=lambda h: f"{h.patch.stem}:{Path(h.path).name}:{h.old_start}")
def test_a_line_of_context_that_changed_stops_it(tree, hunk):
    for patch in source.PATCHES[: source.PATCHES.index(hunk.patch)]:
        source.apply_patch(tree, patch)
    path = tree / hunk.path
    lines = path.read_text().splitlines(keepends=True)
    at = hunk.old_start - 1 + next(i for i, line in enumerate(hunk.old) if line)
    lines[at] = "// " + lines[at]
    path.write_text("".join(lines))
    with pytest.raises(source.SourceError, match=f"{hunk.patch.name}: expected .* without fuzz, got: .*{hunk.path}"):
        source.apply_patch(tree, hunk.patch)
    with pytest.raises(source.SourceError, match=f"without fuzz, got: .*{hunk.path}"):
        source.apply_patches(tree)


def test_a_file_without_a_hunk_stops_it(tree, monkeypatch, tmp_path_factory):
    empty = tmp_path_factory.mktemp("patch") / "empty.patch"
    empty.write_text("Why: nothing.\n")
    monkeypatch.setattr(source, "PATCHES", (*source.PATCHES, empty))
    assert "empty.patch: expected a patch" in refused(lambda: source.apply_patches(tree))


@each_patch
def test_its_header_says_why_for_what_until_when_and_names_every_file(patch):
    header = patch.read_text().split("--- a/")[0]
    assert all(re.search(rf"^{begin}", header, re.MULTILINE) for begin in ("Why: ", "Goes ", f"For: .*{re.escape(source.VERSION)}"))
    assert sorted(re.findall(r"^  ((?:ggml/)?src/\S+)", header, re.MULTILINE)) == sorted(source.touched(patch))


def test_a_patched_tree_calls_our_code_and_a_pristine_one_does_not(pristine, tree):
    assert b"alora" not in b"".join(contents(tree).values())
    source.apply_patches(tree)
    for name in TOUCHED:
        assert "alora" in (tree / name).read_text().lower()


# the source


def test_the_archive_is_the_pinned_one(archive):
    assert source.sha256(archive) == source.SHA256


@pytest.fixture(scope="module")
def small_archive(pristine, tmp_path_factory) -> Path:
    """One that has of llama.cpp only what is looked at, because a whole one takes seconds to unpack."""
    name = f"llama_cpp_python-{source.VERSION}"
    path = tmp_path_factory.mktemp("archive") / f"{name}.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for file in [*TOUCHED, "CMakeLists.txt", "LICENSE", "include/llama.h"]:
            tar.add(pristine / file, f"{name}/vendor/llama.cpp/{file}")
        tar.add(pristine / "LICENSE", f"{name}/vendor/llama.cpp/examples/LICENSE")
        tar.add(pristine / "LICENSE", f"{name}/LICENSE.md")
    return path


@pytest.fixture
def folder(small_archive, tmp_path, monkeypatch) -> Path:
    """A build folder that has the archive."""
    shutil.copy(small_archive, tmp_path)
    monkeypatch.setattr(source, "SHA256", source.sha256(small_archive))
    return tmp_path


def test_prepared_twice_is_prepared_once(folder):
    out = folder / "llama.cpp"
    source.prepare(out)
    assert sorted(contents(out)) == sorted([*TOUCHED, "CMakeLists.txt", "LICENSE", "include/llama.h", ".alora"])
    assert "alora" in (out / "src/llama-graph.cpp").read_text()
    before = times(out)
    source.prepare(out)
    assert times(out) == before
    assert sorted(p.name for p in folder.iterdir()) == sorted([out.name, *(p.name for p in folder.glob("*.tar.gz"))])


def test_another_patch_rewrites_only_what_changes(folder, monkeypatch):
    out = folder / "llama.cpp"
    source.prepare(out)
    before = times(out)
    (out / "src/left-over.cpp").write_text("int left_over;")
    other = folder / "other.patch"
    other.write_text(source.PATCHES[0].read_text().replace('+#include "alora-graph.h"', '+#include "alora-graph.h" // another'))
    monkeypatch.setattr(source, "PATCHES", (other, *source.PATCHES[1:]))
    source.prepare(out)
    after = times(out)
    assert {name for name in after if after[name] != before.get(name)} == {"src/llama-graph.cpp", ".alora"}
    assert after.keys() == before.keys()


def test_an_interrupted_run_is_done_again(folder, monkeypatch):
    out = folder / "llama.cpp"
    source.prepare(out)
    want = contents(out)
    other = folder / "other.patch"
    other.write_text("A comment.\n" + source.PATCHES[-1].read_text())
    monkeypatch.setattr(source, "PATCHES", (*source.PATCHES[:-1], other))
    monkeypatch.setattr(source, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        source.prepare(out)
    monkeypatch.undo()
    monkeypatch.setattr(source, "SHA256", source.sha256(next(folder.glob("*.tar.gz"))))
    (out / "src/llama-graph.cpp").unlink()  # what the interrupt left behind
    source.prepare(out)
    assert contents(out) == want


def refused(action) -> str:
    with pytest.raises(source.SourceError) as caught:
        action()
    line = str(caught.value)
    assert "\n" not in line and "expected" in line and "got" in line
    return line


def test_a_damaged_archive_is_named_with_both_hashes_and_removed(tmp_path):
    archive = tmp_path / "llama_cpp_python-0.3.36.tar.gz"
    archive.write_bytes(b"not what it was")
    got = source.sha256(archive)
    line = refused(lambda: source.prepare(tmp_path / "llama.cpp"))
    assert source.SHA256 in line and got in line and archive.name in line
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def checkout(pristine, tmp_path) -> Path:
    """A folder of llama.cpp that is not a whole one, which is enough to be refused or patched."""
    out = tmp_path / "checkout"
    for name in [*TOUCHED, "CMakeLists.txt", "LICENSE", "include/llama.h"]:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(pristine / name, out / name)
    (out / "examples").mkdir()
    (out / "examples/main.cpp").write_text("int main() {}")
    return out


def test_another_version_is_named_with_both(checkout, tmp_path):
    cmake = checkout / "CMakeLists.txt"
    cmake.write_text(re.sub(r"set\(LLAMA_VERSION_MINOR \d+\)", "set(LLAMA_VERSION_MINOR 99)", cmake.read_text()))
    line = refused(lambda: source.prepare(tmp_path / "out", checkout))
    assert f"expected version {source.LLAMA_VERSION}, got 0.99." in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", [None, "// another header\n"])
def test_another_header_is_named_with_both_hashes(checkout, tmp_path, text):
    header = checkout / "include/llama.h"
    header.unlink() if text is None else header.write_text(text)
    line = refused(lambda: source.prepare(tmp_path / "out", checkout))
    assert source.LLAMA_H_SHA256 in line and ("got no file" if text is None else source.sha256(header)) in line


def test_a_folder_that_is_none_is_named(tmp_path):
    for path in (tmp_path / "nothing", tmp_path):
        assert "got no llama.cpp" in refused(lambda: source.prepare(tmp_path / "out", path))


def test_from_a_checkout_a_copy_is_patched(checkout, tmp_path):
    out, before = tmp_path / "out", contents(checkout)
    source.prepare(out, checkout)
    assert contents(checkout) == before
    got = contents(out)
    assert "examples/main.cpp" not in got and all(b"alora" in got[name].lower() for name in TOUCHED)
    once = times(out)
    source.prepare(out, checkout)
    assert times(out) == once
    # what is edited there comes along
    (checkout / "LICENSE").write_text("another")
    source.prepare(out, checkout)
    assert (out / "LICENSE").read_text() == "another"


def test_from_a_patched_checkout_nothing_is_patched_twice(checkout, tmp_path):
    source.apply_patches(checkout)
    source.prepare(tmp_path / "out", checkout)
    assert all((tmp_path / "out" / name).read_bytes() == (checkout / name).read_bytes() for name in TOUCHED)


def test_pristine_is_not_patched(checkout, tmp_path):
    source.prepare(tmp_path / "out", checkout, pristine=True)
    assert all((tmp_path / "out" / name).read_bytes() == (checkout / name).read_bytes() for name in TOUCHED)


def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path):
    archive = tmp_path / "x-1.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("x-1/vendor/llama.cpp/src/../../../evil")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"evil"))
    assert "evil" in refused(lambda: source.unpack(archive, tmp_path / "a" / "out"))
    assert [p.name for p in tmp_path.rglob("*") if p.is_file()] == [archive.name]


def test_the_command_says_one_line(checkout, tmp_path):
    def run(*args):
        return subprocess.run([sys.executable, SOURCE, *args], capture_output=True, text=True)

    done = run(tmp_path / "out", "--from", checkout)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "alora" in (tmp_path / "out/src/llama-graph.h").read_text()
    done = run(tmp_path / "out", "--from", tmp_path / "nothing")
    assert done.returncode == 1 and done.stdout == ""
    assert re.fullmatch(r"alora_gguf: error: .*expected version .*, got no llama\.cpp; .*\n", done.stderr)


def test_the_package_says_what_is_inside(archive):
    assert (pinned.LLAMA_CPP_PYTHON, pinned.LLAMA_CPP) == (source.VERSION, source.LLAMA_VERSION)
    with tarfile.open(archive) as tar:
        head = next(m for m in tar if m.name.endswith(".git/modules/vendor/llama.cpp/HEAD"))
        assert tar.extractfile(head).read().decode().strip() == pinned.LLAMA_CPP_COMMIT
