"""Policies that need no network."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class RandomPolicy:
    """Actions uniform in [-1, 1], independent of the frames.

    Args:
        action_size: coordinates of an action.
    """

    reads = "image"

    def __init__(self, action_size: int) -> None:
        self._action_size = action_size

    def episode(self, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        """A fresh stream of actions, float32 ``[A]``."""
        generator = np.random.default_rng(seed)

        def choose(image: np.ndarray) -> np.ndarray:
            del image
            return generator.uniform(-1.0, 1.0, self._action_size).astype(np.float32)

        return choose

    def actions(self, seed: int, count: int) -> np.ndarray:
        """The first ``count`` actions of ``episode(seed)`` at once, float32 ``[count, A]``."""
        shape = (count, self._action_size)
        return np.random.default_rng(seed).uniform(-1.0, 1.0, shape).astype(np.float32)
