"""The real command of training, on the tiny configuration."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 600


def command(workdir, data, *flags):
    """The command line; later flags win."""
    return [
        *(sys.executable, "-m", "experiments.train", f"--config={ROOT}/tests/tiny_run.py"),
        *(f"--config.data={data}", f"--workdir={workdir}", *flags),
    ]


def start(workdir, data, *flags):
    """The process, under way."""
    return subprocess.Popen(
        command(workdir, data, *flags), cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip


def finish(workdir, data, *flags):
    """Its summary, and what it printed on stdout and stderr."""
    process = start(workdir, data, *flags)
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err[-3000:]
    return json.loads((workdir / "summary.json").read_text()), out, err


def wait_until(happened: Callable[[], bool], process: subprocess.Popen) -> None:
    """Wait while the process runs; it must not end before."""
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert process.poll() is None, process.stderr.read()[-3000:]
        assert time.monotonic() < deadline, f"it did not happen within {SECONDS} s"
        time.sleep(0.02)
