"""Pictures of an offline dataset: frames of its episodes, returns, actions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from coworld_jax.data.episodes import acts_outside
from coworld_jax.evaluation.pictures import BLUE, GREY, ORANGE, film_strip, save_figure

_COLUMNS = 4  # panels side by side
_GAP = 2  # white pixels between frames


def contact_sheet(
    path: str | Path, clips: Sequence[np.ndarray], titles: Sequence[str], *, frames: int = 10
) -> None:
    """A strip of evenly spaced frames for each clip, one below the other.

    Args:
        path: PNG to write.
        clips: uint8 ``[T, H, W, 3]`` each; the first and the last frame are among those shown.
        titles: what is written above each strip.
        frames: shown of a clip, at most.
    """
    figure = Figure(figsize=(frames * 0.9, 1.15 * len(clips)), layout="constrained")
    panels = figure.subplots(len(clips), 1, squeeze=False)[:, 0]
    for axes, clip, title in zip(panels, clips, titles, strict=True):
        spaced = np.pad(clip, ((0, 0), (0, 0), (0, _GAP), (0, 0)), constant_values=255)
        axes.imshow(film_strip(spaced, frames), interpolation="nearest", aspect="equal")
        axes.set_xlim(0, frames * spaced.shape[2])  # a short clip leaves the rest of its row empty
        axes.set_anchor("W")
        axes.axis("off")
        axes.set_title(title, fontsize=7, loc="left", pad=2)
    save_figure(figure, path, dpi=150)


def returns_histogram(path: str | Path, returns: np.ndarray, *, title: str = "") -> Axes:
    """How many episodes have which return, with the mean and the median.

    Args:
        path: PNG to write.
        returns: ``[episodes]``, raw reward units.
        title: heading, such as the dataset's name.
    """
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.hist(returns, bins=_bins(returns), color=BLUE, alpha=0.8)
    mean, median = float(np.mean(returns)), float(np.median(returns))
    axes.axvline(mean, color=ORANGE, label=f"mean {mean:.4g}")
    axes.axvline(median, color="black", linestyle="--", label=f"median {median:.4g}")
    axes.set_xlabel("return of an episode")
    axes.set_ylabel("episodes")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_title(title)
    axes.legend(framealpha=0.9, fontsize=8)
    save_figure(figure, path)
    return axes


def action_histograms(path: str | Path, action: np.ndarray, *, title: str = "") -> list[Axes]:
    """The distribution of each coordinate, and the share of it outside [-1, 1].

    Args:
        path: PNG to write.
        action: ``[env_steps, A]``, without those of the resets.
        title: heading, such as the dataset's name.

    Returns:
        The axes of the ``A`` panels.
    """
    count = action.shape[1]
    rows, columns = -(-count // _COLUMNS), min(count, _COLUMNS)
    figure = Figure(figsize=(max(2.6 * columns, 4.0), 2.2 * rows + 0.5), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True).reshape(-1)
    low, high = min(-1.0, float(action.min())), max(1.0, float(action.max()))
    edges = np.linspace(low, high, 51).tolist()
    for index, axes in enumerate(panels):
        if index >= count:
            axes.axis("off")
            continue
        value = action[:, index]
        shares = np.full(len(value), 100.0 / len(value))
        axes.hist(value, bins=edges, weights=shares, color=BLUE, alpha=0.8)
        outside = float(acts_outside(value[:, None]).mean())
        axes.set_title(f"coordinate {index}: {percent(outside)} outside", fontsize=8)
        if outside:
            for edge in (low, high):
                axes.axvspan(edge, np.sign(edge), color=ORANGE, alpha=0.25, linewidth=0, zorder=0)
        for edge in (-1.0, 1.0):
            axes.axvline(edge, color=GREY, linewidth=0.8, linestyle="--")
        axes.set_xlim(low - 0.02 * (high - low), high + 0.02 * (high - low))
        axes.tick_params(labelsize=7)
        if index % columns == 0:
            axes.set_ylabel("% of env_steps", fontsize=8)
    all_of = float(acts_outside(action).mean())
    figure.suptitle(
        f"{title + ': ' if title else ''}{percent(all_of)} of the actions reach outside [-1, 1]",
        fontsize=10,
    )
    save_figure(figure, path)
    return list(panels[:count])


def percent(share: float) -> str:
    """``0 %`` and ``100 %`` only where that is exact."""
    if share in (0.0, 1.0):
        return f"{share:.0%}".replace("%", " %")
    return f"{min(max(100 * share, 0.01), 99.99):.2f} %"


def _bins(values: np.ndarray) -> list[float]:
    """Edges for a histogram of few or many values; equal values get a bin of their own."""
    low, high = float(np.min(values)), float(np.max(values))
    if high - low <= 1e-6 * max(abs(low), abs(high), 1.0):
        return [low - 0.5, low + 0.5]
    count = int(np.clip(2 * np.sqrt(len(values)), 8, 50))
    return np.linspace(low, high, count + 1).tolist()
