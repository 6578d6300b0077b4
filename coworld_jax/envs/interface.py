"""What every simulator looks like to the rest of the project."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np


class Request(NamedTuple):
    """Which environment is wanted: the arguments of ``make_environment``."""

    task: str  # see naming.py
    profile: str  # a name in rendering.PROFILES
    image_size: int
    action_repeat: int | None  # None: the suite's own figure
    episode_steps: int | None  # None: the suite's own figure

    def counts(self, action_repeat: int, simulator_steps: int) -> tuple[int, int]:
        """Action repeat and env_steps per episode: as requested, or else a suite's own.

        Args:
            action_repeat: of the suite.
            simulator_steps: of its episodes, all repeats counted.
        """
        repeat = self.action_repeat or action_repeat
        return repeat, self.episode_steps or max(simulator_steps // repeat, 1)


class EnvironmentSpec(NamedTuple):
    """What an environment is; a dataset keeps it, and an evaluation compares it."""

    task: str  # "suite/name" with its options, see naming.py
    action_size: int  # A
    action_repeat: int  # simulator steps per env_step; their rewards are summed
    episode_steps: int  # env_steps until the time limit
    image_size: int  # frames are [image_size, image_size, 3]
    profile: str  # a name in rendering.PROFILES
    versions: Mapping[str, str]  # of the simulator's packages
    state_size: int = 0  # N of ``extras["state"]``; 0 for an environment that gives none

    def settings(self) -> dict[str, Any]:
        """What a dataset records, for JSON; the size of the state is seen in its episodes."""
        fields = self._asdict() | {"versions": dict(self.versions)}
        del fields["state_size"]
        return fields


class Timestep(NamedTuple):
    """What follows a reset or an action."""

    image: np.ndarray  # uint8 [image_size, image_size, 3], row 0 at the top
    reward: float  # raw units, summed over the action repeat; 0 after a reset
    discount: float  # 0 where the task ended, 1 elsewhere, at a time limit too
    is_last: bool  # no step may follow
    # The same keys at every step: "state" float32 [N], and where it is defined "success" bool [].
    extras: Mapping[str, np.ndarray]


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
    """A source of actors.

    Attributes:
        reads: what the actors are called with: ``image``, or ``state`` (see ``Timestep.extras``).
    """

    reads: str

    def episode(self, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        """A fresh actor, called once for each frame (or state) of one episode, in order.

        An actor maps a frame, uint8 ``[image_size, image_size, 3]``, or a state, float32 ``[N]``,
        to an action, float32 ``[A]``. Its choices depend on these and ``seed`` alone: an episode
        whose worker died is collected again with another actor of the same seed and must come out
        the same.
        """
