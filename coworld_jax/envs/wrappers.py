"""Options that any simulator can have: noise on its actions, a sparse reward."""

from __future__ import annotations

import zlib

import numpy as np

from coworld_jax.envs.interface import Environment, EnvironmentSpec, Timestep
from coworld_jax.envs.naming import TaskName

SUCCESS_REWARD = 500.0  # the paper's, section on sparse rewards


def apply_options(environment: Environment, task: TaskName) -> Environment:
    """``environment`` under the options of ``task`` that are not its suite's own affair."""
    noise = task.chosen("noise")
    if noise is not None:
        environment = NoisyActions(environment, float(noise))
    if task.chosen("sparse") is not None:
        environment = SparseReward(environment)
    return environment


class NoisyActions:
    """Executes ``clip(a + scale * n, -1, 1)`` with ``n ~ N(0, I)`` where ``a`` was chosen.

    The noise belongs to the simulator (a robot whose motors are not exact): an episode keeps the
    action that was chosen. The episode's seed decides the noise.

    Reference: CoWorld, Table 10, scales 0.1, 1 and 5.
    """

    def __init__(self, environment: Environment, scale: float) -> None:
        self._environment, self._scale = environment, scale
        self._generator = np.random.default_rng(0)  # of the running episode

    @property
    def spec(self) -> EnvironmentSpec:
        """See ``Environment.spec``."""
        return self._environment.spec

    def reset(self, seed: int) -> Timestep:
        """See ``Environment.reset``."""
        # Not of the seed alone: a random policy of the same seed would draw the same numbers.
        self._generator = np.random.default_rng([seed, zlib.crc32(b"action noise")])
        return self._environment.reset(seed)

    def step(self, action: np.ndarray) -> Timestep:
        """See ``Environment.step``."""
        noise = self._scale * self._generator.standard_normal(self.spec.action_size)
        clipped = np.clip(np.clip(action, -1.0, 1.0) + noise, -1.0, 1.0)
        return self._environment.step(clipped.astype(np.float32))

    def close(self) -> None:
        """See ``Environment.close``."""
        self._environment.close()


class SparseReward:
    """Pays ``SUCCESS_REWARD`` at each env_step with success, and nothing at the others.

    Reference: CoWorld, Table 5. Whether the authors pay once or at each such step is not said.

    Raises:
        ValueError: at the reset, of an environment without ``success`` in its extras.
    """

    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    @property
    def spec(self) -> EnvironmentSpec:
        """See ``Environment.spec``."""
        return self._environment.spec

    def reset(self, seed: int) -> Timestep:
        """See ``Environment.reset``."""
        timestep = self._environment.reset(seed)
        if "success" not in timestep.extras:
            raise ValueError(f"{self.spec.task}: this task does not say when it succeeded.")
        return timestep

    def step(self, action: np.ndarray) -> Timestep:
        """See ``Environment.step``."""
        timestep = self._environment.step(action)
        return timestep._replace(reward=SUCCESS_REWARD * bool(timestep.extras["success"]))

    def close(self) -> None:
        """See ``Environment.close``."""
        self._environment.close()
