"""Recorded episodes side by side, as a player looks at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from coworld_jax.types import Episode


class Clips(NamedTuple):
    """Episodes side by side on the host, zero-padded to the longest."""

    image: np.ndarray  # uint8 [T, N, 64, 64, 3]
    observation: np.ndarray  # what the player reads: the image, or raw states, float32 [T, N, D]
    action: np.ndarray  # float32 [T, N, A]
    rows: tuple[int, ...]  # rows of each episode before padding


def side_by_side(episodes: Sequence[Episode], reads: str) -> Clips:
    """Time-major `Clips` of ``N`` episodes.

    Args:
        reads: ``image`` or ``state``, see `method.Player`.
    """
    rows = tuple(len(episode.reward) for episode in episodes)

    def pad(values: Sequence[np.ndarray]) -> np.ndarray:
        padded = np.zeros((max(rows), len(rows), *values[0].shape[1:]), values[0].dtype)
        for i, value in enumerate(values):
            padded[: rows[i], i] = value
        return padded

    image = pad([episode.image for episode in episodes])
    observation = image
    if reads == "state":
        observation = pad([np.asarray(episode.extras["state"], np.float32) for episode in episodes])
    return Clips(image, observation, pad([episode.action for episode in episodes]), rows)
