"""The open-loop prediction of an agent that reads states: curves, as there are no frames."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from coworld_jax.evaluation.pictures import BLUE, GREY, ORANGE, save_figure

_SHOWN = 6  # coordinates
_COLUMNS = 2


def shown_coordinates(truth: np.ndarray, count: int = _SHOWN) -> np.ndarray:
    """Up to ``count`` coordinates, evenly spread over those that move in ``truth`` ``[T, N]``.

    Where nothing moves it is the first one.
    """
    moving = np.flatnonzero(np.ptp(truth, axis=0) > 1e-4)
    if not moving.size:
        return np.array([0])
    return moving[np.unique(np.linspace(0, moving.size - 1, count).round().astype(int))]


def state_curves_figure(
    path: str | Path, truth: np.ndarray, model: np.ndarray, context: int, *, title: str = ""
) -> None:
    """Truth and model over time, a panel for each of a few coordinates.

    Args:
        path: PNG to write.
        truth: states in the simulator's units, ``[T, N]``.
        model: reconstructions of the first ``context`` states, then predictions from actions alone,
            same shape and units.
        context: number of states that the model has seen, in [0, T].
        title: heading, such as the task.

    Raises:
        ValueError: shapes that differ, or a context that does not fit.
    """
    if truth.shape != model.shape or truth.ndim != 2:
        raise ValueError(
            "Truth and model are both [T, N], but their shapes are "
            f"{list(truth.shape)} and {list(model.shape)}."
        )
    if not 0 <= context <= len(truth):
        raise ValueError(f"Of {len(truth)} states, {context} cannot have been seen.")
    coordinates = shown_coordinates(truth)
    rows = -(-len(coordinates) // _COLUMNS)
    figure = Figure(figsize=(4.2 * _COLUMNS, 0.6 + 1.7 * rows), layout="constrained")
    panels = figure.subplots(rows, _COLUMNS, squeeze=False, sharex=True).ravel()
    steps = np.arange(len(truth))
    for axes, coordinate in zip(panels, coordinates):
        axes.axvspan(-0.5, context - 0.5, color=GREY, alpha=0.15, linewidth=0)
        axes.plot(steps, truth[:, coordinate], color=BLUE, label="truth")
        axes.plot(steps, model[:, coordinate], color=ORANGE, label="model")
        axes.set_ylabel(f"state[{coordinate}]")
        axes.set_xlim(-0.5, len(truth) - 0.5)
        axes.grid(alpha=0.25)
    for axes in panels[len(coordinates) :]:
        axes.set_axis_off()
    panels[0].legend(frameon=False, fontsize=8)
    for axes in panels[: len(coordinates)][-_COLUMNS:]:
        axes.set_xlabel("state of the clip (grey: seen by the model)")
    figure.suptitle(f"{title + ': ' if title else ''}open-loop prediction", fontsize=10)
    save_figure(figure, path)
