"""The return over the values of each setting that a study varies alone: the paper's Figure 6."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coworld_jax.config import flatten
from coworld_jax.evaluation.pictures import BLUE, GREY, save_figure
from experiments.studying import statistics
from experiments.studying.results import Record, values
from experiments.studying.study import Run, Study

_LEAST = 3  # values beside the baseline's that make a curve
Sweeps = dict[str, dict[float, str]]  # path of a setting -> its values, each with its arm


def sweeps(study: Study, runs: Sequence[Run]) -> Sweeps:
    """The settings that several arms change alone, with the baseline's own value among theirs."""
    base = study.baseline_arm
    found: Sweeps = {}
    for arm in study.arms:
        changed = [setting.partition("=") for setting in arm.settings]
        if arm.method == base.method and len(changed) == 1 and is_number(changed[0][2]):
            path, _, value = changed[0]
            found.setdefault(path, {})[float(value)] = arm.name
    own = flatten(next(run.config for run in runs if run.arm == base.name))
    return {
        path: dict(sorted(({float(own[path]): base.name} | arms).items()))
        for path, arms in found.items()
        if len(arms) >= _LEAST
    }


def is_number(text: str) -> bool:
    """Whether ``text`` is written as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def draw_sweeps(
    path: Path, study: Study, records: Sequence[Record], found: Sweeps
) -> dict[str, Axes]:
    """A panel for each setting: the measure over its values, mean and interval, on the first pair.

    A dashed line is the mean of each arm of another method.
    """
    pair, base = study.pairs[0].name, study.baseline_arm
    others = [arm.name for arm in study.arms if arm.method != base.method]
    figure = Figure(figsize=(3.6 * len(found), 3.2), layout="constrained")
    panels = dict(zip(found, figure.subplots(1, len(found), squeeze=False, sharey=True)[0]))
    for setting, axis in panels.items():
        of = {at: values(records, arm, pair, study.measure) for at, arm in found[setting].items()}
        there = {at: np.array(list(by_seed.values())) for at, by_seed in of.items() if by_seed}
        points = [statistics.mean([seeds]) for seeds in there.values()]
        axis.plot([*there], [point.value for point in points], color=BLUE, marker="o")
        axis.vlines([*there], [p.low for p in points], [p.high for p in points], color=BLUE)
        for name in others:
            seeds = list(values(records, name, pair, study.measure).values())
            if seeds:
                axis.axhline(float(np.mean(seeds)), color=GREY, linestyle="--", label=name)
                axis.legend(frameon=False, fontsize=7)
        axis.set_xlabel(setting, fontsize=8)
        axis.set_ylabel(f"{study.measure}, {pair}", fontsize=8)
        axis.tick_params(labelsize=7)
    save_figure(figure, path)
    return panels
