"""Pictures of a run: rollouts and open-loop predictions as GIF, returns and value bias as PNG.

Everything here works on NumPy arrays and writes files; Matplotlib is used through its Agg canvas,
so that no display is needed and no global figure is left open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from coworld_jax.data.replacing import replacing
from coworld_jax.evaluation.value_bias import ValueBias, discounted_returns, value_bias

CONDITIONED = (0, 200, 0)
"""Border of the model's frames that have seen the truth."""

RETURN_MEAN = "evaluation/return_mean"
RETURN_STD = "evaluation/return_std"
"""Names of the evaluation metrics after ``source/`` or ``target/``."""

BLUE, ORANGE, GREY = "#1f6fb4", "#d95f02", "#777777"
COLORS = (BLUE, ORANGE, "#1b9e77", "#7570b3", "#e7298a", "#66a61e")


def _check_frames(frames: np.ndarray, rank: int) -> np.ndarray:
    frames = np.asarray(frames)
    if frames.dtype != np.uint8 or frames.ndim != rank or frames.shape[-1] != 3 or not frames.size:
        shape = "[T, H, W, 3]" if rank == 4 else "[T, N, H, W, 3]"
        raise ValueError(
            f"Frames are uint8 {shape} and at least one, but these are {frames.dtype} "
            f"{list(frames.shape)}."
        )
    return frames


def _enlarge(image: np.ndarray, scale: int) -> np.ndarray:
    """Every pixel of ``[..., H, W, 3]`` as a square of ``scale`` by ``scale``."""
    if scale < 1:
        raise ValueError(f"Frames are enlarged by a whole factor of at least 1, not {scale}.")
    return image.repeat(scale, axis=-3).repeat(scale, axis=-2)


def write_gif(path: str | Path, frames: np.ndarray, fps: float = 20.0, *, scale: int = 1) -> None:
    """Writes ``frames`` as a GIF that loops forever.

    All frames share one palette of 256 colours, chosen from the whole clip, without dithering:
    in frames of 64x64 a dither pattern is as large as a foot, and it would flicker. A frame equal
    to the one before is stored as a longer duration of that one.

    Args:
        path: its directory is made when it is missing.
        frames: uint8 ``[T, H, W, 3]``.
        fps: frames per second; GIF counts in hundredths of a second, and browsers slow down what
            is faster than 50.
        scale: whole factor by which pixels are enlarged.
    """
    frames = _enlarge(_check_frames(frames, 4), scale)
    if not fps > 0:
        raise ValueError(f"A GIF needs a positive number of frames per second, not {fps}.")
    # The palette is drawn from at most 64 frames: more would cost time and find no new colour.
    chosen = frames[np.unique(np.linspace(0, len(frames) - 1, 64).astype(int))][:, ::scale, ::scale]
    palette = Image.fromarray(chosen.reshape(-1, *chosen.shape[2:])).quantize(
        256, method=Image.Quantize.MEDIANCUT
    )
    images = [
        Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.NONE)
        for frame in frames
    ]
    with replacing(path) as file:
        images[0].save(
            file,
            format="GIF",
            save_all=True,
            append_images=images[1:],
            duration=max(2, round(100 / fps)) * 10,
            loop=0,
        )


def write_png(path: str | Path, image: np.ndarray, *, scale: int = 1) -> None:
    """Writes one uint8 ``[H, W, 3]`` image, its pixels enlarged by the whole factor ``scale``."""
    (image,) = _enlarge(_check_frames(np.asarray(image)[None], 4), scale)
    with replacing(path) as file:
        Image.fromarray(image).save(file, format="PNG")


def tile(frames: np.ndarray, columns: int | None = None) -> np.ndarray:
    """Clips side by side: uint8 ``[T, N, H, W, 3]`` to ``[T, rows * H, columns * W, 3]``.

    Args:
        frames: ``N`` clips of equal length.
        columns: clips in a row, all of them if not given; the last row is filled up with black.
    """
    frames = _check_frames(frames, 5)
    time, count, height, width, _ = frames.shape
    columns = count if columns is None else columns
    if columns < 1:
        raise ValueError(f"Tiles need at least one column, not {columns}.")
    rows = -(-count // columns)
    full = np.zeros((time, rows * columns, height, width, 3), np.uint8)
    full[:, :count] = frames
    grid = full.reshape(time, rows, columns, height, width, 3).swapaxes(2, 3)
    return grid.reshape(time, rows * height, columns * width, 3)


def film_strip(frames: np.ndarray, count: int = 8) -> np.ndarray:
    """``count`` frames of a clip, evenly spaced, next to each other: the GIF for a printed page.

    Args:
        frames: uint8 ``[T, H, W, 3]``.
        count: at most ``T`` are shown.

    Returns:
        uint8 ``[H, count * W, 3]``.
    """
    frames = _check_frames(frames, 4)
    chosen = np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))
    return np.concatenate(frames[chosen], axis=1)


def open_loop_frames(truth: np.ndarray, model: np.ndarray, context: int) -> np.ndarray:
    """Truth, model and error as one clip of three rows, one column for each example.

    The first ``context`` frames of the model are reconstructions, and have a green border; the
    others are predicted from actions alone. The error ``(model - truth + 1) / 2`` is grey where
    the model is right.

    Args:
        truth: float ``[T, N, H, W, 3]`` in [0, 1].
        model: the same shape; clipped to [0, 1], for decoders give means without bounds.
        context: number of frames that the model has seen, in [0, T].

    Returns:
        uint8 ``[T, 3 * H, N * W, 3]``.
    """
    truth, model = np.asarray(truth, np.float32), np.asarray(model, np.float32)
    if truth.shape != model.shape or truth.ndim != 5 or truth.shape[-1] != 3:
        raise ValueError(
            "Truth and model are both [T, N, H, W, 3], but their shapes are "
            f"{list(truth.shape)} and {list(model.shape)}."
        )
    if not 0 <= context <= len(truth):
        raise ValueError(f"Of {len(truth)} frames, {context} cannot have been seen.")
    if truth.min() < -1e-3 or truth.max() > 1 + 1e-3:
        raise ValueError(
            f"Truth lies in [0, 1], but spans [{truth.min():.3g}, {truth.max():.3g}]: "
            "add 0.5 to images that were centred, divide bytes by 255."
        )
    model = model.clip(0.0, 1.0)
    panels = [truth, model, (model - truth + 1.0) / 2.0]
    true, seen, error = (
        (panel.clip(0.0, 1.0) * 255.0).round().astype(np.uint8) for panel in panels
    )
    border = max(1, truth.shape[2] // 32)
    edge = np.ones(truth.shape[2:4], bool)
    edge[border:-border, border:-border] = False
    seen[:context, :, edge] = CONDITIONED
    return np.concatenate([tile(true), tile(seen), tile(error)], axis=1)


def save_figure(figure: Figure, path: str | Path, *, dpi: int = 110) -> None:
    """Writes a figure as PNG; the directory is made when it is missing."""
    FigureCanvasAgg(figure)
    with replacing(path) as file:
        figure.savefig(file, dpi=dpi, format="png")


def returns_figure(
    path: str | Path,
    records: Sequence[Mapping[str, Any]],
    *,
    random_returns: Mapping[str, float] | None = None,
    titles: Mapping[str, str] | None = None,
) -> dict[str, Axes]:
    """Evaluation return against updates and env_steps, one panel per domain.

    Args:
        path: PNG to write.
        records: lines of ``metrics.jsonl`` (`coworld_jax.records.metrics.read_metrics`). Those with
            ``<domain>/evaluation/return_mean`` (a number) become points, where they have
            ``<domain>/evaluation/return_std`` with a band of one standard deviation over episodes.
        random_returns: return of the random policy by domain, drawn as a dashed line.
        titles: heading of a domain's panel, such as its task; the domain's name if not given.

    Returns:
        The axes by domain, sources before ``target``; domains without a point have no panel.

    Raises:
        ValueError: no record holds an evaluation.
    """
    ending = f"/{RETURN_MEAN}"
    names = {name for record in records for name in record if name.endswith(ending)}
    domains = [
        domain
        for domain in sorted(name.removesuffix(ending) for name in names)
        if any(_evaluated(record, domain) for record in records)
    ]
    if not domains:
        raise ValueError(f"No evaluation to draw: no record holds source{ending} or the like.")
    baselines = random_returns or {}
    headings = dict(zip(domains, domains, strict=True)) | dict(titles or {})
    figure = Figure(figsize=(5.2 * len(domains), 3.8), layout="constrained")
    panels = figure.subplots(1, len(domains), squeeze=False)[0]
    for axes, domain in zip(panels, domains, strict=True):
        points = [record for record in records if _evaluated(record, domain)]
        updates = np.array([record["updates"] for record in points], float)
        mean = np.array([record[f"{domain}/{RETURN_MEAN}"] for record in points], float)
        name = f"{domain}/{RETURN_STD}"
        std = np.array(
            [
                record[name] if name in record and record[name] is not None else 0.0
                for record in points
            ]
        )
        axes.fill_between(updates, mean - std, mean + std, color=BLUE, alpha=0.2, linewidth=0)
        axes.plot(updates, mean, color=BLUE, marker="o", markersize=3, label="mean ± std")
        if domain in baselines:
            axes.axhline(baselines[domain], color=GREY, linestyle="--", label="random policy")
        axes.set_xlabel("updates")
        axes.set_ylabel("evaluation return")
        axes.set_title(headings[domain])
        axes.legend(frameon=False, fontsize=8)
        axes.grid(alpha=0.25)
        _label_env_steps(axes, records)
    save_figure(figure, path)
    return dict(zip(domains, panels, strict=True))


def _evaluated(record: Mapping[str, Any], domain: str) -> bool:
    name = f"{domain}/{RETURN_MEAN}"
    return name in record and record[name] is not None


def _label_env_steps(axes: Axes, records: Sequence[Mapping[str, Any]]) -> None:
    """A second scale above ``axes``: env_steps at the same places as the updates below.

    The two run together, but not in proportion: the source is stepped in its own phases only.
    """
    updates = np.array([record["updates"] for record in records], float)
    env_steps = np.array([record["env_steps"] for record in records], float)
    low, high = axes.get_xlim()
    ticks = [tick for tick in axes.get_xticks() if low <= tick <= high]
    ticks = [tick for tick in ticks if updates.min() <= tick <= updates.max()]
    order = np.argsort(updates, kind="stable")
    above = axes.twiny()
    above.set_xlim(low, high)
    above.set_xticks(ticks)
    labels = np.interp(ticks, updates[order], env_steps[order])
    above.set_xticklabels(_distinct([_short(label) for label in labels]))
    above.set_xlabel("env_steps")


def _short(count: float) -> str:
    return f"{count:.4g}" if count < 1e4 else f"{count / 1e3:.4g}k"


def _distinct(labels: Sequence[str]) -> list[str]:
    """``labels`` with nothing in the place of a repetition: env_steps that stand still."""
    return ["" if label == last else label for label, last in zip(labels, ["", *labels])]


def value_bias_figure(
    path: str | Path,
    values: np.ndarray,
    rewards: np.ndarray,
    discount: float,
    *,
    terminated: bool = False,
    title: str = "",
) -> tuple[ValueBias, Axes]:
    """The critic's value and the realised discounted return along one episode.

    States that do not count, because too much of their return lies beyond the end, are shaded.

    Args:
        path: PNG to write.
        values: ``[T]``, as in `value_bias`, like the three that follow.
        rewards: ``[T]``.
        discount: factor per step.
        terminated: the episode ended by itself.
        title: put before the bias in the heading, such as the task.
    """
    bias = value_bias(values, rewards, discount, terminated=terminated)
    steps = np.arange(len(bias.per_state))
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    axes.plot(steps, values, color=ORANGE, label="critic's value")
    axes.plot(steps, discounted_returns(rewards, discount), color=BLUE, label="realised return")
    if not bias.valid.all():
        axes.fill_between(
            steps,
            0,
            1,
            where=~bias.valid,
            transform=axes.get_xaxis_transform(),
            color=GREY,
            alpha=0.15,
            linewidth=0,
            label="not counted",
        )
    axes.set_xlabel("state of the episode")
    axes.set_ylabel("discounted return")
    axes.set_title(f"{title + ': ' if title else ''}value bias {bias.mean:+.3g}")
    axes.legend(frameon=False, fontsize=8)
    axes.grid(alpha=0.25)
    save_figure(figure, path)
    return bias, axes
