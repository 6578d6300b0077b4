"""What every simulator looks like to the rest of the project."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np


class EnvironmentSpec(NamedTuple):
    """What an environment is; a dataset keeps it, and an evaluation compares it."""

    task: str  # "suite/task"
    action_size: int  # A
    action_repeat: int  # simulator steps per env_step; their rewards are summed
    episode_steps: int  # env_steps until the time limit
    image_size: int  # frames are [image_size, image_size, 3]
    profile: str  # a name in rendering.PROFILES
    versions: Mapping[str, str]  # of the simulator's packages


class Timestep(NamedTuple):
    """What follows a reset or an action."""

    image: np.ndarray  # uint8 [image_size, image_size, 3], row 0 at the top
    reward: float  # raw units, summed over the action repeat; 0 after a reset
    discount: float  # 0 where the task ended, 1 elsewhere, at a time limit too
    is_last: bool  # no step may follow
    extras: Mapping[str, np.ndarray]  # the same keys at every step, e.g. "state" float32 [N]


class Environment(Protocol):
    """One simulator. A GL context belongs to the thread that made it: use it there only."""

    @property
    def spec(self) -> EnvironmentSpec:
        """What this environment is."""

    def reset(self, seed: int) -> Timestep:
        """Begin the episode that ``seed`` alone decides, whatever went before."""

    def step(self, action: np.ndarray) -> Timestep:
        """Apply ``action``, float32 ``[A]``, clipped to [-1, 1], ``action_repeat`` times."""

    def close(self) -> None:
        """Free the simulator."""


class Policy(Protocol):
    """A source of actors."""

    def episode(self, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        """A fresh actor, called once for each frame of one episode, in order.

        An actor maps a frame, uint8 ``[image_size, image_size, 3]``, to an action, float32 ``[A]``.
        Its choices depend on the frames and ``seed`` alone: an episode whose worker died is
        collected again with another actor of the same seed and must come out the same.
        """
