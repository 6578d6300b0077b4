"""Pictures of the planar suite: a page for a task."""

from __future__ import annotations

import numpy as np

from coworld_jax.envs import make_environment
from coworld_jax.envs.jittable import planar
from coworld_jax.envs.naming import parse_task

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
