"""The contrastive loss against loops, and what its gradient reaches."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from test_losses_q_learning import check, draw

from coworld_jax import losses

B, N, D = 3, 5, 4


def test_logits_are_a_bilinear_product_less_each_rows_maximum() -> None:
    anchor, positive, weight = draw((B, D), (N, D), (D, D))
    product = np.empty((B, N))
    for b, n in np.ndindex(B, N):
        product[b, n] = sum(
            float(anchor[b, i]) * float(weight[i, j]) * float(positive[n, j])
            for i in range(D)
            for j in range(D)
        )
    found = losses.bilinear_logits(anchor, positive, weight)
    check(found, product - product.max(axis=1, keepdims=True))


def test_contrastive_loss_is_the_cross_entropy_with_the_own_positive() -> None:
    (logits,) = draw((B, N))
    index = jnp.asarray([4, 0, 2])
    expected = [
        math.log(sum(math.exp(float(logits[b, n])) for n in range(N)))
        - float(logits[b, int(index[b])])
        for b in range(B)
    ]
    check(losses.contrastive_loss(logits, index), expected)


def test_gradient_reaches_anchor_and_weight_and_not_the_momentum_encoder() -> None:
    arrays = draw((B, D), (N, D), (D, D))

    def loss(*arrays: jax.Array) -> jax.Array:
        return losses.contrastive_loss(losses.bilinear_logits(*arrays), jnp.arange(B)).sum()

    anchor, positive, weight = jax.grad(loss, (0, 1, 2))(*arrays)
    assert np.any(anchor) and np.any(weight) and not np.any(positive)


def test_subtracting_the_maximum_changes_no_gradient() -> None:
    anchor, positive, weight = draw((B, D), (N, D), (D, D))

    def plain(anchor: jax.Array) -> jax.Array:
        return losses.contrastive_loss(anchor @ weight @ positive.T, jnp.arange(B)).sum()

    def shifted(anchor: jax.Array) -> jax.Array:
        logits = losses.bilinear_logits(anchor, positive, weight)
        return losses.contrastive_loss(logits, jnp.arange(B)).sum()

    check(jax.grad(shifted)(anchor), np.asarray(jax.grad(plain)(anchor)))
