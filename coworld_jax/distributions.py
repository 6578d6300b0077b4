"""Log-densities, entropies, divergences and reparameterised samples, as functions of arrays.

Samplers take their noise as an argument: a function of (parameters, noise) is pure, and the same
noise gives the same sample on any number of devices.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

LOG_SQRT_2PI = 0.9189385332046727
_SQRT_2 = 1.4142135623730951
# Largest float32 below one: the inverse error function stays finite, and so does its derivative.
_LARGEST_ERF = 1.0 - 2.0**-24
ACTION_LIMIT = 1.0 - 1e-6  # largest distance of an action from zero: strictly inside [-1, 1]


def normal_log_prob(value: jax.Array, mean: jax.Array, std: jax.Array | float = 1.0) -> jax.Array:
    """Elementwise ``log N(value | mean, std)``, shape ``[...]``; ``std`` may be a scalar.

    **Gradient:** to all arguments.
    """
    chex.assert_equal_shape([value, mean])
    return -0.5 * jnp.square((value - mean) / std) - jnp.log(std) - LOG_SQRT_2PI


def normal_sample(mean: jax.Array, std: jax.Array, noise: jax.Array) -> jax.Array:
    """``mean + std * noise`` for standard normal ``noise``, all ``[...]``."""
    chex.assert_equal_shape([mean, std, noise])
    return mean + std * noise


def normal_kl(
    mean_q: jax.Array, std_q: jax.Array, mean_p: jax.Array, std_p: jax.Array
) -> jax.Array:
    """``KL(N(mean_q, std_q) || N(mean_p, std_p))`` per coordinate, shape ``[...]``.

    **Gradient:** to all arguments; the standard deviations are positive.
    """
    chex.assert_equal_shape([mean_q, std_q, mean_p, std_p])
    ratio = std_q / std_p
    return 0.5 * (jnp.square(ratio) + jnp.square((mean_q - mean_p) / std_p) - 1.0) - jnp.log(ratio)


def categorical_kl(logits_q: jax.Array, logits_p: jax.Array) -> jax.Array:
    """``KL(softmax(logits_q) || softmax(logits_p))`` over the last axis: ``[..., K] -> [...]``.

    Logits are finite: one of -inf gives NaN. **Gradient:** to both arguments.
    """
    chex.assert_equal_shape([logits_q, logits_p])
    log_q, log_p = jax.nn.log_softmax(logits_q), jax.nn.log_softmax(logits_p)
    q, p = jnp.exp(log_q), jnp.exp(log_p)
    # Σ (p - q) is zero but for the rounding of the two normalisers, which it cancels in the other
    # sum; without it, a KL of 1e-3 over a thousand classes is wrong in the fourth digit.
    return jnp.sum(p - q + q * (log_q - log_p), axis=-1)


def categorical_entropy(logits: jax.Array) -> jax.Array:
    """Entropy (nats) of ``softmax(logits)`` over the last axis: ``[..., K] -> [...]``.

    Logits are finite: one of -inf gives NaN. **Gradient:** to ``logits``.
    """
    log_p = jax.nn.log_softmax(logits)
    return -jnp.sum(jnp.exp(log_p) * log_p, axis=-1)


def categorical_sample(logits: jax.Array, noise: jax.Array) -> jax.Array:
    """A one-hot sample by inversion, with the straight-through gradient of the probabilities.

    One uniform draw per categorical replaces one Gumbel draw per class.

    Args:
        logits: ``[..., K]``.
        noise: uniform on [0, 1), ``[...]``.

    Returns:
        ``[..., K]``, one-hot.

    **Gradient:** that of ``softmax(logits)``.
    """
    chex.assert_equal_shape_prefix([logits, noise], noise.ndim)
    probs = jax.nn.softmax(logits)
    below = jnp.cumsum(jax.lax.stop_gradient(probs), axis=-1) <= noise[..., None]
    # Rounding may leave the last cumulative probability below the noise.
    index = jnp.minimum(jnp.sum(below, axis=-1), logits.shape[-1] - 1)
    return _straight_through(index, probs)


def categorical_mode(logits: jax.Array) -> jax.Array:
    """One-hot of the likeliest class, ``[..., K]``, with the straight-through gradient."""
    return _straight_through(jnp.argmax(logits, axis=-1), jax.nn.softmax(logits))


def _straight_through(index: jax.Array, probs: jax.Array) -> jax.Array:
    one_hot = jax.nn.one_hot(index, probs.shape[-1], dtype=probs.dtype)
    return one_hot + (probs - jax.lax.stop_gradient(probs))  # the difference is exactly 0


def bernoulli_log_prob(value: jax.Array, logits: jax.Array) -> jax.Array:
    """Elementwise ``log Bernoulli(value | sigmoid(logits))``; ``value`` in [0, 1] may be soft.

    **Gradient:** to both arguments.
    """
    chex.assert_equal_shape([value, logits])
    return value * jax.nn.log_sigmoid(logits) + (1.0 - value) * jax.nn.log_sigmoid(-logits)


def truncated_normal_sample(loc: jax.Array, scale: jax.Array, noise: jax.Array) -> jax.Array:
    """A reparameterised sample of ``N(loc, scale)`` truncated to [-1, 1], by inversion.

    ``x = loc + scale * sqrt(2) * erfinv(lerp(erf(low), erf(high), noise))`` where ``low`` and
    ``high`` are the standardised bounds over ``sqrt(2)``. The argument of ``erfinv`` is kept in the
    open interval (-1, 1), so that value and gradient are finite for every float32 draw;
    ``jax.random.truncated_normal`` differentiates to NaN about once in ten million draws.

    Args:
        loc: mode, in [-1, 1], ``[...]``.
        scale: standard deviation before truncation, positive, ``[...]``.
        noise: uniform on [0, 1), ``[...]``.

    Returns:
        ``[...]`` within (-1, 1).

    **Gradient:** to ``loc`` and ``scale``, through the sample.
    """
    chex.assert_equal_shape([loc, scale, noise])
    low, high = _standard_bounds(loc, scale)
    erf_low, erf_high = jax.lax.erf(low / _SQRT_2), jax.lax.erf(high / _SQRT_2)
    erf_x = jnp.clip(erf_low + noise * (erf_high - erf_low), -_LARGEST_ERF, _LARGEST_ERF)
    return jnp.clip(loc + scale * _SQRT_2 * jax.lax.erf_inv(erf_x), -ACTION_LIMIT, ACTION_LIMIT)


def truncated_normal_log_prob(value: jax.Array, loc: jax.Array, scale: jax.Array) -> jax.Array:
    """Elementwise log-density of ``N(loc, scale)`` truncated to [-1, 1].

    Args:
        value: clipped into the support: offline actions may lie outside it, ``[...]``.
        loc: mode, in [-1, 1], ``[...]``.
        scale: standard deviation before truncation, positive, ``[...]``.

    **Gradient:** to all arguments; none to a clipped value.
    """
    chex.assert_equal_shape([value, loc, scale])
    inside = jnp.clip(value, -ACTION_LIMIT, ACTION_LIMIT)
    density = -0.5 * jnp.square((inside - loc) / scale) - jnp.log(scale) - LOG_SQRT_2PI
    return density - jnp.log(_mass(loc, scale))


def truncated_normal_entropy(loc: jax.Array, scale: jax.Array) -> jax.Array:
    """Elementwise differential entropy (nats) of ``N(loc, scale)`` truncated to [-1, 1].

    Args:
        loc: mode, in [-1, 1], ``[...]``.
        scale: standard deviation before truncation, positive, ``[...]``.

    **Gradient:** to both arguments.
    """
    chex.assert_equal_shape([loc, scale])
    low, high = _standard_bounds(loc, scale)
    mass = _mass(loc, scale)
    edges = low * _standard_density(low) - high * _standard_density(high)
    return 0.5 + LOG_SQRT_2PI + jnp.log(scale * mass) + edges / (2.0 * mass)


def truncated_normal_mode(loc: jax.Array) -> jax.Array:
    """The likeliest value: ``loc``, strictly inside [-1, 1]."""
    return jnp.clip(loc, -ACTION_LIMIT, ACTION_LIMIT)


def _standard_bounds(loc: jax.Array, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    return (-1.0 - loc) / scale, (1.0 - loc) / scale


def _standard_density(x: jax.Array) -> jax.Array:
    return jnp.exp(-0.5 * jnp.square(x) - LOG_SQRT_2PI)


def _mass(loc: jax.Array, scale: jax.Array) -> jax.Array:
    low, high = _standard_bounds(loc, scale)
    return 0.5 * (jax.lax.erf(high / _SQRT_2) - jax.lax.erf(low / _SQRT_2))
