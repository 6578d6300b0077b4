"""The files of a run's directory: its lock, its configuration, its environments."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coworld_jax import config as configuration
from coworld_jax.config import Config
from coworld_jax.data import write_json
from coworld_jax.envs import EnvironmentSpec

CHECKPOINTS = "checkpoints"
CONFIG = "config.json"
TASKS = "tasks.json"
SUMMARY = "summary.json"


@contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Keep other processes from training in ``workdir``; the lock ends with the process.

    Raises:
        ValueError: another process has it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"Another process is training in {workdir}: wait for it, or choose another "
                "--workdir."
            ) from error
        yield


def write_config(workdir: Path, config: Config) -> None:
    """Record the resolved configuration of a run."""
    workdir.mkdir(parents=True, exist_ok=True)
    write_json(workdir / CONFIG, configuration.flatten(config))


def read_flat_config(workdir: Path) -> dict[str, Any]:
    """The configuration of a run, dotted path to value, as it was recorded.

    Raises:
        ValueError: no such file, or one that is no JSON object.
    """
    path = workdir / CONFIG
    try:
        flat = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise ValueError(
            f"{workdir} is no workdir of a run: it has no {CONFIG}. Train first."
        ) from error
    except ValueError as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if not isinstance(flat, dict):
        raise ValueError(f"{path} cannot be read: it holds no JSON object.")
    return flat


def write_tasks(workdir: Path, specs: Mapping[str, EnvironmentSpec]) -> None:
    """Record the environment of each domain."""
    tasks = {
        domain: spec._asdict() | {"versions": dict(spec.versions)} for domain, spec in specs.items()
    }
    write_json(workdir / TASKS, tasks)


def read_tasks(workdir: Path) -> dict[str, EnvironmentSpec]:
    """The environment of each domain of a run: ``target`` and ``source`` (or ``source0`` ...)."""
    tasks = json.loads((workdir / TASKS).read_text())
    return {domain: EnvironmentSpec(**spec) for domain, spec in tasks.items()}
