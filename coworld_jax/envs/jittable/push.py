"""``planar/push``: the body pushes a puck to the marked place.

Body and puck have the same mass. Where they meet they lose the speed at which they closed in, and
the puck is moved out of the body. Friction stops the puck, and holds it on a slope: it rests until
it is touched. It stays further from the walls than the body does, which can so get behind it.

Reward: ``0.7 (1 - puck to place / 0.5) + 0.3 (1 - gap between body and puck / 0.6)``. With
``goal=body`` it is ``1 - body to place / 1.2``, with ``goal=touch`` ``1 - gap / 0.6``.
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

PUCK_RADIUS = 0.24
TOUCH = RADIUS + PUCK_RADIUS  # distance of the centres at which they touch
_PLACE = (0.2, 0.25)
_PLACE_RADIUS = 0.32
_PUCK_WALL = 0.45
_FRICTION = 8.0  # of the puck, 1/s
_NEAR = 0.15  # success: that near
_TINY = 1e-6


class State(NamedTuple):
    """One episode."""

    body: Body
    puck: Body
    place: jax.Array  # [2]
    time: jax.Array  # int32 [], simulator steps


def make(dials: Dials, spec: EnvironmentSpec) -> JittableEnvironment:
    """The task under ``dials``; state vector: body, puck (position, velocity), place."""
    look, goal = make_look(dials, spec.image_size), dials.goal or "puck"

    def reset(key: jax.Array) -> State:
        key_body, key_puck, key_place = jax.random.split(key, 3)
        puck = jax.random.uniform(key_puck, (2,), minval=-0.35, maxval=0.35)
        place = jnp.array(_PLACE)
        if dials.anywhere:
            place = jax.random.uniform(key_place, (2,), minval=-_PUCK_WALL, maxval=_PUCK_WALL)
        body = bodies.start(key_body)
        away = body.position - puck
        apart = puck + away * jnp.maximum(1.0, 1.1 * TOUCH / bodies.length(away))
        inside = jnp.clip(apart, -bodies.WALL, bodies.WALL)
        return State(body._replace(position=inside), Body(puck, jnp.zeros(2)), place, jnp.int32(0))

    def step(state: State, action: jax.Array) -> tuple[State, jax.Array, jax.Array]:
        body = bodies.accelerate(dials, state.body, action)
        body, puck = collide(body, _slide(dials, state.puck))
        state = State(body, puck, state.place, state.time + 1)
        return state, reward(state), jnp.float32(1.0)

    def reward(state: State) -> jax.Array:
        touch = bodies.slope(gap(state), 0.6)
        return {
            "puck": 0.7 * bodies.slope(puck_distance(state), 0.5) + 0.3 * touch,
            "body": bodies.slope(body_distance(state)),
            "touch": touch,
        }[goal]

    def success(state: State) -> jax.Array:
        measures = {"puck": puck_distance, "body": body_distance, "touch": gap}
        return measures[goal](state) < (0.05 if goal == "touch" else _NEAR)

    def render(state: State) -> jax.Array:
        canvas, colours = look.ground(state.time), look.colours
        place = disc(look.view, state.place, _PLACE_RADIUS)
        canvas = paint(canvas, look.view, place, colours.place)
        canvas = paint(canvas, look.view, place + 0.08, colours.place_core)
        puck = disc(look.view, state.puck.position, PUCK_RADIUS)
        canvas = paint(canvas, look.view, puck, colours.puck)
        canvas = paint(canvas, look.view, puck + 0.09, colours.puck_core)
        return pixels(bodies.draw(canvas, look, dials, state.body))

    def vector(state: State) -> jax.Array:
        return jnp.concatenate([*state.body, *state.puck, state.place])

    return JittableEnvironment(spec, reset, step, render, vector, success, may_end=False)


def collide(body: Body, puck: Body) -> tuple[Body, Body]:
    """Both after they have met, if they overlap."""
    between = puck.position - body.position
    apart = bodies.length(between)
    normal = between / jnp.maximum(apart, _TINY)
    overlap = jnp.maximum(TOUCH - apart, 0.0)
    closing = jnp.maximum(jnp.sum((body.velocity - puck.velocity) * normal), 0.0)
    lost = jnp.where(overlap > 0.0, closing / 2, 0.0) * normal
    pushed = bodies.stop_at_walls(
        Body(puck.position + overlap * normal, puck.velocity + lost), _PUCK_WALL
    )
    # What a wall kept the puck from moving, the body moves back.
    between = pushed.position - body.position
    left = jnp.maximum(TOUCH - bodies.length(between), 0.0)
    return Body(body.position - left * normal, body.velocity - lost), pushed


def _slide(dials: Dials, puck: Body) -> Body:
    """One simulator step of the puck alone."""
    velocity = math.exp(-dials.damping * _FRICTION * TIME_STEP) * puck.velocity
    return bodies.stop_at_walls(Body(puck.position + TIME_STEP * velocity, velocity), _PUCK_WALL)


def puck_distance(state: State) -> jax.Array:
    """From the puck's centre to the place."""
    return bodies.length(state.puck.position - state.place)


def body_distance(state: State) -> jax.Array:
    """From the body's centre to the place."""
    return bodies.length(state.body.position - state.place)


def gap(state: State) -> jax.Array:
    """Between the edges of body and puck."""
    return jnp.maximum(bodies.length(state.body.position - state.puck.position) - TOUCH, 0.0)
