"""``planar/push``: the body pushes a ring that is around it to the marked place.

Body and ring have the same mass. Their collisions are perfectly inelastic: afterwards both have the
same velocity along the line between their centres. Friction stops the ring, and holds it on a
slope: it rests until it is touched. Walls of its own stop it before the body would reach one.

Reward: ``1 - ring's centre to place / 0.6``. With ``goal=body`` it is ``1 - body to place / 1.2``,
with ``goal=middle`` ``1 - body to ring's centre / 0.28``, which is 0 where they touch.

The ring is around the body so that it can be pushed from everywhere. A small agent does not learn
in minutes to go round a disc first: with one that the body pushed from outside, dreamer stayed
below 60 % of the scripted controller for 10,000 updates.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from coworld_jax.envs.interface import EnvironmentSpec
from coworld_jax.envs.jittable import body as bodies
from coworld_jax.envs.jittable.body import RADIUS, TIME_STEP, Body
from coworld_jax.envs.jittable.drawing import disc, paint, pixels
from coworld_jax.envs.jittable.interface import JittableEnvironment
from coworld_jax.envs.jittable.looks import make_look
from coworld_jax.envs.jittable.planar import Dials

_RING_RADIUS = 0.6  # of the middle of its band
_RING_BAND = 0.08  # half the width of the band
SLACK = _RING_RADIUS - _RING_BAND - RADIUS  # distance of the centres at which body and ring touch
_RING_START = 0.5  # the largest coordinate of the ring's centre at the start
_RING_WALL = 0.55  # the largest coordinate of the ring's centre
_FRICTION = 8.0  # of the ring, 1/s
_PLACE = (0.3, 0.25)
_PLACE_RADIUS = 0.32
_TINY = 1e-6


class State(NamedTuple):
    """One episode."""

    body: Body
    ring: Body
    place: jax.Array  # [2]
    time: jax.Array  # int32 [], simulator steps


def make(dials: Dials, spec: EnvironmentSpec) -> JittableEnvironment:
    """The task under ``dials``; state vector: body, ring (position, velocity), place."""
    look, goal = make_look(dials, spec.image_size), dials.goal or "ring"
    # What the reward measures, where it is 0, and below which distance the task succeeds.
    measure, zero_at, near = {
        "ring": (ring_distance, 0.6, 0.15),
        "body": (body_distance, 1.2, 0.15),
        "middle": (middle_distance, SLACK, 0.1),
    }[goal]

    def reset(key: jax.Array) -> State:
        key_body, key_ring, key_place = jax.random.split(key, 3)
        ring = bodies.anywhere(key_ring, _RING_START)
        place = bodies.anywhere(key_place, _RING_WALL) if dials.anywhere else jnp.array(_PLACE)
        body = ring + bodies.anywhere(key_body, SLACK / math.sqrt(2.0))
        still = jnp.zeros(2)
        return State(Body(body, still), Body(ring, still), place, jnp.int32(0))

    def step(state: State, action: jax.Array) -> tuple[State, jax.Array, jax.Array]:
        body = bodies.accelerate(dials, state.body, action)
        body, ring = collide(body, _slide(dials, state.ring))
        state = State(body, ring, state.place, state.time + 1)
        return state, bodies.distance_reward(measure(state), zero_at), jnp.float32(1.0)

    def success(state: State) -> jax.Array:
        return measure(state) < near

    def render(state: State) -> jax.Array:
        canvas, colours = look.ground(state.time), look.colours
        place = disc(look.view, state.place, _PLACE_RADIUS)
        canvas = paint(canvas, look.view, place, colours.place)
        canvas = paint(canvas, look.view, place + 0.08, colours.place_core)
        ring = jnp.abs(disc(look.view, state.ring.position, _RING_RADIUS)) - _RING_BAND
        canvas = paint(canvas, look.view, ring, colours.second)
        return pixels(bodies.draw(canvas, look, dials, state.body))

    def vector(state: State) -> jax.Array:
        return jnp.concatenate([*state.body, *state.ring, state.place])

    return JittableEnvironment(spec, reset, step, render, vector, success, may_end=False)


def collide(body: Body, ring: Body) -> tuple[Body, Body]:
    """Both after they have met, if the body reaches into the ring's band."""
    between = body.position - ring.position
    apart = bodies.length(between)
    normal = between / jnp.maximum(apart, _TINY)  # outwards
    overlap = jnp.maximum(apart - SLACK, 0.0)
    closing = jnp.maximum(jnp.sum((body.velocity - ring.velocity) * normal), 0.0)
    lost = jnp.where(overlap > 0.0, closing / 2, 0.0) * normal
    pushed = bodies.stop_at_walls(
        Body(ring.position + overlap * normal, ring.velocity + lost), _RING_WALL
    )
    # What a wall kept the ring from moving, the body moves back.
    between = body.position - pushed.position
    apart = bodies.length(between)
    left = jnp.maximum(apart - SLACK, 0.0) * between / jnp.maximum(apart, _TINY)
    return Body(body.position - left, body.velocity - lost), pushed


def _slide(dials: Dials, ring: Body) -> Body:
    """One simulator step of the ring alone."""
    velocity = math.exp(-dials.damping * _FRICTION * TIME_STEP) * ring.velocity
    return bodies.stop_at_walls(Body(ring.position + TIME_STEP * velocity, velocity), _RING_WALL)


def ring_distance(state: State) -> jax.Array:
    """From the ring's centre to the place."""
    return bodies.length(state.ring.position - state.place)


def body_distance(state: State) -> jax.Array:
    """From the body's centre to the place."""
    return bodies.length(state.body.position - state.place)


def middle_distance(state: State) -> jax.Array:
    """From the body's centre to the ring's."""
    return bodies.length(state.body.position - state.ring.position)
