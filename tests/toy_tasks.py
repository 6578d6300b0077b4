"""Two small tasks of a user's own kind: exact arithmetic, drawn by NumPy, equal on every machine.

A dot moves in a square. It is pushed by the action, in ``windy`` also by a constant wind, and the
reward falls with its distance from the middle. No renderer takes part, so that frames, and all that
is learnt from them, can be compared bit for bit.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import dm_env
import numpy as np
from dm_env import specs

from coworld_jax.envs import Environment, Request, from_dm_env

_STEPS = 10  # of an episode
_REACH = 24.0  # pixels from the middle to the wall


class Dot(dm_env.Environment):
    """A dot of 8x8 pixels with position and speed in pixels; sums and products only."""

    def __init__(self, seed: int, actions: int, wind: float) -> None:
        self._start = np.random.default_rng(seed).integers(-16, 17, 2).astype(np.float64)
        self._actions, self._wind = actions, np.array([wind, 0.0])

    def reset(self) -> dm_env.TimeStep:
        self._place, self._speed, self._steps = self._start.copy(), np.zeros(2), 0
        return dm_env.restart(self._observation())

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        self._speed = 0.5 * self._speed + 4.0 * action[:2] + self._wind
        self._place = np.clip(self._place + self._speed, -_REACH, _REACH)
        self._steps += 1
        reward = 1.0 - np.abs(self._place).sum() / (2.0 * _REACH)
        end = dm_env.truncation if self._steps == _STEPS else dm_env.transition
        return end(reward, self._observation())

    def observation_spec(self) -> specs.Array:
        return specs.Array((4,), np.float64)

    def action_spec(self) -> specs.BoundedArray:
        return specs.BoundedArray((self._actions,), np.float64, -1.0, 1.0)

    def frame(self) -> np.ndarray:
        image = np.full((64, 64, 3), 40, np.uint8)
        x, y = (32 + self._place).astype(int)
        image[y - 4 : y + 4, x - 4 : x + 4] = (230, 120, 40)
        return image

    def _observation(self) -> np.ndarray:
        return np.concatenate([self._place, self._speed])


class BriefDot(Dot):
    """A dot whose episodes end in a terminal state, most of them early."""

    def __init__(self, seed: int, most: int) -> None:
        super().__init__(seed, 2, 0.0)
        self._most = 1 + seed % most

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        step = super().step(action)
        if self._steps < self._most or step.last():
            return step
        return dm_env.termination(step.reward, step.observation)


def _task(request: Request, actions: int, wind: float) -> Environment:
    return _from_dm_env(request, lambda seed: Dot(seed, actions, wind))


def _from_dm_env(request: Request, make: Callable[[int], Dot]) -> Environment:
    return from_dm_env(
        make,
        request,
        frame=lambda environment: environment.frame(),
        simulator_steps=_STEPS,
    )


def calm(request: Request) -> Environment:
    """No wind, two actions."""
    return _task(request, 2, 0.0)


def windy(request: Request) -> Environment:
    """A wind of one pixel a step, two actions."""
    return _task(request, 2, 1.0)


def wide(request: Request) -> Environment:
    """No wind, three actions, the last of which does nothing."""
    return _task(request, 3, 0.0)


def brief(request: Request) -> Environment:
    """No wind; episodes end after one to five steps."""
    return _from_dm_env(request, lambda seed: BriefDot(seed, 5))


def briefest(request: Request) -> Environment:
    """No wind; episodes end after one or two steps."""
    return _from_dm_env(request, lambda seed: BriefDot(seed, 2))


class PlayedDot(Dot):
    """A dot that takes its time, and writes its seed where ``TOY_SEEDS`` says."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed, 2, 1.0)
        self._seed = seed

    def reset(self) -> dm_env.TimeStep:
        if "TOY_SEEDS" in os.environ:
            with Path(os.environ["TOY_SEEDS"]).open("a") as file:
                file.write(f"{self._seed}\n")
        return super().reset()

    def step(self, action: np.ndarray) -> dm_env.TimeStep:
        time.sleep(float(os.environ["TOY_SECONDS"]) if "TOY_SECONDS" in os.environ else 0.0)
        return super().step(action)


def played(request: Request) -> Environment:
    """`windy`; each step takes ``TOY_SECONDS``, and seeds are written to the file ``TOY_SEEDS``."""
    return _from_dm_env(request, PlayedDot)
