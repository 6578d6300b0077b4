"""Losses of deterministic and soft actor-critics on a batch of transitions, without reductions.

The twin critics' values lie on the first axis: ``q`` is ``[2, B]``.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def td_target(reward: jax.Array, discount: jax.Array, next_q: jax.Array) -> jax.Array:
    """``y = r + d * min(Q1', Q2')``.

    Args:
        reward: rewards of the n steps, discounted and added up, ``[B]``.
        discount: ``γ^n`` times the last step's discount, 0 where the task ended, ``[B]``.
        next_q: slow critics at the n-th next state, ``[2, B]``; a soft critic's have
            ``α log π(a')`` taken off.

    Returns:
        ``[B]``. **Gradient:** none.

    Reference: clipped double Q-learning, Fujimoto et al. (2018), Eq. 10.
    """
    chex.assert_equal_shape([reward, discount, next_q[0]])
    return jax.lax.stop_gradient(reward + discount * jnp.min(next_q, axis=0))


def twin_td_loss(q: jax.Array, target: jax.Array) -> jax.Array:
    """``(Q1 - sg(y))² + (Q2 - sg(y))²``.

    Args:
        q: both critics at the data's states and actions, ``[2, B]``.
        target: ``y``, ``[B]``.

    Returns:
        ``[B]``. **Gradient:** to ``q`` alone.

    Reference: clipped double Q-learning, Fujimoto et al. (2018), Algorithm 1, where it is a mean.
    """
    chex.assert_equal_shape([q[0], target])
    return jnp.sum(jnp.square(q - jax.lax.stop_gradient(target)[None]), axis=0)


def conservative_loss(
    candidate_q: jax.Array, data_q: jax.Array, temperature: float = 1.0
) -> jax.Array:
    """``τ log Σ_c exp(Q(s, a_c) / τ) - Q(s, a)`` for each critic.

    Args:
        candidate_q: critics at the state's candidate actions, ``[2, B, C]``.
        data_q: critics at the data's action, ``[2, B]``.
        temperature: ``τ`` > 0.

    Returns:
        ``[2, B]``. **Gradient:** to both arrays, so to the states' features through all C values.

    Reference: CQL, Kumar et al. (2020), Eq. 4, without importance weights, as V-D4RL has it.
    """
    chex.assert_equal_shape([candidate_q[..., 0], data_q])
    soft_maximum = temperature * jax.nn.logsumexp(candidate_q / temperature, axis=-1)
    return soft_maximum - data_q


def policy_loss(q: jax.Array) -> jax.Array:
    """``-min(Q1, Q2)`` at the policy's action.

    Args:
        q: critics at the policy's action, ``[2, B]``.

    Returns:
        ``[B]``. **Gradient:** to the lower critic of each state.

    Reference: DrQ-v2, Yarats et al. (2021); TD3 takes the first critic alone.
    """
    chex.assert_axis_dimension(q, 0, 2)
    return -jnp.min(q, axis=0)


def soft_policy_loss(q: jax.Array, log_prob: jax.Array, temperature: jax.Array) -> jax.Array:
    """``sg(α) log π(a|s) - min(Q1, Q2)``.

    Args:
        q: critics at the policy's action, ``[2, B]``.
        log_prob: ``log π(a|s)``, summed over the action, nats, ``[B]``.
        temperature: ``α``, ``[]``.

    Returns:
        ``[B]``. **Gradient:** to ``q`` and ``log_prob``.

    Reference: soft actor-critic, Haarnoja et al. (2018), Eq. 7.
    """
    chex.assert_equal_shape([q[0], log_prob])
    return jax.lax.stop_gradient(temperature) * log_prob - jnp.min(q, axis=0)


def temperature_loss(
    log_temperature: jax.Array, log_prob: jax.Array, target_entropy: float
) -> jax.Array:
    """``exp(log α) * sg(-log π(a|s) - H)``.

    Args:
        log_temperature: ``log α``, ``[]``.
        log_prob: ``log π(a|s)``, nats, ``[B]``.
        target_entropy: ``H``, nats.

    Returns:
        ``[B]``. **Gradient:** to ``log_temperature`` alone.

    Reference: soft actor-critic, Haarnoja et al. (2018), Eq. 18.
    """
    chex.assert_rank([log_temperature, log_prob], [0, 1])
    return jnp.exp(log_temperature) * jax.lax.stop_gradient(-log_prob - target_entropy)


def cloning_loss(action: jax.Array, data_action: jax.Array) -> jax.Array:
    """Mean over the action's coordinates of ``(a - sg(a_data))²``.

    Args:
        action: the policy's, ``[B, A]``.
        data_action: the data's, which may lie outside [-1, 1], ``[B, A]``.

    Returns:
        ``[B]``. **Gradient:** to ``action`` alone.

    Reference: TD3+BC, Fujimoto & Gu (2021), as V-D4RL has it.
    """
    chex.assert_equal_shape([action, data_action])
    return jnp.mean(jnp.square(action - jax.lax.stop_gradient(data_action)), axis=-1)


def value_scale(q: jax.Array, weight: float, axis_name: str | None = None) -> jax.Array:
    """``λ = w / max(mean |min(Q1, Q2)|, 1e-8)``: a policy loss of one size, whatever the rewards.

    Args:
        q: critics at the policy's action, ``[2, B]``.
        weight: ``w``.
        axis_name: mapped axis over which the batch is split.

    Returns:
        ``[]``. **Gradient:** none.

    Reference: TD3+BC, Fujimoto & Gu (2021), Eq. 5.
    """
    chex.assert_axis_dimension(q, 0, 2)
    mean = jnp.mean(jnp.abs(jnp.min(q, axis=0)))
    if axis_name is not None:
        mean = jax.lax.pmean(mean, axis_name)
    return jax.lax.stop_gradient(weight / jnp.maximum(mean, 1e-8))
