"""Loss terms of the world model (Eq. 3 without its last term): images, rewards, KL."""

from __future__ import annotations

import math

import chex
import jax
import jax.numpy as jnp

from coworld_jax import distributions


def image_loss(mean: jax.Array, image: jax.Array) -> jax.Array:
    """Negative log-likelihood of images under a normal of unit variance, summed over pixels.

    ``½ Σ (x - μ)² + ½ n log 2π`` over the n values of an image. The constant stays outside the sum:
    on a CPU the loss and its gradient take half the time then.

    Args:
        mean: predicted image, in [-0.5, 0.5], ``[T, B, height, width, channels]``.
        image: the observed one, same shape and range.

    Returns:
        ``[T, B]``, nats. **Gradient:** to ``mean``; the image is data.

    Reference: CoWorld Eq. 3; Hafner et al. (2021), DreamerV2, Eq. 2.
    """
    chex.assert_rank([mean, image], 5)
    chex.assert_equal_shape([mean, image])
    squares = jnp.sum(jnp.square(jax.lax.stop_gradient(image) - mean), axis=(-3, -2, -1))
    return unit_normal_loss(squares, math.prod(image.shape[-3:]))


def unit_normal_loss(squares: jax.Array, values: int) -> jax.Array:
    """`image_loss` from the sum of squared errors: ``½ Σ (x - μ)² + ½ n log 2π``.

    Args:
        squares: ``Σ (x - μ)²`` of each image, ``[T, B]``.
        values: n.

    Returns:
        ``[T, B]``, nats. **Gradient:** to ``squares``.

    Reference: CoWorld Eq. 3; Hafner et al. (2021), DreamerV2, Eq. 2.
    """
    chex.assert_rank(squares, 2)
    return 0.5 * squares + 0.5 * values * math.log(2.0 * math.pi)


def state_loss(mean: jax.Array, state: jax.Array, std: float) -> jax.Array:
    """Negative log-likelihood of a simulator's state vector, summed over its coordinates.

    ``½ Σ ((s - μ) / σ)² + n log(σ √(2π))`` over the n coordinates: `image_loss` with a scale.

    Args:
        mean: predicted state, ``[T, B, N]``.
        state: the observed one, in the same units, ``[T, B, N]``.
        std: ``σ`` of every coordinate, in these units; a Python number.

    Returns:
        ``[T, B]``, nats. **Gradient:** to ``mean``; the state is data.

    Reference: CoWorld Eq. 3, with the state in the image's place (Table 4 of the paper reads the
    state in the source; it states no likelihood).
    """
    chex.assert_rank([mean, state], 3)
    chex.assert_equal_shape([mean, state])
    squares = jnp.sum(jnp.square((jax.lax.stop_gradient(state) - mean) / std), axis=-1)
    return 0.5 * squares + state.shape[-1] * (math.log(std) + 0.5 * math.log(2.0 * math.pi))


def reward_loss(mean: jax.Array, reward: jax.Array) -> jax.Array:
    """``-log N(reward | mean, 1)``.

    Args:
        mean: predicted reward, ``[T, B]``.
        reward: the label, raw reward units, ``[T, B]``.

    Returns:
        ``[T, B]``, nats. **Gradient:** to ``mean``; the label is data.

    Reference: CoWorld Eq. 3.
    """
    chex.assert_equal_shape([mean, reward])
    return -distributions.normal_log_prob(jax.lax.stop_gradient(reward), mean)


def continue_loss(logits: jax.Array, discount: jax.Array) -> jax.Array:
    """``-log Bernoulli(discount | sigmoid(logits))``: does the episode go on from here?

    Args:
        logits: ``[T, B]``.
        discount: 1 - terminal, in [0, 1], ``[T, B]``.

    Returns:
        ``[T, B]``, nats. **Gradient:** to ``logits``.

    Reference: DreamerV2, Eq. 2. The discount factor itself is multiplied in later: the head
    predicts continuation alone.
    """
    return -distributions.bernoulli_log_prob(jax.lax.stop_gradient(discount), logits)


def latent_kl(post: dict[str, jax.Array], prior: dict[str, jax.Array]) -> jax.Array:
    """``KL(post || prior)`` of latent statistics, summed over the latent.

    Args:
        post: ``{"mean", "std"}`` ``[..., S]`` or ``{"logits"}`` ``[..., groups, classes]``.
        prior: the same keys and shapes.

    Returns:
        ``[...]``, nats. **Gradient:** to both arguments; balancing stops one or the other.

    Reference: CoWorld Eq. 3; DreamerV2, Eq. 2.
    """
    if "logits" in post:
        return jnp.sum(distributions.categorical_kl(post["logits"], prior["logits"]), axis=-1)
    kl = distributions.normal_kl(post["mean"], post["std"], prior["mean"], prior["std"])
    return jnp.sum(kl, axis=-1)


def free_nats_mean(
    kl: jax.Array, free_nats: float | jax.Array, axis_name: str | None = None
) -> jax.Array:
    """``max(free_nats, mean(kl))``: the one clamp that belongs to the whole batch.

    Args:
        kl: ``[T, B]``, nats.
        free_nats: below this batch mean the term is constant; not negative.
        axis_name: the mean that is compared spans this mapped axis.

    Returns:
        ``[]``, whose mean over ``axis_name`` is the clamped mean of the whole batch.
        **Gradient:** to ``kl``, none at or below a positive ``free_nats``.

    Reference: DreamerV2's implementation, ``free_avg``.
    """
    local = jnp.mean(kl)
    if not isinstance(free_nats, jax.Array) and free_nats == 0.0:
        return local  # no KL is negative, so the devices have nothing to compare
    everywhere = jax.lax.stop_gradient(local)
    if axis_name is not None:
        everywhere = jax.lax.pmean(everywhere, axis_name)
    return jnp.where(everywhere > free_nats, local, free_nats)
