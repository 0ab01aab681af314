"""The kernels of 64-bit Arm, compiled for it and run on an emulator where this machine has other processors."""

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"
IS_ARM = platform.machine() in ("aarch64", "arm64")
COMPILER = shutil.which("c++" if IS_ARM else "aarch64-linux-gnu-g++")
EMULATOR = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")

pytestmark = pytest.mark.skipif(
    not COMPILER or not (IS_ARM or EMULATOR), reason="a compiler and an emulator of Arm: apt install g++-aarch64-linux-gnu qemu-user-static")


@pytest.mark.parametrize("flags", [[], ["-march=armv8.2-a+dotprod"]], ids=["generic", "dotprod"])
def test_kernels_equal_sums_in_double(flags, pristine, tmp_path):
    program = tmp_path / "check"
    built = subprocess.run(
        [COMPILER, "-std=c++17", "-O2", *([] if IS_ARM else ["-static"]), *flags, "-DALORA_KERNEL_NAME=alora_kernel_checked",
         f"-I{NATIVE}", f"-I{pristine}/ggml/include", Path(__file__).parent / "kernel_check.cpp", NATIVE / "alora-kernel.cpp", "-o", program],
        capture_output=True, check=False, text=True)
    assert built.returncode == 0, built.stderr[-2000:]
    ran = subprocess.run([program] if IS_ARM else [EMULATOR, "-cpu", "max", program], capture_output=True, check=False, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]
    errors = {name: (float(one), float(more)) for name, one, more in map(str.split, ran.stdout.splitlines())}
    assert set(errors) == {"F32", "F16", "BF16", "Q8_0"}
    for name, (one, more) in errors.items():
        assert one < (2e-2 if name == "Q8_0" else 1e-5)  # one token is rounded to Q8_0 too
        assert more < 1e-5
