"""Frames of each arm's last evaluation, side by side: the paper's Figures 8 and 9."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageSequence

from coworld_jax.evaluation.pictures import save_figure
from experiments.studying.study import Run

TIMES = (1, 9, 18, 27, 36, 45)  # env_steps
ROLLOUT = Path("pictures", "target_rollout.gif")


def draw_strips(path: Path, root: Path, runs: Sequence[Run]) -> None:
    """A row for each run: its frames at `TIMES`, or the last one where the episode is shorter."""
    figure = Figure(figsize=(1.3 * len(TIMES) + 1.2, 1.3 * len(runs)), layout="constrained")
    axes = figure.subplots(len(runs), len(TIMES), squeeze=False)
    for line, run in zip(axes, runs):
        frames = read_frames(root / run.place / ROLLOUT)
        for axis, time in zip(line, TIMES):
            axis.imshow(frames[min(time, len(frames) - 1)])
            axis.set_xticks([])
            axis.set_yticks([])
            axis.set_title(f"t = {time}", fontsize=7)
        line[0].set_ylabel(f"{run.pair}\n{run.arm}", fontsize=7)
    save_figure(figure, path)


def read_frames(gif: Path) -> list[np.ndarray]:
    """The first episode of a GIF, one frame for each env_step: it stores equal ones as one."""
    with Image.open(gif) as film:
        shown = [
            (np.asarray(image.convert("RGB")), image.info["duration"])
            for image in ImageSequence.Iterator(film)
        ]
    shortest = min(duration for _, duration in shown)
    # A rollout shows its episodes in a row; the first is enough.
    first = [(frame[:, : len(frame)], duration) for frame, duration in shown]
    return [frame for frame, duration in first for _ in range(round(duration / shortest))]
