"""The gradient of a dense layer's kernel, in the form that is fastest for the platform."""

from __future__ import annotations

from functools import partial

import chex
import jax
import jax.numpy as jnp

from coworld_jax.networks import direct


def kernel_gradient(x: jax.Array, dy: jax.Array, result: jnp.dtype | None = None) -> jax.Array:
    """``Σ xᵀ dy`` over all rows: ``[..., in], [..., out] -> [in, out]``.

    For small arrays on a CPU, C++ computes the product (`direct.fits_product`). XLA transposes
    ``x`` first, which takes as long as a small product.

    Args:
        x: the layer's input.
        dy: the gradient of its output.
        result: type of the sum; None is that of the arrays.

    Returns:
        The gradient of the kernel. On a CPU it may have no gradient of its own.
    """
    chex.assert_equal_shape_prefix([x, dy], x.ndim - 1)
    x, dy = x.reshape(-1, x.shape[-1]), dy.reshape(-1, dy.shape[-1])
    product = partial(_product, result=result)
    if not direct.fits_product(x, dy):
        return product(x, dy)
    return jax.lax.platform_dependent(x, dy, cpu=direct.multiply_rows, default=product)


def _product(x: jax.Array, dy: jax.Array, result: jnp.dtype | None) -> jax.Array:
    return jnp.tensordot(x, dy, (0, 0), preferred_element_type=result)
