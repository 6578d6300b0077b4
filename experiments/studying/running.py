"""Run the missing parts of a study, a few processes side by side, each on its own cores."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import NamedTuple

from coworld_jax.data import read_metadata
from coworld_jax.envs.suites import find_jittable
from coworld_jax.records.files import CONFIG, SUMMARY
from experiments.studying.commands import (
    LOG,
    agent_directory,
    beginning_command,
    collect_command,
    data_directory,
    seeds_command,
    train_command,
)
from experiments.studying.lengths import check_lengths
from experiments.studying.results import is_finished, reported_times, wall_time
from experiments.studying.study import Data, Run, Study, runs_of, shared_beginnings

_POLL = 0.5  # seconds between two looks at the processes
_PATIENCE = 60.0  # seconds that they have to save and end


class Job(NamedTuple):
    """One command to carry out."""

    name: str
    command: list[str]
    log: Path


class RunningJob(NamedTuple):
    """A job and its process."""

    job: Job
    process: subprocess.Popen[bytes]
    slot: int
    since: float


class Plan(NamedTuple):
    """What a study consists of, and what of it is there."""

    runs: list[Run]
    seconds: dict[Path, float]  # wall time of each finished run; keys are places
    datasets: list[Data]
    collected: list[Data]

    @property
    def finished(self) -> list[Run]:
        """Runs that have ended."""
        return [run for run in self.runs if run.place in self.seconds]

    @property
    def missing(self) -> list[Run]:
        """Runs that have not ended."""
        return [run for run in self.runs if run.place not in self.seconds]

    @property
    def shared(self) -> dict[Path, Path]:
        """By the place of a run, where the phases are that it shares with another one."""
        return {
            run.place: place for place, runs in shared_beginnings(self.runs).items() for run in runs
        }

    @property
    def to_collect(self) -> list[Data]:
        """Datasets that are not there, and that a missing run needs."""
        needed = {run.data for run in self.missing}
        return [data for data in self.datasets if data in needed and data not in self.collected]


def make_plan(study: Study, root: Path, reported: Path | None = None) -> Plan:
    """Look at what is there.

    Args:
        root: directory of the study's data and runs.
        reported: JSON file of an earlier report; its runs with the same settings count as finished.

    Raises:
        ValueError: a workdir below ``root`` belongs to a run with other settings, or there is no
            such report.
    """
    runs = list(runs_of(study))
    datasets = list(dict.fromkeys(run.data for run in runs if run.data is not None))
    collected = [data for data in datasets if read_metadata(data_directory(root, data)) is not None]
    earlier = {} if reported is None else reported_times(runs, reported)
    return Plan(runs, earlier | _times(root, runs), datasets, collected)


def _times(root: Path, runs: Sequence[Run]) -> dict[Path, float]:
    """Wall time of each run that has ended below ``root``. Keys are places."""
    return {run.place: wall_time(root, run) for run in runs if is_finished(root, run)}


def minutes_by_arm(study: Study, plan: Plan) -> dict[str, float | None]:
    """Median minutes of the finished runs of each arm; else what the study expects, if it does."""
    taken: dict[str, list[float]] = {}
    for run in plan.finished:
        taken.setdefault(run.arm, []).append(plan.seconds[run.place] / 60.0)
    return {
        arm.name: median(taken[arm.name]) if arm.name in taken else study.minutes
        for arm in study.arms
    }


def time_left(study: Study, plan: Plan, processes: int) -> str:
    """How long the missing runs are expected to take; collections are not counted."""
    minutes = minutes_by_arm(study, plan)
    known = [minutes[run.arm] for run in plan.missing]
    if any(value is None for value in known):
        return "the time is unknown until a run of each arm is finished"
    return f"{sum(value or 0.0 for value in known) / 60.0 / processes:.1f} h"


def carry_out(
    study: Study,
    root: Path,
    processes: int,
    *,
    together: bool = False,
    reported: Path | None = None,
) -> dict[str, Path]:
    """Collect the datasets that are missing, then train the runs that are missing.

    The phases that several arms of a seed have in common are trained once, before them. Ctrl-C,
    SIGTERM or a closed terminal stops all processes at their next checkpoint, or kills them after a
    minute; the same call continues.

    Args:
        study: whose runs are wanted.
        root: directory of its data and runs.
        processes: side by side.
        together: train the seeds of an arm in one process where all its tasks are jittable.
        reported: see `make_plan`.

    Returns:
        The log of each job that failed, by its name, and of each run that is still missing.

    Raises:
        KeyboardInterrupt: it was stopped.
        ValueError: a run does not consist of whole episodes, or see `make_plan`.
    """
    plan = make_plan(study, root, reported)
    check_lengths(plan.missing)
    failed = _do(_collections(root, plan), processes, _nothing)
    missing = [run for run in plan.missing if run.data is None or run.data.name not in failed]
    if together and study.seeds > 1:
        here = _times(root, plan.runs)
        elsewhere = {run.place.parent for run in plan.finished if run.place not in here}
        jobs, missing = _seeds_together(root, study, missing, elsewhere)
        failed |= _do(jobs, processes, _nothing)
    shared = plan.shared
    failed |= _do(_beginnings(root, missing, shared), processes, _nothing)
    ready = [run for run in missing if _can_start(root, run, _beginning(shared, run))]

    def now() -> Plan:
        return plan._replace(seconds=plan.seconds | _times(root, plan.runs))

    def left() -> str:
        return f"; {time_left(study, now(), processes)} left"

    jobs = [_training(root, run, _beginning(shared, run)) for run in ready]
    failed |= _do(jobs, processes, left)
    return failed | {str(run.place): root / run.place / LOG for run in now().missing}


def _nothing() -> str:
    """What there is to say of the time left: nothing."""
    return ""


def _can_start(root: Path, run: Run, beginning: Path | None) -> bool:
    """Whether a run needs no beginning, has begun already, or finds its beginning finished."""
    begun = (root / run.place / CONFIG).exists()
    return beginning is None or begun or (root / beginning / SUMMARY).exists()


def _collections(root: Path, plan: Plan) -> list[Job]:
    """A job for each dataset; ``medium`` before ``expert``, which uses the same workdir."""
    datasets = sorted(plan.to_collect, key=lambda data: data.until, reverse=True)
    return [
        Job(data.name, collect_command(root, data), agent_directory(root, data) / LOG)
        for data in datasets
    ]


def _beginning(shared: Mapping[Path, Path], run: Run) -> Path | None:
    """Where a run starts from, if it shares its first phases with another one."""
    return shared[run.place] if run.place in shared else None


def _beginnings(root: Path, missing: Sequence[Run], shared: Mapping[Path, Path]) -> list[Job]:
    """A job for each beginning that is missing and that a run still has to start from."""
    first = {
        shared[run.place]: run
        for run in reversed(missing)
        if run.place in shared and not (root / run.place / CONFIG).exists()
    }
    return [
        Job(str(place), beginning_command(root, run, place), root / place / LOG)
        for place, run in reversed(first.items())
        if not (root / place / SUMMARY).exists()
    ]


def _seeds_together(
    root: Path, study: Study, missing: Sequence[Run], elsewhere: Collection[Path]
) -> tuple[list[Job], list[Run]]:
    """A job for each arm and pair whose tasks are jittable, and the runs of the others.

    Args:
        elsewhere: places of arms that have seeds of an earlier report; their other seeds are
            trained one by one.
    """
    arms: dict[Path, Run] = {}
    others = []
    for run in missing:
        tasks = {*run.config.source, run.config.target} - {""}
        jittable = all(find_jittable(task) is not None for task in tasks)
        if jittable and run.place.parent not in elsewhere:
            arms[run.place.parent] = run
        else:
            others.append(run)
    jobs = [
        Job(str(place), seeds_command(root, run, study.seeds_of(run.arm)), root / place / LOG)
        for place, run in arms.items()
    ]
    return jobs, others


def _training(root: Path, run: Run, beginning: Path | None) -> Job:
    return Job(str(run.place), train_command(root, run, beginning), root / run.place / LOG)


def _do(jobs: Sequence[Job], processes: int, left: Callable[[], str]) -> dict[str, Path]:
    """Carry ``jobs`` out, so many at a time.

    Args:
        left: says how long the rest takes, for the line that announces an ended job.

    Returns:
        The log of each job that failed, by its name.
    """
    waiting, failed = list(jobs), {}
    running: list[RunningJob] = []
    with _stops() as stopped:
        try:
            while (waiting or running) and not stopped:
                _begin_some(waiting, running, processes)
                time.sleep(_POLL)
                for ended in [begun for begun in running if begun.process.poll() is not None]:
                    running.remove(ended)
                    if ended.process.returncode:
                        failed[ended.job.name] = ended.job.log
                    minutes = (time.monotonic() - ended.since) / 60.0
                    how = "failed" if ended.process.returncode else "done"
                    count = f"{len(jobs) - len(waiting) - len(running)} of {len(jobs)}"
                    _say(f"{ended.job.name}: {how} after {minutes:.1f} min; {count}{left()}.")
        finally:
            _end(running)
        if stopped:
            raise KeyboardInterrupt
    return failed


def _begin_some(waiting: list[Job], running: list[RunningJob], processes: int) -> None:
    """Move jobs from ``waiting`` to ``running`` while slots are free; one job for each workdir."""
    for slot in range(processes):
        busy = {begun.job.log for begun in running}
        ready = [job for job in waiting if job.log not in busy]
        if ready and all(begun.slot != slot for begun in running):
            waiting.remove(ready[0])
            running.append(_begin(ready[0], slot, processes))


def _begin(job: Job, slot: int, processes: int) -> RunningJob:
    """Start a job; its output goes to its log, and its threads to the cores of its slot."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    _say(f"{job.name}: started; its log is {job.log}.")
    with job.log.open("ab") as log:
        process = subprocess.Popen(
            job.command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        own = cores[slot::processes]
        if own:
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
