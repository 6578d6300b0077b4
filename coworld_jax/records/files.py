"""The files of a run's directory: its lock, its configuration, its environments, its data."""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from coworld_jax import config as configuration
from coworld_jax.config import Config
from coworld_jax.data import DataError, difference, read_json, write_json
from coworld_jax.envs import EnvironmentSpec

CHECKPOINTS = "checkpoints"
REPLAY = "replay"  # a folder for each domain that is played
CONFIG = "config.json"
TASKS = "tasks.json"
DATA = "data.json"
SUMMARY = "summary.json"
FAILURES = "failures.json"  # of several seeds: why, by seed

_LOCK = ".lock"
_SEED = re.compile(r"seed_(\d+)")
_LOG = logging.getLogger(__name__)
_NO_LOCKS = (errno.ENOSYS, errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)  # of a file system


def seed_directory(workdir: Path, seed: int) -> Path:
    """The folder of one seed in the workdir of many."""
    return workdir / f"seed_{seed}"


def read_failures(workdir: Path) -> dict[str, str]:
    """Why seeds of a workdir of many have failed, by seed."""
    path = workdir / FAILURES
    found: dict[str, str] = read_json(path) if path.exists() else {}
    return found


def seed_directories(workdir: Path) -> list[Path]:
    """The folders of the seeds that did not fail, in order; the workdir itself where it has one."""
    found = [(_SEED.fullmatch(path.name), path) for path in workdir.glob("seed_*")]
    failures = read_failures(workdir)
    seeds = sorted(int(match[1]) for match, path in found if match and path.is_dir())
    return [seed_directory(workdir, s) for s in seeds if str(s) not in failures] or [workdir]


@contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Keep other processes from training in ``workdir``; the lock ends with the process.

    A file system that knows no locks, such as some network mounts, gets a warning and none.

    Raises:
        ValueError: another process has it.
    """
    workdir.mkdir(parents=True, exist_ok=True)
    with (workdir / _LOCK).open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"Another process is training in {workdir}: wait for it, or choose another "
                "--workdir."
            ) from error
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            _LOG.warning(
                "The file system of %s has no locks (%s): make sure that no other process trains "
                "there.",
                workdir,
                error.strerror,
            )
        yield


def is_locked(workdir: Path) -> bool:
    """Whether a process trains in ``workdir``; False where its file system knows no locks."""
    try:
        with (workdir / _LOCK).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return False


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
    """The environment of each domain of a run: ``target`` and ``source`` (or ``source0`` ...).

    Raises:
        DataError: the file is damaged, or of another version.
    """
    path = workdir / TASKS
    try:
        return {domain: EnvironmentSpec(**spec) for domain, spec in read_json(path).items()}
    except TypeError as error:
        raise DataError.of(path, "", f"does not describe environments: {error}") from error


def check_data(
    workdir: Path, directory: str, fingerprint: Mapping[str, Any], left_out: Collection[str]
) -> None:
    """Make sure that a run goes on with the data that it began with, wherever they lie now.

    Args:
        workdir: of the run; a new one accepts any data.
        directory: of the data, for the sentence.
        fingerprint: of the data (`data.fingerprint`).
        left_out: names of bad files that ``run.skip_bad_files`` leaves out.

    Raises:
        ValueError: the data are others; what differs is named.
    """
    path = workdir / DATA
    if not path.exists():
        return
    differs = difference(read_json(path)["files"], fingerprint, left_out)
    if differs:
        raise ValueError(
            f"{directory} holds other data than the run of {workdir} began with: {differs}. Put "
            "them back as they were, or choose another --workdir."
        )


def write_data(workdir: Path, fingerprint: Mapping[str, Any], left_out: Mapping[str, str]) -> None:
    """Record which data a run began with, and which files are left out at present.

    Args:
        fingerprint: kept from the first start on.
        left_out: name of each file, and why.
    """
    path = workdir / DATA
    files = read_json(path)["files"] if path.exists() else fingerprint
    write_json(path, {"files": files, "left_out": left_out})
