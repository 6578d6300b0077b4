"""λ-returns and the weights of imagined states, over a leading time axis."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

_UNROLL = 16  # elementwise steps in one turn of a loop: fewer steps take no loop at all


def lambda_return(
    reward: jax.Array,  # [T, ...]
    discount: jax.Array,  # [T, ...]
    next_value: jax.Array,  # [T, ...]
    lambda_: float,
) -> jax.Array:
    """λ-returns in forward time order (Eq. 8).

    ``V_t = r_t + γ_t * ((1 - λ) * v_{t+1} + λ * V_{t+1})`` with ``V_T := v_T``.

    Args:
        reward: ``r_t`` of state t, ``[T, ...]``.
        discount: ``γ_t`` in [0, 1] between states t and t + 1, ``[T, ...]``.
        next_value: ``v_{t+1}``, so that ``next_value[-1]`` bootstraps, ``[T, ...]``.
        lambda_: mixing of one-step and longer targets, in [0, 1].

    Returns:
        ``V_t``, ``[T, ...]``: element t belongs to state t.

    **Gradient:** to all three arrays.

    Reference: CoWorld Eq. 8; Sutton & Barto (2018), section 12.1. The authors' code returns the
    elements in reversed time order.
    """
    chex.assert_equal_shape([reward, discount, next_value])
    chex.assert_type([reward, discount, next_value], float)

    def backward(
        later: jax.Array, step: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        reward, discount, next_value = step
        now = reward + discount * ((1.0 - lambda_) * next_value + lambda_ * later)
        return now, now

    dtype = jnp.result_type(reward, discount, next_value)
    steps = (reward.astype(dtype), discount.astype(dtype), next_value.astype(dtype))
    unroll = min(len(reward), _UNROLL)
    _, returns = jax.lax.scan(backward, steps[-1][-1], steps, reverse=True, unroll=unroll)
    return returns


def discount_weights(discount: jax.Array) -> jax.Array:
    """Probability-like weight of each state: ``w_t = γ_0 γ_1 ... γ_{t-1}``, ``w_0 = 1``.

    Args:
        discount: ``γ_t`` in [0, 1] between states t and t + 1, ``[T, ...]``.

    Returns:
        ``w``, ``[T, ...]``. **Gradient:** none.
    """
    shifted = jnp.concatenate([jnp.ones_like(discount[:1]), discount[:-1]])
    return jax.lax.stop_gradient(jnp.cumprod(shifted, axis=0))
