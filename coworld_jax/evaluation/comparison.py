"""Runs beside each other: evaluation returns of one domain, as a table and as curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coworld_jax.evaluation.pictures import COLORS, GREY, RETURN_MEAN, save_figure
from coworld_jax.records.metrics import FILE_NAME, read_metrics


class Curve(NamedTuple):
    """Evaluations of one domain by several seeds of one experiment."""

    updates: np.ndarray  # int [E], at which all seeds were evaluated
    returns: np.ndarray  # float [seeds, E], undiscounted, mean over the episodes of an evaluation

    @property
    def mean(self) -> np.ndarray:
        """Over seeds, ``[E]``."""
        return self.returns.mean(axis=0)

    @property
    def std(self) -> np.ndarray:
        """Over seeds, the unit of replication, ``[E]``; zeros for one seed."""
        return self.returns.std(axis=0)


def read_curve(workdirs: Sequence[Path], domain: str) -> Curve:
    """The evaluations of ``domain`` in runs that differ in their seeds.

    Raises:
        ValueError: a workdir has no metrics, or no evaluation of the domain; or the runs have no
            update in common at which all were evaluated.
    """
    runs = [_read_run(workdir, domain) for workdir in workdirs]
    shared = sorted(set.intersection(*(set(run) for run in runs)))
    if not shared:
        names = ", ".join(map(str, workdirs))
        raise ValueError(
            f"{names} were never evaluated at the same update: compare runs of a plan."
        )
    returns = np.array([[run[updates] for updates in shared] for run in runs])
    return Curve(np.array(shared), returns)


def _read_run(workdir: Path, domain: str) -> dict[int, float]:
    """Evaluation return by update."""
    path = workdir / FILE_NAME
    if not path.exists():
        raise ValueError(f"{workdir} has no {FILE_NAME}: give the workdir of a run.")
    name = f"{domain}/{RETURN_MEAN}"
    records = read_metrics(path)
    found = {
        record["updates"]: record[name]
        for record in records
        if name in record and record[name] is not None
    }
    if not found:
        ending = f"/{RETURN_MEAN}"
        others = {key.removesuffix(ending) for record in records for key in record if ending in key}
        evaluated = ", ".join(sorted(others)) or "nothing"
        raise ValueError(f"{workdir} has evaluated {evaluated} so far, and not {domain}.")
    return found


def comparison_table(curves: Mapping[str, Curve]) -> str:
    """Markdown: a line per update, a column per experiment, mean ± std over its seeds."""
    lines = [f"| updates | {' | '.join(curves)} |", "|---" * (len(curves) + 1) + "|"]
    for updates in sorted({int(at) for curve in curves.values() for at in curve.updates}):
        cells = [_cell(curve, updates) for curve in curves.values()]
        lines.append(f"| {updates:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(curve: Curve, updates: int) -> str:
    at = np.flatnonzero(curve.updates == updates)
    if not at.size:
        return ""
    mean = f"{curve.mean[at[0]]:.0f}"
    return mean if len(curve.returns) == 1 else f"{mean} ± {curve.std[at[0]]:.0f}"


def comparison_figure(
    path: str | Path,
    curves: Mapping[str, Curve],
    *,
    levels: Mapping[str, float] | None = None,
    title: str = "",
) -> Axes:
    """Evaluation return against updates, one line per experiment; a band is one std over seeds.

    Args:
        path: PNG to write.
        curves: by the experiment's name.
        levels: returns to compare with, such as a dataset's, drawn as dashed lines.
    """
    figure = Figure(figsize=(7.2, 4.2), layout="constrained")
    axes = figure.subplots()
    for index, (name, curve) in enumerate(curves.items()):
        color = COLORS[index % len(COLORS)]
        low, high = curve.mean - curve.std, curve.mean + curve.std
        axes.fill_between(curve.updates, low, high, color=color, alpha=0.2, linewidth=0)
        axes.plot(curve.updates, curve.mean, color=color, marker="o", markersize=3, label=name)
    for (name, level), style in zip((levels or {}).items(), ("--", ":", "-."), strict=False):
        axes.axhline(level, color=GREY, linestyle=style, label=name)
    axes.set_xlabel("updates")
    axes.set_ylabel("evaluation return")
    axes.set_title(title)
    axes.set_ylim(bottom=0 if axes.dataLim.ymin >= 0 else None)
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.25)
    save_figure(figure, path)
    return axes
