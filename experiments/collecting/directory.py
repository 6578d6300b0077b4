"""The directory that a collection fills: whose it is, what is there, when it is complete."""

from __future__ import annotations

import platform
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from coworld_jax.data import DataError, read_metadata, summarise, write_metadata
from coworld_jax.data.metadata import METADATA_NAME, UNFINISHED
from coworld_jax.data.replacing import unfinished

_UNWRITTEN = unfinished(Path(UNFINISHED)).name


def claim(out: Path, settings: Mapping[str, Any]) -> None:
    """Make ``out`` where it is missing, or make sure that it was collected with these settings.

    Args:
        settings: of what its episodes depend on, as much as is known.

    Raises:
        ValueError: it holds something else.
        OSError: it is no directory, or cannot be written to.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out):  # a disk that is full, or read-only, is found early
        pass
    finished = read_metadata(out)
    record = read_metadata(out, UNFINISHED) if finished is None else finished
    if record is None:
        strange = sorted(path.name for path in out.iterdir() if path.name != _UNWRITTEN)
        if strange:
            raise ValueError(
                f"{out} holds what this command has not made ({strange[0]}): use another --out."
            )
        return
    changed = [
        f"{key}: {record[key] if key in record else 'absent'} -> {settings[key]}"
        for key in settings
        if key not in record or record[key] != settings[key]
    ]
    if changed:
        raise ValueError(
            f"{out} was collected with other settings ({'; '.join(changed)}): use the old ones to "
            "go on with it, or another --out."
        )


def settle(out: Path, settings: Mapping[str, Any], names: Sequence[str]) -> set[str]:
    """Make ``out`` a directory of these settings; returns the names of episodes already there.

    Args:
        out: made when missing.
        settings: everything that its episodes depend on, for JSON.
        names: of all its episodes; their files end with ``-{rows}.npz``.

    Raises:
        ValueError: it belongs to something else, or has more episodes than ``names``.
        OSError: see `claim`.
    """
    claim(out, settings)
    there = {path.stem.rpartition("-")[0] for path in out.glob("*.npz")}
    foreign = there - set(names)
    if foreign:
        raise ValueError(
            f"{out} holds {len(there)} episodes, {len(foreign)} of them not among the "
            f"{len(names)} that are asked for: ask for more --episodes, or use another --out."
        )
    if len(there) == len(names) and (out / METADATA_NAME).exists():
        say(f"{out} is complete: {len(names)} episodes.")
        return there
    if there:
        say(f"{out} has {len(there)} of {len(names)} episodes; the others are collected.")
    # A directory with a dataset.json is complete, so this one loses it until it is.
    write_metadata(out, settings, UNFINISHED)
    (out / METADATA_NAME).unlink(missing_ok=True)
    for leftover in out.glob(".*.tmp"):  # an episode that a kill cut short
        leftover.unlink()
    return there


def complete(out: Path, settings: Mapping[str, Any], command: str) -> None:
    """Check every episode of ``out`` and write its ``dataset.json``.

    Raises:
        DataError: a file there is damaged.
    """
    summary, faults = summarise(out)
    if faults or summary is None:
        raise DataError(f"{faults[0]} Delete it; the same command collects it again.", faults)
    described = summary._asdict() | {"python": platform.python_version(), "numpy": np.__version__}
    write_metadata(out, {**settings, **described, "command": command})
    (out / UNFINISHED).unlink(missing_ok=True)


def say(text: str) -> None:
    """One line of progress."""
    print(f"collect: {text}", file=sys.stderr, flush=True)
