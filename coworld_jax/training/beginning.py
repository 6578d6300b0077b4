"""A run that starts from the end of another one: the first phases that both would do alike."""

from __future__ import annotations

import shutil
from pathlib import Path

from coworld_jax.config import Config
from coworld_jax.records.checkpoint import SCORES
from coworld_jax.records.files import CHECKPOINTS, CONFIG, REPLAY, TASKS, lock, write_config
from coworld_jax.records.metrics import FILE_NAME
from coworld_jax.workdir import check_beginning


def start_from(config: Config, workdir: Path, place: Path) -> None:
    """Make ``workdir`` what it would be if its run had been stopped after its first phases.

    Nothing happens where the run has begun already. The scores stay behind: they were of another
    domain. `workdir.beginning_of` says which run can be a beginning.

    Args:
        config: of the run that is to start.
        workdir: its directory.
        place: workdir of the other run.

    Raises:
        ValueError: that run is not finished, or would not have done the same.
    """
    if config.run.seeds > 1:
        raise ValueError("A run of several seeds starts from no other run: leave --beginning out.")
    workdir.mkdir(parents=True, exist_ok=True)
    with lock(workdir):
        if (workdir / CONFIG).exists():
            return
        check_beginning(place, config)
        for folder in (CHECKPOINTS, REPLAY):
            ignored = shutil.ignore_patterns(SCORES)
            shutil.copytree(place / folder, workdir / folder, ignore=ignored, dirs_exist_ok=True)
        for file in (FILE_NAME, TASKS):
            shutil.copy2(place / file, workdir / file)
        write_config(workdir, config)  # last: with it, the run has begun
