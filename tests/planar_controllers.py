"""Scripted controllers of the planar scenes: what a good agent can get, from the state vector.

    PYTHONPATH=. python tests/planar_controllers.py

prints what they and random play return.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax.envs import RandomPolicy, Request
from coworld_jax.envs.jittable import arm, planar, push
from coworld_jax.envs.jittable.body import FORCE, directions
from coworld_jax.envs.jittable.planar import Dials, dials, resolve
from coworld_jax.envs.jittable.rollout import WIDTH, DrawnPolicy, rollout
from coworld_jax.envs.naming import parse_task
from experiments.studying import statistics


class Controller:
    """The controller of ``task``, a policy of jax that reads states and remembers nothing."""

    reads = "state"
    parameters: tuple[()] = ()

    def __init__(self, task: str) -> None:
        scene, options = resolve(parse_task(task))
        control, told = {"arm": _arm, "push": _push, "reach": _reach}[scene], dials(options)
        self.act = lambda parameters, memory, state: (memory, control(told, state))

    def start(self, seed: int) -> tuple[()]:
        """Nothing to remember."""
        return ()


def _thrust(dials: Dials, wanted: jax.Array) -> jax.Array:
    """The action whose push is nearest to ``wanted`` ``[2]`` in units of one thruster's force."""
    return jnp.clip(jnp.linalg.pinv(directions(dials)).T @ wanted, -1.0, 1.0)


def _go(dials: Dials, position: jax.Array, velocity: jax.Array, to: jax.Array) -> jax.Array:
    """Towards ``to``, against gravity, slower when near."""
    slope = jnp.array([0.0, dials.gravity]) / FORCE
    return _thrust(dials, 8.0 * (to - position) - 2.5 * velocity + slope)


def _reach(dials: Dials, state: jax.Array) -> jax.Array:
    position, velocity, place = state.reshape(3, 2)
    return _go(dials, position, velocity, place)


def _push(dials: Dials, state: jax.Array) -> jax.Array:
    position, velocity, ring, _, place = state.reshape(5, 2)
    if dials.goal in ("body", "middle"):
        return _go(dials, position, velocity, place if dials.goal == "body" else ring)
    way = place - ring
    left = jnp.linalg.norm(way)
    # Against the side of the ring that is nearer to the place, until it is there.
    to = ring + (push.SLACK + jnp.minimum(left, 0.3)) * way / jnp.maximum(left, 1e-3)
    return _go(dials, position, velocity, jnp.where(left < 0.04, position, to))


def _arm(dials: Dials, state: jax.Array) -> jax.Array:
    joints = (state.shape[0] - 5) // 3
    angle = jnp.arctan2(state[joints : 2 * joints], state[:joints])
    speed, tip, place = state[2 * joints : 3 * joints], state[-5:-3], state[-3:-1]
    ends = arm.link_ends(angle)[:-1]
    lever = tip[None] - ends
    turned = jnp.stack([-lever[:, 1], lever[:, 0]], axis=1)
    # Gauss-Newton with a little damping, towards where the place will be.
    ahead = place + 0.2 * state[-1] * jnp.stack([-place[1], place[0]])
    inverse = turned @ jnp.linalg.inv(turned.T @ turned + 0.05 * jnp.eye(2))
    return jnp.clip(4.0 * inverse @ (ahead - tip) - 0.3 * speed, -1.0, 1.0)


def returns(task: str, calls: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns of random play and of the controller, in the same ``16 * calls`` episodes."""
    environment = planar.make(Request(task, "full", 8, None, None))  # whose frames nobody reads
    steps, size = environment.spec.episode_steps, environment.spec.action_size
    policies = (DrawnPolicy(RandomPolicy(size), steps), Controller(task))
    seeds = np.arange(WIDTH * calls).reshape(calls, WIDTH).tolist()
    random, scripted = (
        np.concatenate([rollout(environment, policy, part).reward.sum(0) for part in seeds])
        for policy in policies
    )
    return random, scripted


def main() -> None:
    """Print the table of `experiments/results/planar_suite.md`."""
    for name in planar.tasks():
        random, scripted = returns(f"planar/{name}", calls=4)
        cells = [f"{statistics.mean([found]):.1f}" for found in (random, scripted)]
        print(f"| `{name}` | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
