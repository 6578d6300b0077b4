"""Carry commands out, a few processes side by side, each on its own cores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from coworld_jax.records.files import is_locked
from experiments.studying.child import bound

_POLL = 0.5  # seconds between two looks at the processes
_PATIENCE = 60.0  # seconds that they have to save and end


class Job(NamedTuple):
    """One command to carry out."""

    name: str
    command: list[str]
    log: Path  # in the workdir of the command


class RunningJob(NamedTuple):
    """A job and its process."""

    job: Job
    process: subprocess.Popen[bytes]
    slot: int
    since: float


def carry_out_jobs(jobs: Sequence[Job], processes: int, left: Callable[[], str]) -> dict[str, Path]:
    """Carry ``jobs`` out, so many at a time.

    A job whose workdir another process trains in waits until that process ends. The processes end
    with this one, also where it is killed (`child`).

    Args:
        left: says how long the rest takes, for the line that announces an ended job.

    Returns:
        The log of each job that failed, by its name.

    Raises:
        KeyboardInterrupt: SIGINT, SIGTERM or SIGHUP came; the processes were asked to save.
    """
    waiting, failed = list(jobs), {}
    running: list[RunningJob] = []
    announced: set[Path] = set()
    with _stops() as stopped:
        try:
            while (waiting or running) and not stopped:
                _begin_some(waiting, running, processes, announced)
                time.sleep(_POLL)
                for ended in [begun for begun in running if begun.process.poll() is not None]:
                    running.remove(ended)
                    if ended.process.returncode and _is_taken(ended.job, announced):
                        waiting.append(ended.job)  # another process was first to lock its workdir
                        continue
                    if ended.process.returncode:
                        failed[ended.job.name] = ended.job.log
                    minutes = (time.monotonic() - ended.since) / 60.0
                    how = "failed" if ended.process.returncode else "done"
                    count = f"{len(jobs) - len(waiting) - len(running)} of {len(jobs)}"
                    _say(f"{ended.job.name}: {how} after {minutes:.1f} min; {count}; {left()}.")
        finally:
            _end(running)
        if stopped:
            raise KeyboardInterrupt
    return failed


def _begin_some(
    waiting: list[Job], running: list[RunningJob], processes: int, announced: set[Path]
) -> None:
    """Move jobs from ``waiting`` to ``running`` while slots are free; one job for each workdir.

    Args:
        announced: workdirs of which was said that another process has them.
    """
    for slot in range(processes):
        if any(begun.slot == slot for begun in running):
            continue
        busy = {begun.job.log for begun in running}
        free = [job for job in waiting if job.log not in busy]
        ready = next((job for job in free if not _is_taken(job, announced)), None)
        if ready is not None:
            waiting.remove(ready)
            running.append(_begin(ready, slot, processes))


def _is_taken(job: Job, announced: set[Path]) -> bool:
    """Whether a process of somebody else trains in the job's workdir; it is said once."""
    workdir = job.log.parent
    taken = is_locked(workdir)
    if taken and workdir not in announced:
        announced.add(workdir)
        _say(f"{job.name}: waits, because another process is training in {workdir}.")
    return taken


def _begin(job: Job, slot: int, processes: int) -> RunningJob:
    """Start a job; its output goes to its log, and its threads to the cores of its slot."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    _say(f"{job.name}: started; its log is {job.log}.")
    with job.log.open("ab") as log:
        process = subprocess.Popen(
            bound(job.command), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        each = max(len(cores) // processes, 1)
        own = cores[slot * each : (slot + 1) * each] or [cores[slot % len(cores)]]
        os.sched_setaffinity(process.pid, own)
    return RunningJob(job, process, slot, time.monotonic())


@contextmanager
def _stops() -> Iterator[list[int]]:
    """A list that gets each signal to stop."""
    stopped: list[int] = []
    before = {
        number: signal.signal(number, lambda number, frame: stopped.append(number))
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    }
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(running: Sequence[RunningJob]) -> None:
    """Ask the processes to save and end; kill those that have not ended after a minute."""
    if not running:
        return
    for begun in running:
        begun.process.send_signal(signal.SIGTERM)
    _say(f"Waiting for {len(running)} processes to save.")
    deadline = time.monotonic() + _PATIENCE
    for begun in running:
        try:
            begun.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            begun.process.kill()
            begun.process.wait()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
