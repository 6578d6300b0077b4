"""Rendered env_steps per second of a jittable task inside one program, with random actions.

    python -m experiments.benchmarks.playing [--task=planar/reach] [--episodes=16,256,1024]

The frames stay on the device, as in a run that programs carry out (`coworld_jax.training.device`).
``benchmark env`` measures the same with frames delivered to the host.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
from absl import app, flags

from coworld_jax.envs.interface import Request
from coworld_jax.envs.jittable.rollout import DrawnPolicy, play
from coworld_jax.envs.policies import RandomPolicy
from coworld_jax.envs.suites import check_request, find_jittable
from coworld_jax.training import runtime
from experiments.benchmarks.timing import seconds, where

_TASK = flags.DEFINE_string("task", "planar/reach", "A jittable task.")
_EPISODES = flags.DEFINE_list("episodes", ["16", "256", "1024"], "Episodes of one call.")
_REPEATS = 5


def measure(task: str, episodes: int) -> float:
    """Median env_steps per second of calls that play so many whole episodes.

    Raises:
        ValueError: the task is unknown or not jittable.
    """
    make = find_jittable(task)
    if make is None:
        raise ValueError(f"{task} is not jittable: use python -m experiments.benchmark env.")
    environment = make(check_request(Request(task, "fast", 64, None, None)))
    steps = environment.spec.episode_steps
    policy = DrawnPolicy(RandomPolicy(environment.spec.action_size), steps)
    actions = jax.random.uniform(
        jax.random.key(0), (episodes, steps + 1, environment.spec.action_size), minval=-1.0
    )
    memories = actions, jnp.zeros(episodes, jnp.int32)
    program = jax.jit(partial(play, environment, policy.act, policy.reads))
    call = partial(program, jnp.arange(episodes, dtype=jnp.uint32), (), memories)
    seconds(call)  # compiles
    return episodes * steps / statistics.median(seconds(call) for _ in range(_REPEATS))


def main(arguments: Sequence[str]) -> None:
    """Print a line for each number of episodes, and after it all so far as JSON."""
    if len(arguments) > 1:
        raise app.UsageError(f"Unexpected arguments: {' '.join(arguments[1:])}")
    runtime.configure()
    rates = {}
    for count in map(int, _EPISODES.value):
        rates[count] = measure(_TASK.value, count)
        print(f"{_TASK.value}, {count:,} episodes at once: {rates[count]:,.0f} env_steps/s")
        # After each of them, so that a call that is ended early has the first.
        figures = {"task": _TASK.value, "env_steps_per_second": rates}
        print(json.dumps(figures | where()), flush=True)


if __name__ == "__main__":
    app.run(main)
