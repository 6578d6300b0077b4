"""Draw runs beside each other, and print their evaluation returns as a table.

    python -m experiments.compare --out=comparison.png CoWorld=runs/a,runs/b uncoupled=runs/c,runs/d

Each argument is NAME=WORKDIR[,WORKDIR...]: an experiment and the runs of its seeds. The workdir of
a run with ``run.seeds`` stands for all its seeds but those that failed. Dashed lines are the mean
and the best return of the offline dataset, where all runs share one that says them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from absl import app, flags

from coworld_jax.data import read_metadata
from coworld_jax.evaluation.comparison import comparison_figure, comparison_table, read_curve
from coworld_jax.method import TARGET
from coworld_jax.records.files import seed_directories
from coworld_jax.workdir import read_config
from experiments.command import as_path, one_sentence

_OUT = flags.DEFINE_string("out", None, "PNG to write.", required=True)
_DOMAIN = flags.DEFINE_string("domain", TARGET, "target, source, or source0 ...")


def experiments_of(arguments: Sequence[str]) -> dict[str, list[Path]]:
    """Workdirs by the experiment's name.

    Raises:
        ValueError: no argument, one that is not NAME=WORKDIR[,WORKDIR...], or a name given twice.
    """
    found: dict[str, list[Path]] = {}
    for argument in arguments:
        name, _, workdirs = argument.partition("=")
        if not name or not workdirs:
            raise ValueError(f"{argument} names no run: write NAME=WORKDIR[,WORKDIR...].")
        if name in found:
            raise ValueError(f"{name} is named twice: list its runs as {name}=A,B.")
        given = [as_path(workdir) for workdir in workdirs.split(",")]
        found[name] = [run for workdir in given for run in seed_directories(workdir)]
    if not found:
        raise ValueError("No run to draw: write NAME=WORKDIR[,WORKDIR...] for each experiment.")
    return found


def dataset_levels(workdirs: Sequence[Path]) -> dict[str, float]:
    """Mean and best return of the dataset that all runs share; nothing if there is no such."""
    directories = {read_config(workdir).data for workdir in workdirs}
    directory = directories.pop()
    record = read_metadata(directory) if directory and not directories else None
    if record is None or "returns" not in record:
        return {}
    return {"dataset, mean": record["returns"]["mean"], "dataset, best": record["returns"]["max"]}


def main(arguments: Sequence[str]) -> None:
    """Compare what the command line names."""
    with one_sentence("compare: interrupted."):
        experiments = experiments_of(arguments[1:])
        curves = {name: read_curve(runs, _DOMAIN.value) for name, runs in experiments.items()}
        workdirs = [workdir for runs in experiments.values() for workdir in runs]
        config = read_config(workdirs[0])
        levels = dataset_levels(workdirs) if _DOMAIN.value == TARGET else {}
        title = config.target if _DOMAIN.value == TARGET else ", ".join(config.source)
        comparison_figure(as_path(_OUT.value), curves, levels=levels, title=title)
    print(comparison_table(curves))
    print(f"\n{as_path(_OUT.value)}")


if __name__ == "__main__":
    app.run(main)
