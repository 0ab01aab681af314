"""How many cores there are for this process: what the machine has, less what it may not use."""

import os
from collections.abc import Iterator
from pathlib import Path


def usable_cores(root: Path = Path("/")) -> int:
    """The cores that the process may run on, and no more than a container's quota of processor time pays for; at least 1.

    `root` holds Linux's proc and sys.
    """
    if count := getattr(os, "process_cpu_count", None):  # of Python 3.13
        n = count()
    elif hasattr(os, "sched_getaffinity"):
        n = len(os.sched_getaffinity(0))
    else:
        n = os.cpu_count()
    return max(1, min([n or 1, *(int(quota) for quota in _quotas(root))]))  # rounded down: threads beyond it stand still in turn


def _quotas(root: Path) -> Iterator[float]:
    """Cores' worth of time that the process's control group, or one around it, has in each period."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = (line.split(":", 2) + ["", ""])[:3]
        if not controllers:  # version 2
            mounts, read = ["sys/fs/cgroup", "sys/fs/cgroup/unified"], _quota_v2
        elif "cpu" in controllers.split(","):
            mounts, read = ["sys/fs/cgroup/cpu", f"sys/fs/cgroup/{controllers}"], _quota_v1
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for mount in mounts:
            for n in range(len(parts) + 1):  # a container often sees its own group as the root
                quota = read(root.joinpath(mount, *parts[:n]))
                if quota is not None:
                    yield quota


def _quota_v2(folder: Path) -> float | None:
    return _ratio(*(_read(folder / "cpu.max").split() + ["", ""])[:2])


def _quota_v1(folder: Path) -> float | None:
    return _ratio(_read(folder / "cpu.cfs_quota_us").strip(), _read(folder / "cpu.cfs_period_us").strip())


def _ratio(quota: str, period: str) -> float | None:
    """None where there is no limit, which is written as "max" or -1."""
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, ValueError):
        return ""
