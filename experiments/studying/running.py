"""What of a study is missing, how long it takes, and in which order it is carried out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from math import isclose
from pathlib import Path
from statistics import median
from typing import NamedTuple

from coworld_jax.data import read_metadata
from coworld_jax.envs.suites import find_jittable
from coworld_jax.records.files import CONFIG, FAILURES, SUMMARY, read_failures
from coworld_jax.workdir import read_config
from experiments.collecting.online import SHARES
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
from experiments.studying.processes import Job, carry_out_jobs
from experiments.studying.results import is_finished, reported_times, wall_time
from experiments.studying.study import (
    BUDGET_CORES,
    Data,
    Run,
    Study,
    distinct,
    runs_of,
    shared_beginnings,
)


class Plan(NamedTuple):
    """What a study consists of, and what of it is there."""

    runs: list[Run]  # one for each pair, arm and seed; equal ones have the same place
    seconds: dict[Path, float]  # wall time of each finished run; keys are places
    datasets: list[Data]
    collected: list[Data]

    @property
    def finished(self) -> list[Run]:
        """Runs that have ended, for all arms that have them."""
        return [run for run in self.runs if run.place in self.seconds]

    @property
    def distinct(self) -> list[Run]:
        """Runs to be trained: those that several arms have in common count once."""
        return distinct(self.runs)

    @property
    def missing(self) -> list[Run]:
        """Distinct runs that have not ended."""
        return [run for run in self.distinct if run.place not in self.seconds]

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
        ValueError: a workdir or a dataset below ``root`` has other settings, or there is no such
            report.
    """
    runs = list(runs_of(study))
    datasets = list(dict.fromkeys(run.data for run in runs if run.data is not None))
    collected = [data for data in datasets if _is_collected(root, data)]
    earlier = {} if reported is None else reported_times(runs, reported)
    return Plan(runs, earlier | _times(root, runs), datasets, collected)


def _is_collected(root: Path, data: Data) -> bool:
    """Whether a dataset is complete. One that was put there from elsewhere may have any return.

    Raises:
        ValueError: it was collected up to another return than the study wants.
    """
    directory = data_directory(root, data)
    record = read_metadata(directory)
    if record is None:
        return False
    policy = record["policy"] if "policy" in record else {}
    if data.best is None or "return" not in policy:
        return True
    reached, wanted = policy["return"], data.best * SHARES[data.until]
    if not isclose(reached, wanted):
        raise ValueError(
            f"{directory} was collected up to the return {reached:.4g}, but this study wants "
            f"{wanted:.4g}: choose another --root."
        )
    return True


def _times(root: Path, runs: Sequence[Run]) -> dict[Path, float]:
    """Wall time of each run that has ended below ``root``. Keys are places."""
    return {run.place: wall_time(root, run) for run in runs if is_finished(root, run)}


def minutes_by_arm(study: Study, plan: Plan) -> dict[str, float | None]:
    """Median minutes of the finished runs of each arm; else what the study expects, if it does."""
    taken: dict[str, list[float]] = {}
    for run in plan.finished:
        taken.setdefault(run.arm, []).append(plan.seconds[run.place] / 60.0)
    expected = {
        arm.name: study.minutes if arm.minutes is None else arm.minutes for arm in study.arms
    }
    return expected | {name: median(minutes) for name, minutes in taken.items()}


def expected_hours(study: Study, plan: Plan, runs: Sequence[Run], processes: int) -> float | None:
    """What ``runs`` take with so many processes; None until one of each of their arms is known."""
    minutes = minutes_by_arm(study, plan)
    known = [value for run in runs if (value := minutes[run.arm]) is not None]
    return sum(known) / 60.0 / processes if len(known) == len(runs) else None


def time_left(study: Study, plan: Plan, processes: int) -> str:
    """How long the missing runs are expected to take, as a clause; collections are not counted."""
    hours = expected_hours(study, plan, plan.missing, processes)
    if hours is None:
        return "the time left is unknown until a run of each arm is finished"
    return f"about {hours:.1f} h of runs are left"


def budget(study: Study, plan: Plan) -> str:
    """A sentence: whether all runs, those that are finished included, fit into the budget."""
    if study.hours is None:
        return "No budget was set."
    said = f"Budget: {study.hours:g} h on {BUDGET_CORES} CPU cores"
    hours = expected_hours(study, plan, plan.distinct, BUDGET_CORES)
    if hours is None:
        return f"{said}; how long the runs take is unknown until a run of each arm is finished."
    sentence = f"{said}. All runs together are expected to take {hours:.1f} h there"
    return f"{sentence}, which exceeds the budget." if hours > study.hours else f"{sentence}."


def carry_out(
    study: Study,
    root: Path,
    processes: int,
    *,
    together: bool = False,
    reported: Path | None = None,
) -> dict[str, str]:
    """Collect the datasets that are missing, then train the runs that are missing.

    The phases that several arms of a seed have in common are trained once, before them; with
    ``together`` only for the runs that are trained one by one. Ctrl-C,
    SIGTERM or a closed terminal stops all processes at their next checkpoint, or kills them after a
    minute. Where this process is killed, they are killed with it (`child`). The same call
    continues; it loses at most what a run did after its last checkpoint.

    Args:
        study: whose runs are wanted.
        root: directory of its data and runs.
        processes: side by side.
        together: train the seeds of an arm in one process where all its tasks are jittable; those
            of a study whose first seed is not 0 are trained one by one.
        reported: see `make_plan`.

    Returns:
        Why each job has failed, and why each other run is not finished, by its name.

    Raises:
        KeyboardInterrupt: it was stopped.
        ValueError: a run does not consist of whole episodes, or see `make_plan`.
    """
    plan = make_plan(study, root, reported)
    check_lengths(plan.missing)

    def now() -> Plan:
        return plan._replace(seconds=plan.seconds | _times(root, plan.runs))

    def carried_out(jobs: Sequence[Job]) -> dict[str, str]:
        logs = carry_out_jobs(jobs, processes, lambda: time_left(study, now(), processes))
        return {name: f"see {log}" for name, log in logs.items()}

    failed = carried_out(_collections(root, plan))
    missing = [run for run in plan.missing if run.data is None or run.data.name not in failed]
    if together and study.seeds > 1 and study.first_seed == 0:
        here = _times(root, plan.runs)
        elsewhere = {run.place.parent for run in plan.finished if run.place not in here}
        jobs, missing = _seeds_together(root, plan, missing, elsewhere)
        failed |= carried_out(jobs)
    shared = plan.shared
    failed |= carried_out(_beginnings(root, missing, shared))
    ready = [run for run in missing if _can_start(root, run, _beginning(shared, run))]
    failed |= carried_out([_training(root, run, _beginning(shared, run)) for run in ready])
    return _unfinished(root, now().missing) | failed


def _unfinished(root: Path, missing: Sequence[Run]) -> dict[str, str]:
    """Why each run is not finished."""
    reasons = {}
    for run in missing:
        place, log = root / run.place.parent, root / run.place / LOG
        failures, seed = read_failures(place), str(run.config.seed)
        if log.exists():  # it was trained by itself
            reasons[str(run.place)] = f"see {log}"
        elif seed in failures:
            file = place / FAILURES
            reasons[str(run.place)] = f"{failures[seed]} {file} keeps it from being tried again"
        else:
            reasons[str(run.place)] = "it waits for another one"
    return reasons


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
    root: Path, plan: Plan, missing: Sequence[Run], elsewhere: Collection[Path]
) -> tuple[list[Job], list[Run]]:
    """A job for each method and settings whose tasks are jittable, and the runs of the others.

    Args:
        elsewhere: folders of runs that have seeds of an earlier report; their other seeds are
            trained one by one.
    """
    seeds = Counter(run.place.parent for run in plan.distinct)
    folders: dict[Path, Run] = {}
    others = []
    for run in missing:
        tasks = {*run.config.source, run.config.target} - {""}
        jittable = all(find_jittable(task) is not None for task in tasks)
        if jittable and run.place.parent not in elsewhere:
            folders[run.place.parent] = run
        else:
            others.append(run)
    return [_joint(root, run, seeds[place]) for place, run in folders.items()], others


def _joint(root: Path, run: Run, seeds: int) -> Job:
    """A job that trains so many seeds in one process, or as many as a study has begun there."""
    place = run.place.parent
    begun = read_config(root / place).run.seeds if (root / place / CONFIG).exists() else 0
    return Job(str(place), seeds_command(root, run, max(begun, seeds)), root / place / LOG)


def _training(root: Path, run: Run, beginning: Path | None) -> Job:
    return Job(str(run.place), train_command(root, run, beginning), root / run.place / LOG)
