"""The body of ``reach`` and ``push``: a disc that thrusters push about in a square.

A thruster pushes in its own direction with ``action * force``, backwards too. Friction takes a
share of the velocity, and gravity pulls down the picture:

    velocity' = exp(-friction dt) velocity + dt (sum_i action_i force direction_i + gravity)
    position' = position + dt velocity'

At the walls the body stops. Without thrust its energy ``|velocity|²/2 + gravity y`` does not grow.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax.envs.jittable.drawing import Canvas, disc, paint, union
from coworld_jax.envs.jittable.looks import Look
from coworld_jax.envs.jittable.planar import Dials

TIME_STEP = 0.1  # seconds per simulator step
RADIUS = 0.24
WALL = 0.95  # the largest coordinate of the body's centre
FORCE = 4.0  # of one thruster, units/s²
_FRICTION = 3.0  # 1/s
_NOZZLE = (0.26, 0.1)  # distance from the centre, radius
_DEGREES = (90.0, 210.0, 330.0, 0.0)  # directions of the thrusters' push; the last is the extra one


class Body(NamedTuple):
    """A body in motion."""

    position: jax.Array  # [2]
    velocity: jax.Array  # [2], units/s


def directions(dials: Dials) -> np.ndarray:
    """Unit vectors of the thrusters' push, float32 ``[A, 2]``; zero for a dead one."""
    angles = np.deg2rad(_DEGREES[: 3 + dials.extra])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    if dials.dead is not None:
        vectors[dials.dead] = 0.0
    return vectors


def start(key: jax.Array) -> Body:
    """A body at rest, anywhere."""
    return Body(anywhere(key, 0.8), jnp.zeros(2))


def anywhere(key: jax.Array, largest: float) -> jax.Array:
    """A point ``[2]`` whose coordinates lie in ``[-largest, largest]``."""
    return jax.random.uniform(key, (2,), minval=-largest, maxval=largest)


def accelerate(dials: Dials, body: Body, action: jax.Array) -> Body:
    """One simulator step of the body alone.

    Args:
        action: ``[A]`` in [-1, 1], by thruster.
    """
    # A sum and not a matrix product, which an accelerator would round to fewer bits.
    push = jnp.sum(action[:, None] * directions(dials), axis=0)
    force = dials.gain * FORCE * push - jnp.array([0.0, dials.gravity])
    kept = math.exp(-dials.damping * _FRICTION * TIME_STEP)
    velocity = kept * body.velocity + TIME_STEP * force
    return stop_at_walls(Body(body.position + TIME_STEP * velocity, velocity), WALL)


def stop_at_walls(body: Body, wall: float) -> Body:
    """The body inside ``[-wall, wall]``, without the velocity that led it out."""
    inside = jnp.clip(body.position, -wall, wall)
    return Body(inside, jnp.where(inside == body.position, body.velocity, 0.0))


def draw(canvas: Canvas, look: Look, dials: Dials, body: Body) -> Canvas:
    """``canvas`` with the body: its nozzles, opposite to their push, below a disc with a core."""
    offset, radius = _NOZZLE
    nozzles = [
        disc(look.view, body.position - offset * vector, radius)
        for vector in directions(dials)
        if vector.any()
    ]
    canvas = paint(canvas, look.view, union(nozzles), look.colours.limb)
    distance = disc(look.view, body.position, RADIUS)
    canvas = paint(canvas, look.view, distance, look.colours.body)
    return paint(canvas, look.view, distance + RADIUS / 2, look.colours.body_core)


def distance_reward(distance: jax.Array, zero_at: float = 1.2) -> jax.Array:
    """``1 - distance / zero_at``, of a distance in units: one slope, near and far.

    A narrow reward such as ``exp(-(distance / 0.35)²)`` is flat far away, and a small agent does
    not leave the corner that its first actor drifts into.
    """
    return 1.0 - distance / zero_at


def length(vector: jax.Array) -> jax.Array:
    """Euclidean length of ``[2]``."""
    return jnp.sqrt(jnp.sum(vector**2))
