"""launch/slurm.sbatch on a real Slurm of one node, which is installed where that is allowed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import slurm
from episodes import save_rendered
from slurm import wait_until

from coworld_jax.records.metrics import read_metrics

ROOT = Path(__file__).resolve().parent.parent
SCRIPT = "launch/slurm.sbatch"

# A run of two processes as Slurm sees one. The first time, it waits for SIGTERM; then it finishes.
# The first process is slow to save, and Slurm sends it a second SIGTERM when the other has ended.
STAND_IN = """
import os, pathlib, signal, sys, time
place, flag = sys.argv[1:]
assert flag == "--hosts=auto"
index = os.environ["SLURM_PROCID"]
def stop(number, frame):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if index == "0":
        other = pathlib.Path(f"{place}.stopped.1")
        while not other.exists():
            time.sleep(0.05)
        time.sleep(1)
    pathlib.Path(f"{place}.stopped.{index}").touch()
    sys.exit(143)
signal.signal(signal.SIGTERM, stop)
pathlib.Path(f"{place}.started.{index}").touch()
while "SLURM_RESTART_COUNT" not in os.environ:
    signal.pause()
pathlib.Path(f"{place}.finished.{index}").touch()
"""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    reason = slurm.missing()
    if reason:
        pytest.skip(reason)
    with slurm.cluster(tmp_path_factory.mktemp("slurm")) as running:
        yield running


@pytest.fixture
def log(tmp_path):
    """The flag that puts the logs of a job array here, and a reader of one."""
    flag = f"--output={tmp_path}/%a.log"
    return flag, lambda line: (tmp_path / f"{line}.log").read_text()


@pytest.fixture
def lines(tmp_path):
    """Writes a file of commands."""

    def write(*commands):
        path = tmp_path / "commands.txt"
        path.write_text("".join(f"{command}\n" for command in commands))
        return str(path)

    return write


def test_slurm_accepts_our_script(cluster, lines):
    done = cluster.command("sbatch", "--test-only", "--array=1-2", SCRIPT, lines("true", "true"))
    assert done.returncode == 0 and "to start at" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("--signal=TERM@300", "--signal=TREM@300", "signal"),
        ("--time=24:00:00", "--time=a-day", "time"),
        ("--nodes=1", "--nodes=2", "node count|not available"),
        ("--requeue", "--queue-again", "unrecognized option"),
    ],
)
def test_slurm_refuses_a_broken_script(cluster, tmp_path, right, wrong, said):
    text = (ROOT / SCRIPT).read_text()
    assert text.count(f"#SBATCH {right}\n") == 1
    broken = tmp_path / "broken.sbatch"
    broken.write_text(text.replace(f"#SBATCH {right}\n", f"#SBATCH {wrong}\n"))
    done = cluster.command("sbatch", "--test-only", "--array=1", str(broken), "commands.txt")
    assert done.returncode != 0 and re.search(said, done.stderr, re.IGNORECASE), done.stderr


def test_slurm_hands_each_line_to_a_job_and_a_failure_is_not_repeated(cluster, lines, log):
    show = "import os, sys; print(sys.argv[1:], os.environ['SLURM_NTASKS']); sys.exit(7)"
    commands = lines(f'python -c "{show}" first', f'python -c "{show}" second')
    job = cluster.submit("--array=1-2", log[0], SCRIPT, commands)
    cluster.wait_until_empty(60)
    assert "['first', '--hosts=auto'] 1" in log[1](1)
    assert "['second', '--hosts=auto'] 1" in log[1](2)
    said = cluster.command("scontrol", "show", "job", job).stdout
    assert said.count("JobState=FAILED") == 2 and said.count("ExitCode=7:0") == 2
    assert said.count("Restarts=0") == 2


def test_slurm_without_lines_gets_one_sentence(cluster, lines, tmp_path):
    cluster.submit(f"--output={tmp_path}/log", SCRIPT, lines("true"))
    cluster.wait_until_empty(60)
    assert "slurm: say which lines: sbatch --array=1-N" in (tmp_path / "log").read_text()


def test_slurm_queues_a_stopped_run_again_after_all_its_processes_have_saved(
    cluster, lines, log, tmp_path
):
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    places = [tmp_path / "first", tmp_path / "second"]
    commands = lines(*(f"python {tmp_path}/stand_in.py {place}" for place in places))
    job = cluster.submit("--array=1-2", "--ntasks-per-node=2", log[0], SCRIPT, commands)

    def there(what):
        return all(Path(f"{p}.{what}.{index}").exists() for p in places for index in (0, 1))

    wait_until(lambda: there("started"), 60)
    assert cluster.command("scancel", "--signal=TERM", job).returncode == 0
    wait_until(lambda: there("stopped"), 60)
    wait_until(lambda: there("finished"), 120)
    cluster.wait_until_empty(60)
    assert all(log[1](line).count("slurm: stopped before its end") == 1 for line in (1, 2))
    assert cluster.command("scontrol", "show", "job", job).stdout.count("JobState=COMPLETED") == 2


# --- the real training ----------------------------------------------------------------------------

SECONDS = 900


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three short episodes of walker_downhill, really rendered."""
    return save_rendered(tmp_path_factory.mktemp("data"))


def one_device():
    """Variables for processes that have one device each; a batch of two has one for each."""
    flags = os.environ["XLA_FLAGS"].replace("device_count=2", "device_count=1")
    return {"XLA_FLAGS": flags}


def updates(workdir):
    file = workdir / "metrics.jsonl"
    return [record["updates"] for record in read_metrics(file)] if file.exists() else []


@pytest.mark.slow
def test_an_array_of_runs_on_slurm_is_stopped_and_ends_as_if_it_had_not_been(
    cluster, lines, log, data, tmp_path
):
    flags = [f"--config={ROOT}/tests/tiny_run.py", f"--config.data={data}"]
    whole = tmp_path / "whole"
    done = subprocess.run(
        ["bash", "launch/local_pod.sh", "2", "--", *flags, f"--workdir={whole}"],
        env={**os.environ, **one_device(), "INTERPRETER": sys.executable}, cwd=ROOT,
        capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]

    flags.append("--config.run.checkpoint_every=1000")  # only what SIGTERM saves is there to resume
    workdirs = {line: tmp_path / f"run_{line}" for line in (1, 2)}
    commands = lines(
        *(
            f"python -m experiments.train {' '.join(flags)} --workdir={workdir}"
            for workdir in workdirs.values()
        )
    )
    job = cluster.submit(
        "--array=1-2", "--ntasks-per-node=2", log[0], SCRIPT, commands, **one_device()
    )
    for line, workdir in workdirs.items():
        wait_until(lambda workdir=workdir: any(updates(workdir)), SECONDS)
        assert cluster.command("scancel", "--signal=TERM", f"{job}_{line}").returncode == 0
    cluster.wait_until_empty(SECONDS)
    digest = json.loads((whole / "summary.json").read_text())["state_digest"]
    for line, workdir in workdirs.items():
        said = log[1](line)
        assert said.count("slurm: stopped before its end") == 1, said[-3000:]
        assert "Resumed" in said
        assert json.loads((workdir / "summary.json").read_text())["state_digest"] == digest
        assert updates(workdir) == updates(whole)
    shutil.rmtree(whole)
