"""Keras' Adam, which the official code of the TensorFlow baselines steps with."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from coworld_jax.agents.gradient import clip_by_global_norm


def scale_by_keras_adam(
    b1: float = 0.9, b2: float = 0.999, eps: float = 1e-7
) -> optax.GradientTransformation:
    """``sqrt(1 - b2^t) / (1 - b1^t) * m / (sqrt(v) + ε)``.

    ``optax.scale_by_adam`` adds ε after the correction of v instead: on the first step, Keras' 1e-5
    is 3e-4 there.
    """

    def init(params: optax.Params) -> optax.OptState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return optax.ScaleByAdamState(jnp.zeros((), jnp.int32), zeros, zeros)

    def update(
        grads: optax.Updates, state: optax.OptState, params: optax.Params | None = None
    ) -> tuple[optax.Updates, optax.OptState]:
        del params
        count = state.count + 1
        mu = jax.tree.map(lambda m, g: b1 * m + (1.0 - b1) * g, state.mu, grads)
        nu = jax.tree.map(lambda v, g: b2 * v + (1.0 - b2) * jnp.square(g), state.nu, grads)
        correction = jnp.sqrt(1.0 - b2**count) / (1.0 - b1**count)
        steps = jax.tree.map(lambda m, v: correction * m / (jnp.sqrt(v) + eps), mu, nu)
        return steps, optax.ScaleByAdamState(count, mu, nu)

    return optax.GradientTransformation(init, update)


def keras_adam(
    learning_rate: float, eps: float, clip: float, weight_decay: float = 0.0
) -> optax.GradientTransformation:
    """Clip the global norm, step with Keras' Adam, and shrink every parameter.

    Args:
        weight_decay: share of a parameter that each step takes off, whatever the learning rate.
    """
    return optax.chain(
        clip_by_global_norm(clip),
        scale_by_keras_adam(eps=eps),
        optax.scale(-learning_rate),
        optax.add_decayed_weights(-weight_decay),
    )
