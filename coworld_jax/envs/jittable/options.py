"""What a jittable environment can have: a repeat, another reward, noise, a delay.

The planar tasks have all options, a user's own ones ``noise`` and ``sparse``.

Each function takes an environment and gives one back, whose state holds the other's. An action goes
through the delay, the noise and the repeat, in this order; a reward is summed over the repeat, made
sparse, and scaled.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from coworld_jax.envs.jittable.interface import JittableEnvironment, State
from coworld_jax.envs.wrappers import SUCCESS_REWARD
from coworld_jax.method import make_key

_NOISE = zlib.crc32(b"action noise")  # names the key of the noise


def apply(environment: JittableEnvironment, options: Mapping[str, str]) -> JittableEnvironment:
    """``environment``, whose step is one simulator step, as its spec and ``options`` want it.

    Args:
        options: of the task's name; those of the scene itself are not looked at.

    Raises:
        ValueError: ``sparse`` where no success is defined, or a function's result has another shape
            or type than it must have.
    """
    environment = _measured(environment)
    if environment.spec.action_repeat > 1:
        environment = repeated(environment, environment.spec.action_repeat)
    if "sparse" in options:
        environment = sparse(environment)
    if "reward" in options:
        environment = scaled(environment, float(options["reward"]))
    if "noise" in options:
        environment = noisy(environment, float(options["noise"]))
    if "delay" in options:
        environment = delayed(environment, int(options["delay"]))
    return environment


def _measured(environment: JittableEnvironment) -> JittableEnvironment:
    """With the size of its state vector in its spec; the forms of all results are checked."""
    spec = environment.spec
    action = jax.ShapeDtypeStruct((spec.action_size,), jnp.float32)
    state = jax.eval_shape(environment.reset, jax.eval_shape(lambda: make_key(0)))
    _, reward, discount = jax.eval_shape(environment.step, state, action)
    image = jax.eval_shape(environment.render, state)
    vector = jax.eval_shape(environment.state_vector, state)
    forms = {
        "step's reward": (reward, (), "float32"),
        "step's discount": (discount, (), "float32"),
        "render": (image, (spec.image_size, spec.image_size, 3), "uint8"),
        "state_vector": (vector, (vector.size,), "float32"),
    }
    if environment.success is not None:
        forms["success"] = (jax.eval_shape(environment.success, state), (), "bool")
    for name, (result, shape, dtype) in forms.items():
        if (result.shape, result.dtype) != (shape, dtype):
            raise ValueError(
                f"{spec.task}: {name} is {result.dtype} {list(result.shape)}, but {dtype} "
                f"{list(shape)} is needed."
            )
    return dataclasses.replace(environment, spec=spec._replace(state_size=vector.shape[0]))


class _Repeated(NamedTuple):
    inner: State
    success: jax.Array  # bool [], of any of the last steps


def repeated(environment: JittableEnvironment, count: int) -> JittableEnvironment:
    """Each action ``count`` times, up to the task's end; rewards are summed, any success counts."""

    def succeeded(state: State) -> jax.Array:
        return jnp.bool_(False) if environment.success is None else environment.success(state)

    def reset(key: jax.Array) -> _Repeated:
        inner = environment.reset(key)
        return _Repeated(inner, succeeded(inner))

    def step(state: _Repeated, action: jax.Array) -> tuple[_Repeated, jax.Array, jax.Array]:
        def once(
            carry: tuple[_Repeated, jax.Array, jax.Array], _: None
        ) -> tuple[tuple[_Repeated, jax.Array, jax.Array], None]:
            before, total, alive = carry
            inner, reward, discount = environment.step(before.inner, action)
            after = _Repeated(inner, before.success | succeeded(inner))
            taken = (after, total + reward, alive * discount)
            # After the task's end nothing changes any more.
            return jax.tree.map(lambda new, old: jnp.where(alive > 0, new, old), taken, carry), None

        begin = (_Repeated(state.inner, jnp.bool_(False)), jnp.float32(0.0), jnp.float32(1.0))
        return jax.lax.scan(once, begin, None, length=count)[0]

    return JittableEnvironment(
        environment.spec,
        reset,
        step,
        lambda state: environment.render(state.inner),
        lambda state: environment.state_vector(state.inner),
        None if environment.success is None else (lambda state: state.success),
        environment.may_end,
    )


def sparse(environment: JittableEnvironment) -> JittableEnvironment:
    """Pays `SUCCESS_REWARD` at each env_step with success, and nothing at the others.

    Raises:
        ValueError: no success is defined.
    """
    success = environment.success
    if success is None:
        raise ValueError(f"{environment.spec.task}: this task does not say when it succeeded.")

    def step(state: State, action: jax.Array) -> tuple[State, jax.Array, jax.Array]:
        state, _, discount = environment.step(state, action)
        return state, SUCCESS_REWARD * success(state).astype(jnp.float32), discount

    return dataclasses.replace(environment, step=step)


def scaled(environment: JittableEnvironment, factor: float) -> JittableEnvironment:
    """Pays ``factor`` times the reward."""

    def step(state: State, action: jax.Array) -> tuple[State, jax.Array, jax.Array]:
        state, reward, discount = environment.step(state, action)
        return state, factor * reward, discount

    return dataclasses.replace(environment, step=step)


class _Noisy(NamedTuple):
    inner: State
    key: jax.Array


def noisy(environment: JittableEnvironment, scale: float) -> JittableEnvironment:
    """Executes ``clip(a + scale * n, -1, 1)`` with ``n ~ N(0, I)`` where ``a`` was chosen.

    The episode's key decides the noise, and begins the same episode as without noise.
    """

    def reset(key: jax.Array) -> _Noisy:
        return _Noisy(environment.reset(key), jax.random.fold_in(key, _NOISE))

    def step(state: _Noisy, action: jax.Array) -> tuple[_Noisy, jax.Array, jax.Array]:
        following, now = jax.random.split(state.key)
        taken = jnp.clip(action + scale * jax.random.normal(now, action.shape), -1.0, 1.0)
        inner, reward, discount = environment.step(state.inner, taken)
        return _Noisy(inner, following), reward, discount

    return _around(environment, reset, step)


class _Delayed(NamedTuple):
    inner: State
    waiting: jax.Array  # [K, A], the oldest action first


def delayed(environment: JittableEnvironment, count: int) -> JittableEnvironment:
    """Executes the action of ``count`` env_steps ago, and zeros before there is one."""

    def reset(key: jax.Array) -> _Delayed:
        waiting = jnp.zeros((count, environment.spec.action_size))
        return _Delayed(environment.reset(key), waiting)

    def step(state: _Delayed, action: jax.Array) -> tuple[_Delayed, jax.Array, jax.Array]:
        inner, reward, discount = environment.step(state.inner, state.waiting[0])
        waiting = jnp.concatenate([state.waiting[1:], action[None]])
        return _Delayed(inner, waiting), reward, discount

    return _around(environment, reset, step)


def _around(
    environment: JittableEnvironment,
    reset: Callable[[jax.Array], State],
    step: Callable[[State, jax.Array], tuple[State, jax.Array, jax.Array]],
) -> JittableEnvironment:
    """An environment whose states hold those of ``environment`` as ``inner``."""
    success = environment.success
    return JittableEnvironment(
        environment.spec,
        reset,
        step,
        lambda state: environment.render(state.inner),
        lambda state: environment.state_vector(state.inner),
        None if success is None else (lambda state: success(state.inner)),
        environment.may_end,
    )
