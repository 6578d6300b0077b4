"""Settings of the process, in processes."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from coworld_jax.training import runtime

PROGRAM = """
import json, os, sys
from coworld_jax.training.runtime import restart_with_huge_pages

starts = os.environ["STARTS"] = os.environ.get("STARTS", "") + "+"
restart_with_huge_pages()
print(json.dumps([starts, os.getpid(), sys.argv[1:], os.environ["GLIBC_TUNABLES"]]))
"""


def test_calls_are_made_synchronous_before_the_first_device_starts(monkeypatch):
    told = []
    monkeypatch.setattr(jax.config, "update", lambda name, value: told.append((name, value)))
    monkeypatch.setattr(jax, "local_devices", lambda: told.append("devices"))
    runtime.check_devices()
    assert told == [("jax_cpu_enable_async_dispatch", False), "devices"]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc alone has the tunable")
@pytest.mark.parametrize(
    ("before", "starts", "after"),
    [
        (None, "++", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.check=0", "++", "glibc.malloc.check=0:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "+", "glibc.malloc.hugetlb=0"),
    ],
)
def test_a_program_starts_again_once_for_huge_pages(tmp_path, before, starts, after):
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}
    environment["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
    if before is not None:
        environment["GLIBC_TUNABLES"] = before
    child = subprocess.Popen(
        [sys.executable, str(program), "--flag=a b", "*"],
        env=environment, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    out, _ = child.communicate(timeout=60)
    assert json.loads(out) == [starts, child.pid, ["--flag=a b", "*"], after]
