"""What a page says of several sources: which was chosen, and which helps which target."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from coworld_jax.evaluation.pictures import save_figure
from experiments.studying.published import chosen_source, published
from experiments.studying.results import BY_SOURCE, Record
from experiments.studying.study import Arm, Study
from experiments.studying.tables import ARM, average, mean_cell

Table = tuple[list[str], list[list[str]]]  # head, and rows


def choices(records: Sequence[Record]) -> Table:
    """How often each source was chosen, and what that rests on: a row for each, mean over seeds.

    A last row has the entropy of the target's own encoder. The paper's Table 13 marks its choice.
    """
    rows: list[list[str]] = []
    for pair, arm in dict.fromkeys((r["pair"], r["arm"]) for r in records if r["selection"]):
        own = [r for r in records if (r["pair"], r["arm"]) == (pair, arm) and r["selection"]]
        shares = [r["selection"] for r in own]
        figures = [
            [r["by_source"][figure] if figure in r["by_source"] else {} for r in own]
            for figure in BY_SOURCE
        ]
        names = dict.fromkeys(name for found in [shares, *figures] for one in found for name in one)
        for name in names:
            cells = [mean_cell(shares, name, share=True)]
            for figure, found in zip(BY_SOURCE, figures, strict=True):
                cells.append(mean_cell(found, name, share=figure == "flattest"))
            paper = "chosen" if chosen_source(f"{pair}-multi") == name else ""
            rows.append([pair, arm, name, str(len(own)), *cells, paper])
    return ["pair", ARM, "source", "n", "share", *BY_SOURCE.values(), "paper"], rows


def is_single(arm: Arm) -> bool:
    """Whether the arm is CoWorld with one source that it names."""
    named = [setting for setting in arm.settings if setting.startswith("source=")]
    return len(named) == 1 and "," not in named[0]


def multiples(study: Study, records: Sequence[Record], arms: Sequence[Arm]) -> np.ndarray:
    """Each arm's mean return as a multiple of `Study.ratio`'s, ``[pairs, arms]``.

    NaN where a run is missing, or where the mean of the other is not positive.
    """
    each = [[average(study, records, arm, [pair])[0] for arm in arms] for pair in study.pairs]
    return np.array([[nan if one is None else one.value for one in row] for row in each])


def published_multiples(study: Study, arms: Sequence[Arm]) -> np.ndarray:
    """What the paper prints in their place, ``[pairs, arms]``; NaN where it prints nothing."""
    each = [[published(study.table, arm, pair.name) for arm in arms] for pair in study.pairs]
    return np.array([[nan if one is None else one[0] for one in row] for row in each])


def best_sources(study: Study, records: Sequence[Record]) -> Table:
    """The best single source of each target and its multiple with n, ours and the paper's."""
    arms = [arm for arm in study.arms if is_single(arm)]
    rows = []
    for pair, paper in zip(study.pairs, published_multiples(study, arms)):
        found = [(arm.name, *average(study, records, arm, [pair])) for arm in arms]
        known = [(one.value, name, f"{one:.2f}, n={n}") for name, one, n in found if one]
        ours = max(known)[1:] if known else ("–", "–")
        printed = ("–", "–")
        if not np.isnan(paper).all():
            printed = (arms[int(np.nanargmax(paper))].name, f"{np.nanmax(paper):.2f}")
        rows.append([pair.name, *ours, *printed])
    return ["target", "best source", "multiple", "paper", "multiple"], rows


def draw_map(path: Path, study: Study, records: Sequence[Record]) -> list[Axes]:
    """The transfer map: a row for each target, a column for each source; ours and the paper's.

    Colours show the logarithm of the multiple: white is 1, blue above, red below.
    """
    arms = [arm for arm in study.arms if arm.name != study.ratio]
    maps = {"here": multiples(study, records, arms), "paper": published_multiples(study, arms)}
    width, height = 0.75 * len(arms) + 1.8, 0.5 * len(study.pairs) + 1.6
    figure = Figure(figsize=(width * len(maps), height), layout="constrained")
    panels = list(figure.subplots(1, len(maps), squeeze=False)[0])
    for axis, (title, found) in zip(panels, maps.items()):
        shade = np.log2(np.where(found > 0.0, found, nan))
        axis.imshow(shade, cmap="RdBu", vmin=-2.0, vmax=2.0)
        for (row, column), value in np.ndenumerate(found):
            if not np.isnan(value):
                color = "white" if abs(shade[row, column]) > 1.2 else "black"
                text = f"{value:.2f}"
                axis.text(column, row, text, ha="center", va="center", fontsize=7, color=color)
        axis.set_xticks(range(len(arms)), [arm.name for arm in arms], rotation=40, ha="right")
        axis.set_yticks(range(len(study.pairs)), [pair.name for pair in study.pairs])
        axis.tick_params(labelsize=7)
        axis.set_xlabel("source", fontsize=8)
        axis.set_ylabel("target", fontsize=8)
        axis.set_title(f"multiple of {study.ratio}, {title}", fontsize=8)
    save_figure(figure, path)
    return panels
