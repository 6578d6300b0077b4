"""The contrastive loss of CURL: each anchor must find its own positive among the batch's."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp


def bilinear_logits(anchor: jax.Array, positive: jax.Array, weight: jax.Array) -> jax.Array:
    """``z_a W z_p^T``, less each row's largest entry.

    Args:
        anchor: ``z_a``, ``[B, D]``.
        positive: ``z_p`` of N images, ``[N, D]``; without a mapped axis N = B.
        weight: ``W``, ``[D, D]``.

    Returns:
        ``[B, N]``, at most 0. **Gradient:** to ``anchor`` and ``weight``; positives come from a
        momentum encoder and are stopped.

    Reference: CURL, Laskin et al. (2020), Algorithm 1.
    """
    chex.assert_rank([anchor, positive, weight], 2)
    logits = anchor @ (weight @ jax.lax.stop_gradient(positive).T)
    return logits - jax.lax.stop_gradient(jnp.max(logits, axis=1, keepdims=True))


def contrastive_loss(logits: jax.Array, index: jax.Array) -> jax.Array:
    """``-log softmax(logits)[index]``: cross-entropy with the own positive.

    Args:
        logits: ``[B, N]``.
        index: int, column of each anchor's own positive, ``[B]``.

    Returns:
        ``[B]``, nats. **Gradient:** to ``logits``.

    Reference: CURL, Laskin et al. (2020), Algorithm 1.
    """
    chex.assert_rank([logits, index], [2, 1])
    log_prob = jax.nn.log_softmax(logits, axis=1)
    return -jnp.take_along_axis(log_prob, index[:, None], axis=1)[:, 0]
