"""How many env_steps per second the simulators give, frames rendered and delivered."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from coworld_jax.envs import PROFILES, EnvironmentPool, RandomPolicy
from coworld_jax.envs.suites import find_jittable

_WARM_STEPS = 20  # of each worker, before the clock runs
_EPISODES = 1000  # more than fit into the time
_WARM_EPISODES = 64  # of a jittable task, which compiles first


class _Counted:
    """A random policy that counts its actions, over all workers."""

    reads = "image"

    def __init__(self, action_size: int) -> None:
        self._policy = RandomPolicy(action_size)
        self._lock = threading.Lock()
        self.actions = 0

    def episode(self, seed: int) -> Callable[[np.ndarray], np.ndarray]:
        """See ``Policy.episode``."""
        actor = self._policy.episode(seed)

        def choose(image: np.ndarray) -> np.ndarray:
            with self._lock:
                self.actions += 1
            return actor(image)

        return choose


def measure(
    task: str,
    workers: int,
    *,
    seconds: float = 6.0,
    rounds: int = 3,
    profiles: Sequence[str] = tuple(PROFILES),
) -> dict[str, Any]:
    """env_steps per second of ``task`` with a random policy, all workers together.

    Episodes are the task's own, resets included; frames are 64 x 64. Profiles take turns, each time
    with a pool of its own, whose start does not count. A jittable task has no profiles, draws one
    picture, and is measured once in each round, as ``fast``.

    Args:
        task: see ``coworld_jax.envs``.
        workers: simulator processes of each pool, or threads where the task is jittable.
        seconds: of each measurement.
        rounds: measurements of each profile, in turns: a machine that slows down slows all.
        profiles: to measure.

    Returns:
        ``task``, ``workers``, and for each profile the median rate: ``env_steps_per_second`` for
        ``fast``, otherwise with the profile in front (``full_env_steps_per_second``); where both
        were measured also ``fast_over_full``.

    Raises:
        ValueError, GraphicsError, VersionError, WorkerFailed: see ``EnvironmentPool``.
    """
    jittable = find_jittable(task) is not None
    if jittable:
        profiles = ("fast",)
    rate = _jittable_rate if jittable else _rate
    rates: dict[str, list[float]] = {profile: [] for profile in profiles}
    for _ in range(rounds):
        for profile in profiles:
            rates[profile].append(rate(task, profile, workers, seconds))
    figures: dict[str, Any] = {"task": task, "workers": workers}
    for profile in profiles:
        prefix = "" if profile == "fast" else f"{profile}_"
        figures[f"{prefix}env_steps_per_second"] = statistics.median(rates[profile])
    if {"fast", "full"} <= set(profiles):
        figures["fast_over_full"] = (
            figures["env_steps_per_second"] / figures["full_env_steps_per_second"]
        )
    return figures


def _rate(task: str, profile: str, workers: int, seconds: float) -> float:
    """One measurement, with workers of its own."""
    with EnvironmentPool(task, profile=profile, workers=workers) as pool:
        policy = _Counted(pool.spec.action_size)
        # Closing the pool ends those that are left.
        episodes = [pool.submit(seed, policy) for seed in range(_EPISODES)]
        while policy.actions < _WARM_STEPS * workers:
            if episodes[0].done():  # it failed, or is shorter than the warm-up
                episodes[0].result()
            time.sleep(0.01)
        first, began = policy.actions, time.perf_counter()
        time.sleep(seconds)
        return (policy.actions - first) / (time.perf_counter() - began)


def _jittable_rate(task: str, profile: str, workers: int, seconds: float) -> float:
    """One measurement of whole episodes, delivered in their order."""
    with EnvironmentPool(task, profile=profile, workers=workers) as pool:
        episodes = pool.map(itertools.count(), RandomPolicy(pool.spec.action_size))
        for _ in range(_WARM_EPISODES):
            next(episodes)
        env_steps, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            env_steps += len(next(episodes).reward) - 1
        return env_steps / (time.perf_counter() - began)
