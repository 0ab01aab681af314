"""What links here links elsewhere, too, as far as that shows without another system; `make cross` builds for them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from native_runtime import llama_cpp

NATIVE = Path(__file__).parents[2] / "native"
CMAKE = shutil.which("cmake") or shutil.which("cmake", path=Path(sys.executable).parent)

EVERYWHERE = {"immintrin.h", "arm_neon.h", "cpuid.h", "stddef.h", "stdint.h", "string.h"}  # the compiler's, and C's
SYSTEMS = {  # headers that some systems have: which file includes them for those
    "alora-system.cpp": {"windows.h", "dlfcn.h", "sys/mman.h"},
    "alora-cpu.cpp": {"sys/auxv.h", "sys/sysctl.h"},
    "alora.cpp": {"malloc.h"},
}


def test_the_headers_of_a_system_are_in_few_places():
    found = {
        path.name: set(re.findall(r"^\s*#\s*include\s*<([^>]+\.h)>", path.read_text(), re.MULTILINE)) - EVERYWHERE
        for path in NATIVE.iterdir()
        if path.suffix in (".h", ".cpp")
    }
    assert {name: headers for name, headers in found.items() if headers} == SYSTEMS


def test_no_container_of_what_is_only_declared():
    """libstdc++ takes a deque of it, libc++ and the standard do not; lists may be of such."""
    for path in NATIVE.glob("*.h"):
        text = path.read_text()
        declared = set(re.findall(r"^\s*(?:struct|class) (\w+);", text, re.MULTILINE))
        assert not declared & set(re.findall(r"std::deque<(\w+)>", text)), path.name


AVX2 = {"avx2", "fma", "f16c"}
KERNELS = {"avx512": {*AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni"}, "avx2": AVX2, "generic": set()}  # the best first


@pytest.mark.parametrize("asked", [None, *KERNELS, "dotprod"])
def test_the_best_kernels_that_the_processor_has(asked, monkeypatch):
    try:
        flags = set(re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)[1].split())
    except (OSError, TypeError):
        pytest.skip("an x86-64 processor with Linux")
    monkeypatch.delenv("ALORA_KERNEL", raising=False)
    if asked:
        monkeypatch.setenv("ALORA_KERNEL", asked)
    best = [name for name, needed in KERNELS.items() if needed <= flags and asked in (None, name)]
    assert llama_cpp._lib.alora_kernels_name().decode() == [*best, "generic"][0]


def zig(folder: Path, target: str) -> subprocess.CompletedProcess:
    """What the toolchain file makes of a target."""
    (folder / "show.cmake").write_text(
        f'include("{NATIVE}/cross/zig.cmake")\nmessage("${{CMAKE_SYSTEM_NAME}} ${{CMAKE_SYSTEM_PROCESSOR}}; ${{CMAKE_CXX_COMPILER}}")\n'
    )
    return subprocess.run([CMAKE, "-DALORA_ZIG=/zig", f"-DALORA_TARGET={target}", "-P", "show.cmake"], cwd=folder, capture_output=True, text=True)


@pytest.mark.skipif(not CMAKE, reason="CMake")
@pytest.mark.parametrize(
    "target, system",
    {
        "x86_64-windows-gnu": "Windows x86_64",
        "aarch64-macos": "Darwin aarch64",
        "x86_64-macos": "Darwin x86_64",
        "aarch64-linux-gnu.2.28": "Linux aarch64",
    }.items(),
)
def test_a_target_of_the_toolchain(target, system, tmp_path):
    done = zig(tmp_path, target)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (0, f"{system}; /zig;c++;-target;{target}")


@pytest.mark.skipif(not CMAKE, reason="CMake")
@pytest.mark.parametrize("target", ["", "x86_64", "riscv64-linux-gnu", "x86_64-freebsd"])
def test_a_target_that_it_does_not_know(target, tmp_path):
    done = zig(tmp_path, target)
    assert done.returncode == 1 and "ALORA_TARGET: expected x86_64 or aarch64" in " ".join(done.stderr.split()) and f"'{target}'" in done.stderr
