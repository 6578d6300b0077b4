"""Losses on parameters themselves."""

from __future__ import annotations

from typing import Any

import chex
import jax
import jax.numpy as jnp


def elastic_penalty(params: Any, anchor: Any, fisher: Any) -> jax.Array:
    """Elastic weight consolidation: ``½ Σ_i F_i (θ_i - θ*_i)²``.

    Args:
        params: ``θ``, any pytree of arrays.
        anchor: ``θ*``, the parameters after the first task, same shapes.
        fisher: ``F``, the diagonal of the Fisher information there, not negative, same shapes.

    Returns:
        ``[]``. **Gradient:** to ``params`` alone, ``F_i (θ_i - θ*_i)``.

    Reference: Kirkpatrick et al. (2017), Eq. 3, without its factor λ.
    """
    chex.assert_trees_all_equal_shapes(params, anchor, fisher)
    anchor, fisher = jax.lax.stop_gradient((anchor, fisher))
    terms = jax.tree.map(lambda p, a, f: jnp.sum(f * jnp.square(p - a)), params, anchor, fisher)
    return 0.5 * sum(jax.tree.leaves(terms), jnp.zeros(()))
