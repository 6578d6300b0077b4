"""How much memory and how many cores this process may use, and how to say so."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import jax

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/proc/self/cgroup")  # the control groups of this process


class _Hierarchy(NamedTuple):
    """How control groups keep their memory: the mount, and the names of their files."""

    mount: Path
    limit: str
    used: str
    cache: str  # in memory.stat: a file cache, which makes room when asked


_VERSION_2 = (
    _Hierarchy(Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    _Hierarchy(Path("/sys/fs/cgroup/unified"), "memory.max", "memory.current", "inactive_file"),
)
_VERSION_1 = (
    _Hierarchy(
        Path("/sys/fs/cgroup/memory"),
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def host_bytes() -> int:
    """Bytes that this process can still take from the host, under every limit that it is under.

    Containers, Slurm and systemd set limits on nested control groups: the smallest rest counts.
    """
    if _MEMINFO.exists():
        fields = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        left = int(fields["MemAvailable"].split()[0]) * 1024
    else:  # no Linux: what the machine has, which is better than no check
        left = _machine_bytes()
    for group, hierarchy in _limited_groups():
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        taken = int((group / hierarchy.used).read_text()) - int(stat[hierarchy.cache])
        left = min(left, int((group / hierarchy.limit).read_text()) - taken)
    return max(left, 0)


def available_bytes() -> int:
    """Bytes that the default jax device can still take; on a CPU, those of the host."""
    stats = jax.local_devices()[0].memory_stats()
    if stats is None or "bytes_limit" not in stats:
        return host_bytes()
    return int(stats["bytes_limit"]) - int(stats["bytes_in_use"])


def total_bytes() -> int:
    """Bytes that the default jax device has; on a CPU, what the host lets this process have."""
    stats = jax.local_devices()[0].memory_stats()
    if stats is None or "bytes_limit" not in stats:
        limits = [int((group / kind.limit).read_text()) for group, kind in _limited_groups()]
        return min([_machine_bytes(), *limits])
    return int(stats["bytes_limit"])


def usable_cores() -> int:
    """Cores that this process may run on: fewer than the machine's under Slurm or taskset."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def format_bytes(count: float) -> str:
    """``1.2 GB`` and the like, in powers of 1000."""
    for unit in ("bytes", "kB", "MB"):
        if count < 999.5:  # what rounds to less than 1000
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000.0
    return f"{count:.1f} GB"


def _machine_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _limited_groups() -> Iterator[tuple[Path, _Hierarchy]]:
    """Control groups with a limit of memory: those of this process, and all that they lie in.

    In a container the paths may be those of the host, which are not there; its mount, then, is the
    container's own group.
    """
    lines = _CGROUP.read_text().splitlines() if _CGROUP.exists() else []
    for line in lines:  # hierarchy:controllers:path
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        inner = PurePosixPath(path).relative_to("/")
        for hierarchy in _VERSION_1 if controllers else _VERSION_2:
            for part in (inner, *inner.parents):
                group = hierarchy.mount / part
                if (group / hierarchy.limit).exists() and _is_limited(group / hierarchy.limit):
                    yield group, hierarchy


def _is_limited(limit: Path) -> bool:
    return limit.read_text().strip() != "max"
