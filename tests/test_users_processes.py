"""Modules of users that start workers when they are imported, and what a dead parent leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from coworld_jax.envs import EnvironmentPool, RandomPolicy, WorkerFailed

ROOT = Path(__file__).resolve().parent.parent
GUARD = 'if __name__ == "__main__":'
FIRST = """
import sys
import numpy as np
from coworld_jax.envs import EnvironmentPool, EnvironmentSpec, Timestep, make_environment

class Still:
    spec = EnvironmentSpec("bomb:make", 1, 1, 5, 64, "fast", {})

    def reset(self, seed):
        return Timestep(np.zeros((64, 64, 3), np.uint8), 0.0, 1.0, False, {})

    def step(self, action):
        return Timestep(np.zeros((64, 64, 3), np.uint8), 1.0, 1.0, True, {})

def make(request):
    return Still()
"""
BOMBS = {
    "pool": "with EnvironmentPool('bomb:make', workers=2) as pool: print(pool.spec)",
    "in a thread": """
import threading
failed = []
def play():
    try:
        EnvironmentPool("bomb:make", workers=2)
    except Exception as error:
        failed.append(error)
thread = threading.Thread(target=play)
thread.start(), thread.join()
if failed:
    raise failed[0]
""",
    "told and ended": """
try:
    EnvironmentPool("bomb:make", workers=2)
except Exception as error:
    sys.exit(str(error))
""",
    "by a command": """
import subprocess
done = subprocess.run(
    [sys.executable, "-m", "experiments.collect", "--task=bomb:make", "--policy=random",
     "--episodes=1", "--workers=1", "--out=" + sys.argv[0] + ".out"],
    capture_output=True, text=True,
)
if done.returncode:
    raise RuntimeError(done.stderr.strip().splitlines()[-1])
""",
}
PLAIN = {"MUJOCO_GL": "off"}  # nothing is drawn, so no OpenGL need be looked for
LIMIT = 12  # processes; the deepest of the programs above needs five at a time


def marked(mark):
    """Ids of the processes that were started with ``mark`` in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes()
            except OSError:  # gone meanwhile
                continue
            if mark.encode() in environment:
                found.append(int(entry.name))
    return found


def run_bounded(arguments, directory, seconds=90):
    """Run a program; kill it and all its descendants if they become too many or take too long."""
    mark = f"MARK={uuid.uuid4().hex}"
    name, value = mark.split("=")
    program = subprocess.Popen(
        arguments, cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, **PLAIN, "PYTHONPATH": f"{ROOT}{os.pathsep}{directory}", name: value},
    )  # fmt: skip
    deadline, most = time.monotonic() + seconds, 0
    try:
        while program.poll() is None and most <= LIMIT and time.monotonic() < deadline:
            most = max(most, len(marked(mark)))
            time.sleep(0.05)
    finally:
        while processes := marked(mark):
            if program.poll() is not None and time.monotonic() < deadline and most <= LIMIT:
                time.sleep(0.05)  # the workers of a program that ended are ending
                continue
            for pid in processes:
                os.kill(pid, signal.SIGKILL)
    said, _ = program.communicate()
    assert most <= LIMIT, f"{most} processes at a time"
    assert time.monotonic() < deadline, said
    return program.returncode, said


SLOW = pytest.param("by a command", marks=pytest.mark.slow)  # two commands import jax


@pytest.mark.parametrize("kind", [*(kind for kind in BOMBS if kind != "by a command"), SLOW])
def test_a_module_that_starts_workers_when_imported_is_told_of_the_main_guard(tmp_path, kind):
    (tmp_path / "bomb.py").write_text(FIRST + BOMBS[kind])
    status, said = run_bounded([sys.executable, "bomb.py"], tmp_path)
    last = said.strip().splitlines()[-1]
    assert status == 1 and last.endswith(f"put that code under {GUARD}"), said
    assert "worker process of bomb:make would start worker processes itself" in last


def test_a_module_with_the_guard_works(tmp_path):
    program = f"{FIRST}\n{GUARD}\n    {BOMBS['pool']}\n"
    (tmp_path / "bomb.py").write_text(program)
    status, said = run_bounded([sys.executable, "bomb.py"], tmp_path)
    assert status == 0 and "task='bomb:make'" in said


def test_an_environment_that_plays_with_workers_itself_is_refused(tmp_path, monkeypatch):
    """Not when it is imported, but when it is built."""
    inside = "def nested(request):\n    return EnvironmentPool('bomb:make')\n"
    (tmp_path / "bomb.py").write_text(FIRST + inside)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WorkerFailed, match="The worker process of bomb:nested would start"):
        EnvironmentPool("bomb:nested")


# What a worker is busy with when its parent dies; the last one holds Python's lock.
BUSY = {
    "imports": "import time\ntime.sleep(1000)",
    "builds": "def make(request):\n    while True: pass",
    "is in C": "import ctypes\nctypes.PyDLL(None).sleep(1000)",
}


@pytest.mark.parametrize("kind", BUSY)
def test_a_busy_worker_ends_when_its_parent_is_killed(tmp_path, kind):
    (tmp_path / "busy.py").write_text(f"open('started', 'w').close()\n{BUSY[kind]}\n")
    mark = uuid.uuid4().hex
    program = subprocess.Popen(
        [sys.executable, "-c", "from coworld_jax.envs import EnvironmentPool\n"
         "EnvironmentPool('busy:make', workers=2)"],
        env={**os.environ, **PLAIN, "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}", "M": mark},
        cwd=tmp_path,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not ((tmp_path / "started").exists() and len(marked(mark)) == 3):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    program.kill()
    program.wait()
    deadline = time.monotonic() + 10
    while left := marked(mark):
        if time.monotonic() > deadline:
            for pid in left:
                os.kill(pid, signal.SIGKILL)
            pytest.fail(f"{len(left)} orphans")
        time.sleep(0.05)


def test_what_a_simulator_started_ends_with_its_worker(tmp_path, monkeypatch):
    mark = uuid.uuid4().hex
    server = f"import subprocess\nsubprocess.Popen(['sleep', '1000'], env={{'M': '{mark}'}})\n"
    (tmp_path / "served.py").write_text(FIRST + server)
    monkeypatch.syspath_prepend(tmp_path)
    with EnvironmentPool("served:make") as pool:
        assert len(pool.submit(0, RandomPolicy(1)).result().reward) == 2
        assert len(marked(mark)) == 1
    deadline = time.monotonic() + 10
    while marked(mark):
        assert time.monotonic() < deadline
        time.sleep(0.05)
