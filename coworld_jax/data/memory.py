"""How much memory is left, and how to say so."""

from __future__ import annotations

import os
from pathlib import Path

import jax

_MEMINFO = Path("/proc/meminfo")
# Limit and use of the control group that a container runs in: version 2, version 1.
_GROUPS = (
    (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")),
    (
        Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
        Path("/sys/fs/cgroup/memory/memory.usage_in_bytes"),
    ),
)


def host_bytes() -> int:
    """Bytes that this process can still take from the host, a container's limit respected."""
    if _MEMINFO.exists():
        fields = dict(line.split(":", 1) for line in _MEMINFO.read_text().splitlines())
        left = int(fields["MemAvailable"].split()[0]) * 1024
    else:  # no Linux: what the machine has, which is better than no check
        left = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for limit, used in _GROUPS:
        if limit.exists() and used.exists() and limit.read_text().strip() != "max":
            left = min(left, int(limit.read_text()) - int(used.read_text()))
    return max(left, 0)


def available_bytes() -> int:
    """Bytes that the default jax device can still take; on a CPU, those of the host."""
    stats = jax.local_devices()[0].memory_stats()
    if stats is None or "bytes_limit" not in stats:
        return host_bytes()
    return int(stats["bytes_limit"]) - int(stats["bytes_in_use"])


def format_bytes(count: float) -> str:
    """``1.2 GB`` and the like, in powers of 1000."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000.0:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.3g} {unit}"
        count /= 1000.0
    return f"{count:.1f} GB"
