"""The complete command of each dataset and of each run of a study."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from coworld_jax.config import flatten
from experiments.studying.study import Data, Run

LOG = "log.txt"
"""What a run or a collection printed, in its workdir."""


def data_directory(root: Path, data: Data) -> Path:
    """Where the dataset of a target is."""
    return root / "data" / data.name


def agent_directory(root: Path, data: Data) -> Path:
    """Workdir of the agent whose replay becomes the dataset; ``expert`` goes on with it."""
    return root / "agents" / data.name.replace(f"-{data.until}-", "-")


def collect_command(root: Path, data: Data) -> list[str]:
    """Make a dataset; the same command goes on where it was interrupted."""
    best = [] if data.best is None else [f"--reference={data.best}"]
    return [
        *(sys.executable, "-m", "experiments.collect", f"--task={data.task}"),
        *("--policy=dreamer", f"--until={data.until}", *best, f"--config={data.config}"),
        f"--workdir={agent_directory(root, data)}",
        f"--out={data_directory(root, data)}",
    ]


def train_command(root: Path, run: Run, beginning: Path | None = None) -> list[str]:
    """Train a run; the same command goes on where it was interrupted.

    Args:
        beginning: below ``root``, of the run whose end it starts from.
    """
    start = [] if beginning is None else [f"--beginning={root / beginning}"]
    return [*_train(root, run), *start, f"--workdir={root / run.place}"]


def seeds_command(root: Path, run: Run, seeds: int) -> list[str]:
    """Train seeds 0 to ``seeds - 1`` of what is ``run`` with one of them, in one process."""
    return [
        *_train(root, run),
        *("--config.seed=0", f"--config.run.seeds={seeds}"),
        f"--workdir={(root / run.place).parent}",
    ]


def beginning_command(root: Path, run: Run, place: Path) -> list[str]:
    """Train the phases that a run shares with others, with what it shares of the settings."""
    assert run.beginning is not None
    shared, own = flatten(run.beginning[1]), flatten(run.config)
    changed = [f"--config.{path}={shared[path]}" for path in own if shared[path] != own[path]]
    return [*_train(root, run), *changed, f"--workdir={root / place}"]


def _train(root: Path, run: Run) -> list[str]:
    data = [] if run.data is None else [f"--config.data={data_directory(root, run.data)}"]
    return [
        *(sys.executable, "-m", "experiments.train", f"--config={run.text}"),
        *(f"--config.{setting}" for setting in run.settings),
        *data,
    ]


def as_line(command: list[str]) -> str:
    """A command for a shell, with ``python`` as the interpreter of whoever runs it."""
    return shlex.join(["python", *command[1:]])
