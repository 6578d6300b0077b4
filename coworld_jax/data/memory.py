"""How much memory is left, and how to say so."""

from __future__ import annotations

import os
from pathlib import Path

import jax

_MEMINFO = Path("/proc/meminfo")
# The control group that a container runs in: limit, use, and how much of the use is a file cache
# that makes room when asked; version 2, version 1.
_GROUPS = (
    (Path("/sys/fs/cgroup"), "memory.max", "memory.current", "inactive_file"),
    (
        Path("/sys/fs/cgroup/memory"),
        "memory.limit_in_bytes",
        "memory.usage_in_bytes",
        "total_inactive_file",
    ),
)


def host_bytes() -> int:
    """Bytes that this process can still take from the host, a container's limit respected."""
    if _MEMINFO.exists():
        fields = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        left = int(fields["MemAvailable"].split()[0]) * 1024
    else:  # no Linux: what the machine has, which is better than no check
        left = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for group, limit, used, cache in _GROUPS:
        if not (group / limit).exists() or (group / limit).read_text().strip() == "max":
            continue
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        taken = int((group / used).read_text()) - int(stat[cache])
        left = min(left, int((group / limit).read_text()) - taken)
    return max(left, 0)


def available_bytes() -> int:
    """Bytes that the default jax device can still take; on a CPU, those of the host."""
    stats = jax.local_devices()[0].memory_stats()
    if stats is None or "bytes_limit" not in stats:
        return host_bytes()
    return int(stats["bytes_limit"]) - int(stats["bytes_in_use"])


def total_bytes() -> int:
    """Bytes that the default jax device has; on a CPU, those of the host."""
    stats = jax.local_devices()[0].memory_stats()
    if stats is None or "bytes_limit" not in stats:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(stats["bytes_limit"])


def format_bytes(count: float) -> str:
    """``1.2 GB`` and the like, in powers of 1000."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000.0:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000.0
    return f"{count:.1f} GB"
