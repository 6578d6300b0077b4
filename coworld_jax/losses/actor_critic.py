"""Actor and critic losses over imagined states (Eq. 7 and the regression part of Eq. 6)."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def critic_loss(value: jax.Array, lambda_return: jax.Array, weight: jax.Array) -> jax.Array:
    """``w * (v - sg(V))² / 2``.

    Args:
        value: critic's ``v`` at imagined states, reward units, ``[T, B]``.
        lambda_return: ``V``, ``[T, B]``.
        weight: cumulative discount ``w`` in [0, 1], ``[T, B]``.

    Returns:
        ``[T, B]``. **Gradient:** to ``value`` alone.

    Reference: CoWorld Eq. 6, first term.
    """
    chex.assert_equal_shape([value, lambda_return, weight])
    weight, lambda_return = jax.lax.stop_gradient((weight, lambda_return))
    return weight * 0.5 * jnp.square(value - lambda_return)


def actor_loss(
    lambda_return: jax.Array,
    log_prob: jax.Array,
    baseline: jax.Array,
    entropy: jax.Array,
    weight: jax.Array,
    *,
    dynamics_share: float,
    entropy_scale: float,
) -> jax.Array:
    """``-w * (ρ V + (1 - ρ) log π(a) sg(V - v) + β H)``.

    Args:
        lambda_return: ``V``, differentiable through the imagined dynamics, ``[T, B]``.
        log_prob: ``log π(sg(a))``, summed over the action, nats, ``[T, B]``.
        baseline: value ``v`` of the same states, ``[T, B]``.
        entropy: entropy of the policy, summed over the action, nats, ``[T, B]``.
        weight: cumulative discount ``w`` in [0, 1], ``[T, B]``.
        dynamics_share: ``ρ`` in [0, 1], a Python number; 1 is pure dynamics backpropagation, 0 pure
            REINFORCE. DreamerV2 writes it the other way round.
        entropy_scale: weight of the entropy bonus.

    Returns:
        ``[T, B]``. **Gradient:** to ``lambda_return`` (times ρ), ``log_prob`` and ``entropy``.

    Reference: CoWorld Eq. 7.
    """
    chex.assert_equal_shape([lambda_return, log_prob, baseline, entropy, weight])
    weight = jax.lax.stop_gradient(weight)
    objective = entropy_scale * entropy
    if dynamics_share > 0.0:
        objective = objective + dynamics_share * lambda_return
    if dynamics_share < 1.0:
        advantage = jax.lax.stop_gradient(lambda_return - baseline)
        objective = objective + (1.0 - dynamics_share) * log_prob * advantage
    return -weight * objective
