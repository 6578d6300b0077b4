"""Datasets of other projects: into a directory of episodes, and out of it.

The rule of an episode is ``action[t]`` and ``reward[t]`` led to ``image[t]``, row 0 is the reset.
What is made appears under its name when it is whole; a kill before that leaves nothing there.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from coworld_jax.data.directory import episode_files
from coworld_jax.data.faults import DataError
from coworld_jax.data.formats import minari
from coworld_jax.data.formats.finding import FORMATS, find
from coworld_jax.data.formats.foreign import Request
from coworld_jax.data.formats.units import Units, recorded_units
from coworld_jax.data.formats.writing import Writing
from coworld_jax.data.metadata import (
    IMPORT_NAME,
    read_import,
    read_metadata,
    write_json,
    write_metadata,
)

_DATASET_ID = re.compile(r"[-\w]+-v\d+")

__all__ = ["FORMATS", "Imported", "Request", "export_minari", "import_episodes"]

Progress = Callable[[int, int], None]
"""Called with episodes and rows so far."""


class Imported(NamedTuple):
    """What an import made."""

    form: str
    episodes: int
    rows: int
    resized: str  # "84 to 64 pixels, filter hamming", or empty
    left_out: dict[str, int]  # arrays without a place in an episode file: in how many episodes
    units: Units | None  # that the actions were scaled from
    split: int  # episodes that went on after an end of the task, and were cut there
    single: int  # episodes of one row, which were left out
    actions_outside: float  # share of env_steps with an action outside [-1, 1]
    cut_rows: int  # of episodes that a file's edge cuts, and which were left out
    aside: list[str]  # files that were not read: validation sets


def import_episodes(
    source: Path,
    out: Path,
    *,
    form: str | None = None,
    request: Request | None = None,
    command: str = "",
    progress: Progress = lambda episodes, rows: None,
) -> Imported:
    """Make the episode directory ``out`` from a dataset in a foreign format.

    Args:
        source: a file, or a directory of files, which are taken in the order of their names.
        out: empty or missing.
        form: a key of `FORMATS`; found out if not given.
        request: what the source leaves open.
        command: recorded in ``import.json`` for the reader.

    Raises:
        DataError: a source that cannot be used as it is; nothing is made then.
    """
    request = Request() if request is None else request
    form, files, aside = find(source, form)
    if request.rewards is not None and (form != "ogbench" or len(files) > 1):
        raise DataError(f"--rewards belongs to one npz file of OGBench, and {source} is none.")
    if request.drop_cut and form not in ("vd4rl", "ogbench"):
        raise DataError(f"--drop_cut belongs to files of V-D4RL and OGBench, and {source} is none.")
    with _emerging(out) as temporary:
        writing = Writing(temporary)
        for file in files:
            for found in FORMATS[form](file, request):
                writing.add(file, found)
                progress(len(writing.names), writing.rows)
        if not writing.names:
            raise DataError.of(source, "", "holds no episodes")
        made = Imported(
            form, len(writing.names), writing.rows, writing.resized, dict(writing.left_out),
            writing.units, writing.split, writing.single, writing.actions_outside, writing.cut_rows,
            [path.name for path in aside],
        )  # fmt: skip
        record = minari.read_record(files[0]) if form == "minari" else None
        if record is not None:
            write_metadata(temporary, record)
            read_metadata(temporary)
        write_json(
            temporary / IMPORT_NAME,
            {
                "format": form, "source": str(source), "files": len(files),
                "resized": made.resized, "left_out": made.left_out, "split": made.split,
                "single": made.single, "cut_rows": made.cut_rows, "aside": made.aside,
                "command": command,
                "action_space": None if made.units is None else made.units.record(),
            },
        )  # fmt: skip
    return made


def export_minari(
    directory: Path, out: Path, progress: Progress = lambda episodes, rows: None
) -> None:
    """Write an episode directory as a Minari dataset, without loss.

    Importing it gives back what `data.load_episode` reads of each file: every key, numbers of the
    episode itself as float32. Actions that an import scaled go back to the units of its source.

    Args:
        out: empty or missing; Minari finds it by its name, ``NAME-v0``.

    Raises:
        DataError: bad files, a name that Minari refuses, or no Minari here; nothing is made then.
    """
    name = out.resolve().name
    if not _DATASET_ID.fullmatch(name):
        raise DataError(
            f"Minari knows a dataset by the name of its folder, which ends in a version: name it "
            f"{out.resolve().with_name(f'{name}-v0')} instead of {out}."
        )
    paths, record = episode_files(directory), read_metadata(directory)
    imported = read_import(directory)
    units = None if imported is None else recorded_units(directory / IMPORT_NAME, imported)
    with _emerging(out) as temporary:
        rows = 0
        for index, written in enumerate(
            minari.write(temporary / "data", name, paths, record, units)
        ):
            rows += written
            progress(index + 1, rows)


@contextlib.contextmanager
def _emerging(out: Path) -> Iterator[Path]:
    """A directory that takes the name ``out`` when all went well, and vanishes otherwise."""
    out = out.resolve()  # "." has no name, and a link cannot be replaced by a directory
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out} is there already and is not empty: name another one.")
    temporary = out.with_name(f".{out.name}.unfinished")
    if temporary.exists():
        shutil.rmtree(temporary)
    temporary.mkdir(parents=True)
    try:
        yield temporary
    except BaseException:
        shutil.rmtree(temporary)
        raise
    os.replace(temporary, out)
