"""How many threads a process should have: no more than the cores that it may use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from alora_gguf.runtime.cores import usable_cores

MANY = 1000  # cores' worth of quota: no limit on any machine


def group(root: Path, lines: str, **files: str) -> Path:
    """A root with these lines in /proc/self/cgroup, and files below /sys/fs/cgroup whose names have __ for /."""
    for name, text in {"proc/self/cgroup": lines, **{f"sys/fs/cgroup/{name.replace('__', '/')}": text for name, text in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def cpu_max(cores: float) -> dict[str, str]:
    return {"cpu.max": f"{int(cores * 100000)} 100000\n"}


@pytest.mark.parametrize("lines, files, n", [
    ("0::/\n", {}, None),
    ("0::/\n", {"cpu.max": "max 100000\n"}, None),
    ("0::/\n", {"cpu.max": "100000 100000\n"}, 1),
    ("0::/\n", {"cpu.max": "50000 100000\n"}, 1),  # half a core is one thread
    ("0::/\n", {"cpu.max": "199999 100000\n"}, 1),
    ("0::/a/b\n", {"a__cpu.max": "100000 100000\n", "a__b__cpu.max": "max 100000\n"}, 1),  # a group around it has the limit
    ("0::/a\n", {"cpu.max": "100000 100000\n"}, 1),  # and a container sees its own as the root
    ("0::/../a\n", {"a__cpu.max": "100000 100000\n"}, 1),
    ("4:cpu,cpuacct:/a\n0::/\n", {"cpu__a__cpu.cfs_quota_us": "100000\n", "cpu__a__cpu.cfs_period_us": "100000\n"}, 1),
    ("4:cpu,cpuacct:/a\n", {"cpu,cpuacct__cpu.cfs_quota_us": "100000\n", "cpu,cpuacct__cpu.cfs_period_us": "100000\n"}, 1),
    ("4:cpu:/\n", {"cpu__cpu.cfs_quota_us": "-1\n", "cpu__cpu.cfs_period_us": "100000\n"}, None),
    ("5:cpuset:/\n", {"cpu__cpu.cfs_quota_us": "1\n", "cpu__cpu.cfs_period_us": "1\n"}, None),  # no group of the processor's time
    ("0::/\n", {"cpu.max": "many few\n"}, None),
    ("0::/\n", {"cpu.max": "100000 0\n"}, None),
    ("0::/\n", {"cpu.max": "\n"}, None),
    ("\n::\nno group\n", {}, None),
])  # fmt: skip
def test_a_containers_quota_counts(tmp_path, lines, files, n):
    nothing = usable_cores(tmp_path / "nothing")  # what the machine and the scheduler give
    assert usable_cores(group(tmp_path, lines, **files)) == (n or nothing)


def test_a_quota_of_more_than_there_is_adds_nothing(tmp_path):
    assert usable_cores(group(tmp_path, "0::/\n", **cpu_max(MANY))) == usable_cores(tmp_path / "nothing") <= os.cpu_count()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinities on this system")
def test_a_process_that_is_bound_to_one_core_uses_one(tmp_path):
    script = (
        "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); from alora_gguf.runtime.cores import usable_cores; print(usable_cores())"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "1\n"


def test_a_model_has_so_many_threads_unless_it_is_told(base_q4, monkeypatch):
    from alora_gguf import Model
    from alora_gguf.runtime.library import llama_cpp

    monkeypatch.setattr("alora_gguf.runtime.loading.usable_cores", lambda: 3)
    for options, n in (({}, (3, 3)), ({"n_threads": 1}, (1, 1)), ({"n_threads_batch": 2}, (3, 2))):
        with Model(base_q4, n_ctx=64, **options) as model:
            assert (llama_cpp.llama_n_threads(model.engine.context.ptr), llama_cpp.llama_n_threads_batch(model.engine.context.ptr)) == n
