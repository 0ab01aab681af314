"""The kernels of every instruction set against sums in double: this processor's, and 64-bit Arm's on an emulator elsewhere."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"
IS_ARM = platform.machine() in ("aarch64", "arm64")
ARM = {"": [], "dotprod": ["-march=armv8.2-a+dotprod"]}
X86 = {"": [], "avx2": ["-mavx2", "-mfma", "-mf16c"]}
X86["avx512_vnni"] = [*X86["avx2"], *(f"-mavx512{part}" for part in ("f", "bw", "dq", "vl", "vnni"))]


def check(command: list[str], runs: list[str], flags: list[str], pristine: Path, folder: Path) -> None:
    program = folder / "check"
    built = subprocess.run(
        [
            *command,
            "-std=c++17",
            "-O2",
            "-ffp-contract=off",
            *flags,
            "-DALORA_KERNEL_NAME=alora_kernel_checked",
            "-DALORA_ATTENTION_NAME=alora_attention_checked",
            f"-I{NATIVE}",
            f"-I{pristine}/ggml/include",
            Path(__file__).parent / "kernel_check.cpp",
            NATIVE / "alora-kernel.cpp",
            NATIVE / "alora-attention-kernel.cpp",
            "-o",
            program,
        ],
        capture_output=True,
        check=False,
        text=True,
    )
    assert built.returncode == 0, built.stderr[-2000:]
    ran = subprocess.run([*runs, program], capture_output=True, check=False, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    errors = {name: tuple(map(float, values)) for name, *values in map(str.split, ran.stdout.splitlines())}
    assert set(errors) == {"F32", "F16", "BF16", "Q8_0"}
    for one, more, attention, n_tokens, n_queries in errors.values():
        assert one < 1e-5 and more < 1e-5 and attention < 1e-5
        assert n_tokens == n_queries == 0  # whose sums depend on those beside them


@pytest.mark.parametrize("isa", ARM if IS_ARM else X86)
def test_kernels_equal_sums_in_double(isa, pristine, tmp_path):
    cpu_info = Path("/proc/cpuinfo")
    if not IS_ARM and isa and not (cpu_info.exists() and f" {isa} " in cpu_info.read_text()):
        pytest.skip(f"a processor with {isa}")
    check(["c++"], [], (ARM if IS_ARM else X86)[isa], pristine, tmp_path)


OTHERS = [name for name in (*(f"g++-{n}" for n in range(9, 12)), *(f"clang++-{n}" for n in range(12, 14)), "clang++") if shutil.which(name)]


@pytest.mark.rare
@pytest.mark.skipif(IS_ARM or not OTHERS, reason="another compiler: apt install g++-11 clang")
@pytest.mark.parametrize("compiler", OTHERS)
def test_other_compilers_make_them_too(compiler, pristine, tmp_path):
    """GCC has had __builtin_shufflevector since 12."""
    check([compiler], [], X86[""], pristine, tmp_path)
    if " avx2 " in Path("/proc/cpuinfo").read_text():
        check([compiler], [], X86["avx2"], pristine, tmp_path)


CROSS = shutil.which("aarch64-linux-gnu-g++")
EMULATOR = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")


@pytest.mark.rare
@pytest.mark.skipif(
    IS_ARM or not CROSS or not EMULATOR, reason="a compiler and an emulator of Arm: apt install g++-aarch64-linux-gnu qemu-user-static"
)
@pytest.mark.parametrize("isa", ARM)
def test_kernels_of_arm_equal_sums_in_double(isa, pristine, tmp_path):
    check([CROSS, "-static"], [EMULATOR, "-cpu", "max"], ARM[isa], pristine, tmp_path)
