"""``planar/arm``: the tip of an arm follows a place that goes round its base.

The joints are geared, so that each turns its own rotor's inertia and not the links' behind it:

    speed_i' = exp(-friction dt) speed_i + dt (action_i force - gravity dheight/dangle_i)
    angle_i' = angle_i + dt speed_i'

where ``height`` is the sum of the heights of the links' middles. Without drive, friction
consumes the energy ``sum speed²/2 + gravity height``. The time step may add a little to it where
gravity is strong and friction small. Reward: ``1 - distance / 1.2`` of tip and place.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax.envs.interface import EnvironmentSpec
from coworld_jax.envs.jittable import body as bodies
from coworld_jax.envs.jittable.body import TIME_STEP
from coworld_jax.envs.jittable.drawing import capsule, disc, paint, pixels, union
from coworld_jax.envs.jittable.interface import JittableEnvironment
from coworld_jax.envs.jittable.looks import make_look
from coworld_jax.envs.jittable.planar import Dials

_REACH = 1.0  # units, all links together
_FORCE = 6.0  # of one joint, rad/s²
_FRICTION = 3.0  # 1/s
_ORBIT, _ORBIT_SPEED = 0.7, 0.3  # of the place, units and rad/s, anticlockwise
_STILL = 0.8  # rad, where it rests
_NEAR = 0.15  # success: the tip is that near to the place
_LINK_RADIUS, _JOINT_RADIUS, _TIP_RADIUS, _PLACE_RADIUS = 0.11, 0.14, 0.2, 0.3


class State(NamedTuple):
    """One episode."""

    angle: jax.Array  # [A], rad, of each link to the one before it; the first to the right
    speed: jax.Array  # [A], rad/s
    orbit: jax.Array  # [], of the place: radius in units
    phase: jax.Array  # [], angle in rad
    turn: jax.Array  # [], rad/s, the sign says which way round
    time: jax.Array  # int32 [], simulator steps


def make(dials: Dials, spec: EnvironmentSpec) -> JittableEnvironment:
    """The task under ``dials``; state vector: cosines, sines, speeds, tip, place and its turn."""
    look, joints = make_look(dials, spec.image_size), spec.action_size
    turn = 0.0 if dials.goal == "still" else _ORBIT_SPEED
    alive = np.arange(joints) != (-1 if dials.dead is None else dials.dead)

    def reset(key: jax.Array) -> State:
        key_angle, key_orbit, key_phase, key_turn = jax.random.split(key, 4)
        angle = jax.random.uniform(key_angle, (joints,), minval=-2.0, maxval=2.0)
        phase = jax.random.uniform(key_phase, (), minval=-math.pi, maxval=math.pi)
        orbit, way = jnp.float32(_ORBIT), jnp.float32(1.0)
        if dials.anywhere:
            orbit = jax.random.uniform(key_orbit, (), minval=0.5, maxval=0.85)
            way = jax.random.rademacher(key_turn, (), jnp.float32)
        elif not turn:
            phase = jnp.float32(_STILL)
        return State(angle, jnp.zeros(joints), orbit, phase, turn * way, jnp.int32(0))

    def step(state: State, action: jax.Array) -> tuple[State, jax.Array, jax.Array]:
        drive = dials.gain * _FORCE * jnp.where(alive, action, 0.0)
        kept = math.exp(-dials.damping * _FRICTION * TIME_STEP)
        torque = drive - dials.gravity * _lever(state.angle)
        speed = kept * state.speed + TIME_STEP * torque
        state = state._replace(
            angle=state.angle + TIME_STEP * speed,
            speed=speed,
            phase=state.phase + TIME_STEP * state.turn,
            time=state.time + 1,
        )
        return state, bodies.distance_reward(distance(state)), jnp.float32(1.0)

    def render(state: State) -> jax.Array:
        view, colours, ends = look.view, look.colours, link_ends(state.angle)
        at = place(state)
        target = disc(view, at, _PLACE_RADIUS)
        canvas = paint(look.ground(state.time), view, target, colours.place)
        canvas = paint(canvas, view, target + 0.09, colours.place_core)
        links = [capsule(view, ends[i], ends[i + 1], _LINK_RADIUS) for i in range(joints)]
        canvas = paint(canvas, view, union(links), colours.limb)
        knobs = [disc(view, ends[i], _JOINT_RADIUS) for i in range(joints) if alive[i]]
        canvas = paint(canvas, view, union(knobs), colours.second)
        tip = disc(view, ends[joints], _TIP_RADIUS)
        canvas = paint(canvas, view, tip, colours.body)
        return pixels(paint(canvas, view, tip + _TIP_RADIUS / 2, colours.body_core))

    def vector(state: State) -> jax.Array:
        angles = (jnp.cos(state.angle), jnp.sin(state.angle), state.speed)
        return jnp.concatenate(
            [*angles, link_ends(state.angle)[joints], place(state), state.turn[None]]
        )

    return JittableEnvironment(
        spec,
        reset,
        step,
        render,
        vector,
        lambda state: distance(state) < _NEAR,
        may_end=False,
    )


def link_ends(angle: jax.Array) -> jax.Array:
    """Where the joints are, and last the tip, ``[A + 1, 2]``; the base is the origin."""
    total = jnp.cumsum(angle)
    links = _REACH / angle.shape[0] * jnp.stack([jnp.cos(total), jnp.sin(total)], axis=1)
    return jnp.concatenate([jnp.zeros((1, 2)), jnp.cumsum(links, axis=0)])


def _lever(angle: jax.Array) -> jax.Array:
    """``d height / d angle``, ``[A]``: how far the middles behind a joint lie to its right."""
    ends = link_ends(angle)[:, 0]
    middles = (ends[1:] + ends[:-1]) / 2
    behind = np.arange(angle.shape[0])[None, :] >= np.arange(angle.shape[0])[:, None]
    return jnp.sum(jnp.where(behind, middles[None, :] - ends[:-1, None], 0.0), axis=1)


def place(state: State) -> jax.Array:
    """Where the place is now, ``[2]``."""
    return state.orbit * jnp.stack([jnp.cos(state.phase), jnp.sin(state.phase)])


def distance(state: State) -> jax.Array:
    """From the tip to the place."""
    return bodies.length(link_ends(state.angle)[-1] - place(state))
