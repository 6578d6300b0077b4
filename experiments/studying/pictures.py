"""The picture of a study: learning curves of each pair, and the arms side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coworld_jax.evaluation.pictures import COLORS, GREY, save_figure
from experiments.studying import statistics
from experiments.studying.clock import Clock
from experiments.studying.results import Record, scores, values
from experiments.studying.study import Pair, Study
from experiments.studying.tables import is_scored

_COLUMNS = 3
_PANEL = (4.2, 3.2)  # inches
_SCORE = "score: 0 random play, 1 reference"
_STYLES = ("-", "--", ":", "-.")  # for more arms than colours


def draw(path: Path, study: Study, records: Sequence[Record], clock: Clock) -> None:
    """A panel of curves for each pair with a run; then the measure of each arm on each pair."""
    begun = {record["pair"] for record in records}
    study = study._replace(pairs=tuple(pair for pair in study.pairs if pair.name in begun))
    scored = is_scored(study)
    panels = len(study.pairs) + 1 + scored
    columns = min(_COLUMNS, panels)
    rows = -(-panels // columns)
    figure = Figure(figsize=(_PANEL[0] * columns, _PANEL[1] * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis, pair in zip(axes, study.pairs):
        _curves(axis, study, pair, records, clock)
    _measures(axes[len(study.pairs)], study, records)
    if scored:
        _profiles(axes[panels - 1], study, records)
    for axis in axes[panels:]:
        axis.set_axis_off()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=8)
    save_figure(figure, path)


def _look(index: int) -> tuple[str, str]:
    """Colour and line style of an arm."""
    return COLORS[index % len(COLORS)], _STYLES[(index // len(COLORS)) % len(_STYLES)]


def _curves(axis: Axes, study: Study, pair: Pair, records: Sequence[Record], clock: Clock) -> None:
    """Returns over updates: mean over seeds, and its interval as a band.

    The panel is as high as its curves need: few seeds have intervals many times as wide.
    """
    bands = []
    for index, arm in enumerate(study.arms):
        curves = [
            {clock(r, at): value for at, value in r["curve"]}
            for r in records
            if r["arm"] == arm.name and r["pair"] == pair.name
        ]
        shared = sorted(set.intersection(*map(set, curves))) if curves else []
        points = [statistics.mean([np.array([c[at] for c in curves])]) for at in shared]
        color, style = _look(index)
        means = [p.value for p in points]
        axis.plot(shared, means, label=arm.name, linewidth=1.6, color=color, linestyle=style)
        bands.append((shared, [p.low for p in points], [p.high for p in points], color))
    if pair.reference is not None:
        for value in pair.reference:
            axis.axhline(value, color=GREY, linewidth=0.8, linestyle=":")
    axis.margins(y=0.25)
    axis.set_ylim(axis.get_ylim())  # bands do not change it
    for shared, low, high, color in bands:
        axis.fill_between(shared, low, high, color=color, alpha=0.15, linewidth=0)
    axis.set_title(pair.name, fontsize=9)
    axis.set_xlabel(clock.label, fontsize=8)
    axis.set_ylabel("return", fontsize=8)
    axis.tick_params(labelsize=7)


def _measures(axis: Axes, study: Study, records: Sequence[Record]) -> None:
    """The measure of each arm, or its score: a dot with its interval for each pair, from the top.

    Pairs differ in the scale of their returns; scores share one axis.
    """
    scored = is_scored(study)
    for row, arm in enumerate(study.arms):
        returns = [values(records, arm.name, pair.name, study.measure) for pair in study.pairs]
        for step, found in enumerate(scores(study, records, arm) if scored else returns):
            if not found:
                continue
            point = statistics.mean([np.array(list(found.values()))])
            height = -row - 0.6 * step / max(1, len(study.pairs))
            color, _ = _look(row)
            axis.plot([point.low, point.high], [height, height], color=color, linewidth=1.4)
            axis.plot([point.value], [height], "o", color=color, markersize=3.5)
    axis.set_ylim(-len(study.arms) + 0.2, 0.5)
    axis.set_yticks([-row for row in range(len(study.arms))])
    axis.set_yticklabels([arm.name for arm in study.arms], fontsize=7)
    axis.set_title("last evaluation, pairs from top to bottom", fontsize=9)
    axis.set_xlabel(_SCORE if scored else study.measure.replace("_", " "), fontsize=8)
    axis.tick_params(axis="x", labelsize=7)


def _profiles(axis: Axes, study: Study, records: Sequence[Record]) -> None:
    """For each score the share of runs above it, with its interval (a performance profile)."""
    thresholds = np.linspace(0.0, 1.0, 41)
    for index, arm in enumerate(study.arms):
        parts = [np.array(list(by_seed.values())) for by_seed in scores(study, records, arm)]
        if not all(len(part) for part in parts):
            continue
        shares, (color, style) = statistics.profile(parts, thresholds), _look(index)
        axis.plot(thresholds, [s.value for s in shares], color=color, linestyle=style)
        low, high = [s.low for s in shares], [s.high for s in shares]
        axis.fill_between(thresholds, low, high, color=color, alpha=0.15, linewidth=0)
    axis.set_title("share of runs above a score", fontsize=9)
    axis.set_xlabel(_SCORE, fontsize=8)
    axis.tick_params(labelsize=7)
