"""The three couplings of CoWorld: state alignment (A), reward alignment (B), value constraint (C).

Only two things cross the domains: target data goes to the source (B), source parameters go to the
target (A, C).
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

from coworld_jax import distributions
from coworld_jax.losses.world_model import reward_loss


def alignment_loss(target_embed: jax.Array, source_embed: jax.Array) -> jax.Array:
    """Coupling A: ``KL(sg[softmax(e_S(o_T))] || softmax(e_T(o_T)))``.

    Args:
        target_embed: target encoder's embedding of target images, ``[T, B, E]``.
        source_embed: source encoder's embedding of the same images, ``[T, B, E]``.

    Returns:
        ``[T, B]``, nats, summed over the embedding. **Gradient:** to ``target_embed`` alone.

    Reference: CoWorld Eq. 3, last term. The authors' code sums over time as well, which weighs
    the term by the sequence length; ``alignment_scale`` can restore that.
    """
    chex.assert_equal_shape([target_embed, source_embed])
    return distributions.categorical_kl(jax.lax.stop_gradient(source_embed), target_embed)


def bridge_loss(bridge_embed: jax.Array, state_embed: jax.Array) -> jax.Array:
    """What ties images to a source that reads states: ``½ |e_bridge(o) - sg[e_S(s)]|²``.

    On simulated steps the image o and the state s of one moment are both known, so that an encoder
    of images can learn to give the embedding that the source's own encoder gives. Couplings A and B
    then read target images through it. A squared error of the embeddings themselves, and not the
    divergence of their softmax that coupling A takes: coupling B feeds the embedding to the RSSM.
    A constant added to an embedding changes that input, but not the softmax.

    Args:
        bridge_embed: the bridge's embedding of the source's images, ``[T, B, E]``.
        state_embed: the source encoder's embedding of the states there, ``[T, B, E]``.

    Returns:
        ``[T, B]``, summed over the embedding. **Gradient:** to ``bridge_embed`` alone.

    Reference: none. The paper's Table 4 has such a source and does not say how it is aligned.
    """
    chex.assert_rank([bridge_embed, state_embed], 3)
    chex.assert_equal_shape([bridge_embed, state_embed])
    gap = bridge_embed - jax.lax.stop_gradient(state_embed)
    return 0.5 * jnp.sum(jnp.square(gap), axis=-1)


def mixed_reward(
    source_prediction: jax.Array, target_reward: jax.Array, reward_mix: float
) -> jax.Array:
    """The label of coupling B: ``(1 - k) * sg[r_S(h, z)] + k * r_T``.

    Args:
        source_prediction: the source's reward head on the target batch, ``[T, B]``.
        target_reward: reward in the target dataset, ``[T, B]``.
        reward_mix: ``k`` in [0, 1].

    Returns:
        ``[T, B]``. **Gradient:** none.

    Reference: CoWorld Eq. 4.
    """
    chex.assert_equal_shape([source_prediction, target_reward])
    return jax.lax.stop_gradient(
        (1.0 - reward_mix) * source_prediction + reward_mix * target_reward
    )


def reward_alignment_loss(
    source_prediction: jax.Array,
    target_prediction: jax.Array,
    source_reward: jax.Array,
    target_reward: jax.Array,
    *,
    source_reward_weight: jax.Array,
    reward_mix: float,
) -> jax.Array:
    """Coupling B: ``η NLL(r_S | source batch) + (1 - η) NLL(mixed reward | target batch)``.

    Args:
        source_prediction: source's reward head on its own batch, ``[T, B]``.
        target_prediction: the same head on the target batch, run through the source's encoder and
            RSSM with the target's actions, ``[T, B]``.
        source_reward: rewards of the source batch, ``[T, B]``.
        target_reward: rewards of the target batch, ``[T, B]``.
        source_reward_weight: ``η`` in [0, 1], scalar, annealed over the updates.
        reward_mix: ``k`` in [0, 1].

    Returns:
        ``[T, B]``, nats. **Gradient:** to both predictions, and through them to the source's
        encoder, RSSM and reward head; labels carry none.

    Reference: CoWorld Eq. 5. In the authors' code ``η`` never anneals.
    """
    label = mixed_reward(target_prediction, target_reward, reward_mix)
    own = reward_loss(source_prediction, source_reward)
    other = reward_loss(target_prediction, label)
    chex.assert_equal_shape([own, other])
    return source_reward_weight * own + (1.0 - source_reward_weight) * other


def value_constraint_loss(
    target_value: jax.Array, source_value: jax.Array, weight: jax.Array, *, use_max: bool = True
) -> jax.Array:
    """Coupling C: ``w * max(v_T(s), sg[v_S(s)])``, or ``w * v_T(s)`` for the ablation without max.

    Args:
        target_value: target critic at the target's imagined states, reward units, ``[T, B]``.
        source_value: source critic at the same states, ``[T, B]``.
        weight: cumulative discount ``w`` in [0, 1], ``[T, B]``.
        use_max: a Python bool; False gives the ablation.

    Returns:
        ``[T, B]``. **Gradient:** to ``target_value`` alone, ``w`` where ``v_T > v_S``, else 0.

    Reference: CoWorld Eq. 6, second term, without its factor ``α``.
    """
    chex.assert_equal_shape([target_value, source_value, weight])
    weight, source_value = jax.lax.stop_gradient((weight, source_value))
    if not use_max:
        return weight * target_value
    # jnp.maximum would pass half the gradient where both are equal. A NaN of either value shows.
    own = (target_value > source_value) | jnp.isnan(target_value)
    return weight * jnp.where(own, target_value, source_value)
