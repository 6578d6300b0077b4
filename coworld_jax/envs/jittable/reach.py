"""``planar/reach``: the body goes to the marked place. Reward: ``1 - distance / 1.2``."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from coworld_jax.envs.interface import EnvironmentSpec
from coworld_jax.envs.jittable import body as bodies
from coworld_jax.envs.jittable.body import Body
from coworld_jax.envs.jittable.drawing import disc, paint, pixels
from coworld_jax.envs.jittable.interface import JittableEnvironment
from coworld_jax.envs.jittable.looks import make_look
from coworld_jax.envs.jittable.planar import Dials

_PLACE = (0.35, 0.3)
_PLACE_RADIUS = 0.32
_NEAR = 0.15  # success: the body's centre is that near to the place


class State(NamedTuple):
    """One episode."""

    body: Body
    place: jax.Array  # [2]
    time: jax.Array  # int32 [], simulator steps


def make(dials: Dials, spec: EnvironmentSpec) -> JittableEnvironment:
    """The task under ``dials``; state vector: position, velocity, place."""
    look = make_look(dials, spec.image_size)

    def reset(key: jax.Array) -> State:
        key_body, key_place = jax.random.split(key)
        place = bodies.anywhere(key_place, 0.8) if dials.anywhere else jnp.array(_PLACE)
        return State(bodies.start(key_body), place, jnp.int32(0))

    def step(state: State, action: jax.Array) -> tuple[State, jax.Array, jax.Array]:
        body = bodies.accelerate(dials, state.body, action)
        state = State(body, state.place, state.time + 1)
        return state, bodies.distance_reward(distance(state)), jnp.float32(1.0)

    def render(state: State) -> jax.Array:
        canvas, colours = look.ground(state.time), look.colours
        place = disc(look.view, state.place, _PLACE_RADIUS)
        canvas = paint(canvas, look.view, place, colours.place)
        canvas = paint(canvas, look.view, place + 0.09, colours.place_core)
        return pixels(bodies.draw(canvas, look, dials, state.body))

    def vector(state: State) -> jax.Array:
        return jnp.concatenate([*state.body, state.place])

    def success(state: State) -> jax.Array:
        return distance(state) < _NEAR

    return JittableEnvironment(spec, reset, step, render, vector, success, may_end=False)


def distance(state: State) -> jax.Array:
    """From the body's centre to the place."""
    return bodies.length(state.body.position - state.place)
