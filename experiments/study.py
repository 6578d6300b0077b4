"""Plan, run and report a study: a table or figure of the paper, or a question of our own.

    python -m experiments.study list
    python -m experiments.study plan planar_transfer --root=DIR
    python -m experiments.study run planar_transfer --root=DIR --processes=2
    python -m experiments.study report planar_transfer --root=DIR
    python -m experiments.study commands planar_transfer --root=DIR

A study is a file of `experiments.studies`. ``plan`` prints its runs, the time that they are
expected to take, and its budget. ``run`` collects and trains what is missing below ``--root``; it
can be stopped or killed at any time, and the same command continues. ``report`` writes NAME.md,
NAME.png and NAME.json from the finished runs and from an earlier NAME.json, and says what is
missing. The pages of this repository are made with ``--out=experiments/results``. ``commands``
prints one complete training command a line, for a cluster; with ``--of=data`` those of the
datasets, which come first. A run that several arms or studies have in common is trained once below
a root.
"""

from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import app, flags, logging

from coworld_jax.data import usable_cores
from experiments.command import as_path, one_sentence, refuse_unused
from experiments.configs.sizes import SIZES
from experiments.studying.commands import as_line, collect_command, train_command
from experiments.studying.report import write_report
from experiments.studying.running import (
    budget,
    carry_out,
    make_plan,
    minutes_by_arm,
    time_left,
)
from experiments.studying.study import NEGATIVE, Study, find_study, study_names

_ROOT = flags.DEFINE_string("root", "runs", "Directory of the study's data and runs.")
_PROCESSES = flags.DEFINE_integer(
    "processes",
    None,
    "Processes side by side, each on its share of the cores; if not given, one for each core, or "
    "one in all on an accelerator.",
    lower_bound=1,
)
_OF = flags.DEFINE_enum("of", "runs", ["runs", "data"], "Which commands are printed.")
_OUT = flags.DEFINE_string(
    "out",
    None,
    "Directory of the report; ROOT/results, if not given. An earlier report is added to.",
)
_TOGETHER = flags.DEFINE_boolean(
    "together",
    None,
    "Train the seeds of an arm in one process where its tasks are jittable; on an accelerator, if "
    "not given.",
)
_REPORTED = flags.DEFINE_string(
    "reported",
    None,
    "Directory of an earlier report, say of another machine. Its runs with the same settings count "
    "as finished.",
)
_SIZE = flags.DEFINE_enum("size", None, list(SIZES), "Another size than the study's own.")
_SEEDS = flags.DEFINE_integer("seeds", None, "Use only the first N seeds.", lower_bound=1)
_ARMS = flags.DEFINE_list("arms", [], "Use only these arms.")
_PAIRS = flags.DEFINE_list("pairs", [], "Use only these pairs.")

_USED = {
    "list": (),
    "plan": ("root", "processes", "reported", "size", "seeds", "arms", "pairs"),
    "commands": ("root", "of", "size", "seeds", "arms", "pairs"),
    "run": ("root", "processes", "together", "reported", "size", "seeds", "arms", "pairs"),
    "report": ("root", "out", "size"),
}


def main(arguments: Sequence[str]) -> None:
    """Do what the command line says."""
    command, *rest = arguments[1:] or [""]
    if command not in _USED or len(rest) != (command != "list"):
        raise app.UsageError(f"Write one of {', '.join(_USED)}, and then the name of a study.")
    with one_sentence("study: interrupted; the same command goes on."):
        refuse_unused(command, _USED)
        logging.set_verbosity(logging.WARNING)  # jax narrates its search for accelerators
        if command == "list":
            for name in study_names():
                print(f"{name}: {find_study(name).title}")
            return
        study, root = _chosen(find_study(rest[0])), as_path(_ROOT.value)
        if command == "plan":
            _print_plan(study, root, _report(rest[0]))
        elif command == "commands":
            _print_commands(study, root)
        elif command == "run":
            _run(study, root, _report(rest[0]))
        else:
            out = root / "results" if _OUT.value is None else as_path(_OUT.value)
            for path in write_report(rest[0], study, root, out):
                print(path)


def _chosen(study: Study) -> Study:
    """The part of a study that the flags choose.

    Raises:
        ValueError: it has no such arm or pair, or not so many seeds.
    """
    for flag, names, known in (
        ("arms", _ARMS.value, [arm.name for arm in study.arms]),
        ("pairs", _PAIRS.value, [pair.name for pair in study.pairs]),
    ):
        for name in names:
            if name not in known:
                raise ValueError(f"--{flag}: the study has no {name!r}, but {', '.join(known)}.")
    seeds = study.seeds if _SEEDS.value is None else _SEEDS.value
    if seeds > study.seeds:
        raise ValueError(f"--seeds={seeds} is too large: the study has {study.seeds} seeds.")
    return study._replace(
        arms=tuple(arm for arm in study.arms if not _ARMS.value or arm.name in _ARMS.value),
        pairs=tuple(pair for pair in study.pairs if not _PAIRS.value or pair.name in _PAIRS.value),
        seeds=seeds,
        size=_SIZE.value or study.size,
    )


def _report(name: str) -> Path | None:
    """The JSON file of the report that --reported names."""
    return None if _REPORTED.value is None else as_path(_REPORTED.value) / f"{name}.json"


def _print_plan(study: Study, root: Path, reported: Path | None) -> None:
    plan = make_plan(study, root, reported)
    minutes = minutes_by_arm(study, plan)
    print(f"{study.title}\n{study.question}\n{NEGATIVE} {study.negative}\n")
    print(f"{'pair':28}{'arm':28}{'finished':>10}{'runs':>6}{'minutes a run':>15}")
    for pair in study.pairs:
        for arm in study.arms:
            runs = [run for run in plan.runs if (run.pair, run.arm) == (pair.name, arm.name)]
            if runs:
                finished = sum(run.place in plan.seconds for run in runs)
                known = minutes[arm.name]
                expected = "unknown" if known is None else f"{known:.0f}"
                print(f"{pair.name:28}{arm.name:28}{finished:>10}{len(runs):>6}{expected:>15}")
    print(f"\nPrimary measure: {study.measure}. {budget(study, plan)}")
    if len(plan.distinct) < len(plan.runs):
        print("Runs that several arms have in common are listed for each, and trained once.")
    processes = _processes()
    left = time_left(study, plan, processes)
    print(
        f"{len(plan.missing)} of {len(plan.distinct)} runs are missing. With "
        f"--processes={processes}, {left}. {len(plan.to_collect)} of {len(plan.datasets)} datasets "
        "are to be collected first; their time is not counted."
    )


def _print_commands(study: Study, root: Path) -> None:
    plan = make_plan(study, root)
    if _OF.value == "data":
        lines = [collect_command(root, data) for data in plan.datasets]
    else:
        lines = [train_command(root, run) for run in plan.distinct]
    print("\n".join(map(as_line, lines)))


def _run(study: Study, root: Path, reported: Path | None) -> None:
    together = _accelerated() if _TOGETHER.value is None else _TOGETHER.value
    failed = carry_out(study, root, _processes(), together=together, reported=reported)
    if failed:
        reasons = ", ".join(f"{name} ({reason})" for name, reason in failed.items())
        sys.exit(f"study: not finished: {reasons}. The same command tries what it can again.")
    print("Everything is there.")


def _processes() -> int:
    """How many processes are to run side by side."""
    if _PROCESSES.value is not None:
        return int(_PROCESSES.value)
    return 1 if _accelerated() else usable_cores()


@functools.cache
def _accelerated() -> bool:
    """Whether runs here use an accelerator; asked in a process that does not keep it open.

    Raises:
        ValueError: jax does not start, for example on the platform of JAX_PLATFORMS.
    """
    program = "import jax; print(jax.default_backend())"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"its process ended with {done.returncode}"]
        raise ValueError(f"jax does not start: {said[-1]}")
    return done.stdout.strip() != "cpu"


if __name__ == "__main__":
    app.run(main)
