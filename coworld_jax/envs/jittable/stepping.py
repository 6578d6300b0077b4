"""A jittable environment that is called step by step, as a simulator is."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np

from coworld_jax import parallel
from coworld_jax.envs.checks import Checker
from coworld_jax.envs.interface import EnvironmentSpec, Timestep
from coworld_jax.envs.jittable.interface import JittableEnvironment
from coworld_jax.envs.jittable.rollout import Row, begun, observed


class SteppedEnvironment:
    """An `Environment` in this process, on the CPU: one compiled call per step."""

    def __init__(self, environment: JittableEnvironment) -> None:
        self._environment = environment
        self._cpu = parallel.acting_device()
        self._checker = Checker(environment.spec, environment.spec.image_size)
        self._state: Any = None  # None: no episode is running
        self._steps = 0  # taken in the running episode

    @property
    def spec(self) -> EnvironmentSpec:
        """See ``Environment.spec``."""
        return self._environment.spec

    def reset(self, seed: int) -> Timestep:
        """See ``Environment.reset``.

        Raises:
            ValueError: the environment gave what it must not.
        """
        with jax.default_device(self._cpu):
            self._state, row = _reset(self._environment, np.uint32(seed))
        self._steps = 0
        return self._timestep(row)

    def step(self, action: np.ndarray) -> Timestep:
        """See ``Environment.step``.

        Raises:
            RuntimeError: no episode is running.
            ValueError: the environment gave what it must not.
        """
        if self._state is None:
            raise RuntimeError(f"{self.spec.task}: reset(seed) must come before this step.")
        clipped = np.clip(action, -1.0, 1.0).astype(np.float32)
        with jax.default_device(self._cpu):
            self._state, row = _step(self._environment, self._state, clipped)
        self._steps += 1
        return self._timestep(row)

    def close(self) -> None:
        """See ``Environment.close``."""
        self._state = None

    def _timestep(self, observed_row: Row) -> Timestep:
        row: Any = jax.device_get(observed_row)
        is_last = row.discount <= 0.0 or self._steps == self.spec.episode_steps
        if is_last:
            self._state = None
        extras: dict[str, np.ndarray] = {"state": row.state}
        if self._environment.success is not None:
            extras["success"] = row.success
        made = Timestep(row.image, float(row.reward), float(row.discount), bool(is_last), extras)
        return self._checker.checked(made, first=self._steps == 0)


@functools.partial(jax.jit, static_argnums=0)
def _reset(environment: JittableEnvironment, seed: jax.Array) -> tuple[Any, Row]:
    begin = begun(environment, seed)
    return begin[0], observed(environment, *begin)


@functools.partial(jax.jit, static_argnums=0)
def _step(environment: JittableEnvironment, state: Any, action: jax.Array) -> tuple[Any, Row]:
    state, reward, discount = environment.step(state, action)
    return state, observed(environment, state, action, reward, discount)
