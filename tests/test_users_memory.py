"""Limits of memory and cores, as containers, Slurm and systemd set them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from coworld_jax.data import memory, total_bytes, usable_cores

GB = 10**9
FREE = 64 * GB


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 64 GB, all free; the test makes its control groups."""
    (tmp_path / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {FREE // 1024} kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUP", tmp_path / "cgroup")
    monkeypatch.setattr(memory, "_machine_bytes", lambda: FREE)
    for name in ("_VERSION_1", "_VERSION_2"):
        moved = [
            kind._replace(mount=tmp_path / "groups" / kind.mount.name)
            for kind in getattr(memory, name)
        ]
        monkeypatch.setattr(memory, name, moved)
    return tmp_path


def group(mount, path, limit, used=0, cache=0):
    """A control group of either version under ``mount``, ``cgroup`` or ``memory``."""
    place = mount / path
    place.mkdir(parents=True, exist_ok=True)
    first = mount.name == "memory"
    (place / ("memory.limit_in_bytes" if first else "memory.max")).write_text(f"{limit}\n")
    (place / ("memory.usage_in_bytes" if first else "memory.current")).write_text(f"{used}\n")
    own = "inactive_file 7\n" if first else ""  # version 1 counts the groups below apart
    name = "total_inactive_file" if first else "inactive_file"
    (place / "memory.stat").write_text(f"anon 5\n{own}{name} {cache}\n")


SLURM = "system.slice/slurmstepd.scope/job_7/step_0"
UNLIMITED = 9223372036854771712  # what version 1 says


def test_no_limit_leaves_what_the_machine_has(machine):
    assert memory.host_bytes() == FREE // 1024 * 1024
    (machine / "cgroup").write_text("0::/user.slice\n")
    group(machine / "groups/cgroup", "user.slice", "max")
    assert memory.host_bytes() == FREE // 1024 * 1024 and total_bytes() == FREE


@pytest.mark.parametrize("version", [1, 2])
def test_the_smallest_rest_along_nested_groups_counts(machine, version):
    mount = machine / "groups" / ("memory" if version == 1 else "cgroup")
    own = f"4:memory:/{SLURM}" if version == 1 else f"0::/{SLURM}"
    (machine / "cgroup").write_text(f"9:cpu,cpuacct:/elsewhere\n{own}\n")
    none = UNLIMITED if version == 1 else "max"
    group(mount, "", none)
    group(mount, "system.slice", 30 * GB, used=29 * GB)  # others in it took most
    group(mount, "system.slice/slurmstepd.scope", none)
    group(mount, "system.slice/slurmstepd.scope/job_7", 8 * GB, used=7 * GB, cache=4 * GB)
    group(mount, SLURM, none)
    group(mount, "elsewhere", 1)
    assert memory.host_bytes() == 1 * GB
    assert total_bytes() == 8 * GB
    group(mount, "system.slice", 30 * GB)
    assert memory.host_bytes() == 5 * GB  # the file cache makes room
    group(mount, SLURM, 2 * GB, used=3 * GB)
    assert memory.host_bytes() == 0 and total_bytes() == 2 * GB


def test_a_container_that_sees_the_hosts_path_has_the_limit_of_its_mount(machine):
    (machine / "cgroup").write_text("12:memory:/docker/0123abcd\n0::/../..\n")
    group(machine / "groups/memory", "", 3 * GB, used=GB)
    assert memory.host_bytes() == 2 * GB


def test_this_machine_is_read():
    assert 0 < memory.host_bytes() <= memory._machine_bytes() >= total_bytes() > 0


def test_cores_are_those_that_the_process_may_run_on():
    one = min(os.sched_getaffinity(0))
    program = (
        f"import os; os.sched_setaffinity(0, [{one}]); "
        "from coworld_jax.data import usable_cores; print(usable_cores())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True,
        cwd=Path(__file__).resolve().parent.parent,
    )  # fmt: skip
    assert done.stdout.strip() == "1"
    assert usable_cores() == len(os.sched_getaffinity(0))
