"""Pages of pictures of the planar suite, one for each task and each named variant.

    python -m experiments.planar --out=experiments/results/planar

A page has two rows: the scene as it is without options, and the task; the same seed, and the same
actions as far as both take them. `experiments/results/planar_suite.md` shows the pages.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from absl import app, flags
from PIL import Image

from coworld_jax.envs import make_environment
from coworld_jax.envs.jittable import planar
from coworld_jax.envs.naming import parse_task
from experiments.command import as_path, one_sentence

_OUT = flags.DEFINE_string("out", None, "Directory of the pages; made when missing.", required=True)
_SEED = flags.DEFINE_integer("seed", 8, "Of the episodes.", lower_bound=0)

_FRAMES, _EVERY, _HELD = 7, 4, 8  # frames of a row, steps between two, steps of each action
_SCALE, _GAP = 2, 4  # pixels of the page


def film(task: str, seed: int) -> np.ndarray:
    """Frames of random play side by side, uint8 ``[height, width, 3]``.

    Args:
        task: of the planar suite.
        seed: of the episode and of the actions, which are the same for all tasks.
    """
    environment = make_environment(task)
    generator = np.random.default_rng(seed)
    frames = [environment.reset(seed).image]
    for step in range(_EVERY * (_FRAMES - 1)):
        if step % _HELD == 0:
            action = generator.uniform(-1.0, 1.0, 8)[: environment.spec.action_size]
        frames.append(environment.step(action).image)
    size = frames[0].shape[0] * _SCALE
    row = np.full((size, _FRAMES * (size + _GAP) - _GAP, 3), 255, np.uint8)
    for index, frame in enumerate(frames[::_EVERY]):
        left = index * (size + _GAP)
        row[:, left : left + size] = frame.repeat(_SCALE, 0).repeat(_SCALE, 1)
    return row


def page(name: str, seed: int) -> np.ndarray:
    """The picture of task ``planar/<name>``; a scene without options has one row."""
    task = f"planar/{name}"
    scene, _ = planar.resolve(parse_task(task))
    rows = [film(task, seed)]
    if scene != name:
        gap = np.full((_GAP, *rows[0].shape[1:]), 255, np.uint8)
        rows = [film(f"planar/{scene}", seed), gap, *rows]
    return np.concatenate(rows)


def main(arguments: Sequence[str]) -> None:
    """Draw what the flags say."""
    if len(arguments) > 1:
        raise app.UsageError(f"{arguments[1]!r} is no flag.")
    out = as_path(_OUT.value)
    with one_sentence("planar: interrupted."):
        out.mkdir(parents=True, exist_ok=True)
        for name in planar.tasks():
            picture = Image.fromarray(page(name, _SEED.value))
            # One byte for each pixel; the method keeps rare colours, as a joint's, apart.
            small = picture.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
            small.save(out / f"{name}.png", optimize=True)
    print(f"{out}: {len(planar.tasks())} pages")


if __name__ == "__main__":
    app.run(main)
