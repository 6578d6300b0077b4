"""Stacks of stride-2 convolutions without padding, in the form that is fastest for the platform.

`convolve` and `convolve_transpose` are the equations: each layer is
``elu(conv(x, kernel) + bias)``. Kernels are ``[height, width, in, out]`` in every form, so weights
do not depend on it. Other platforms run the stock convolutions; on a CPU, where XLA runs gradients
and transposed convolutions far below the matrix units, the layers are matrix products
(`batch_last`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import chex
import jax

from coworld_jax.networks import batch_last
from coworld_jax.networks.layers import elu

_LAYOUT = ("NHWC", "HWIO", "NHWC")

Layers = Sequence[tuple[jax.Array, jax.Array]]  # (kernel [k, k, in, out], bias [out])
Convolution = Callable[[jax.Array, jax.Array], jax.Array]


def convolve(x: jax.Array, layers: Layers) -> jax.Array:
    """Convolutions of stride 2, ELU after each.

    ``x <- elu(conv(x, kernel) + bias)``, where
    ``conv(x, kernel)[i, j] = Σ_{p, q} x[2i + p, 2j + q] kernel[p, q]``.

    Args:
        x: ``[N, height, width, in]``.
        layers: kernel and bias of each layer.

    Returns:
        ``[N, height', width', out]``; each layer makes ``(size - k) // 2 + 1`` of a size.
    """
    chex.assert_rank(x, 4)
    return jax.lax.platform_dependent(
        x,
        tuple(layers),
        cpu=partial(_in_blocks, _apply_all, batch_last.conv),
        default=partial(_apply_all, strided_conv, axis=-1),
    )


def convolve_transpose(x: jax.Array, layers: Layers) -> jax.Array:
    """Transposed convolutions of stride 2, ELU after each but the last.

    ``x <- elu(conv_transpose(x, kernel) + bias)``, where
    ``conv_transpose(x, kernel)[2i + p, 2j + q] = Σ_{i, j} x[i, j] kernel[p, q]``.

    Args:
        x: ``[N, height, width, in]``.
        layers: kernel and bias of each layer.

    Returns:
        ``[N, height', width', out]``; each layer makes ``2 * size + k - 2`` of a size.
    """
    chex.assert_rank(x, 4)
    return jax.lax.platform_dependent(
        x,
        tuple(layers),
        cpu=partial(_in_blocks, _apply_all_but_last, batch_last.conv_transpose),
        default=partial(_apply_all_but_last, strided_conv_transpose, axis=-1),
    )


def strided_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The stock convolution of stride 2: ``[N, h, w, in], [k, k, in, out]`` to NHWC."""
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=_LAYOUT)


def strided_conv_transpose(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The stock transposed convolution of stride 2: ``[N, h, w, in], [k, k, in, out]`` to NHWC."""
    # lax correlates, so the kernel that is added around each input pixel must be turned round.
    return jax.lax.conv_transpose(x, kernel[::-1, ::-1], (2, 2), "VALID", dimension_numbers=_LAYOUT)


def _apply_all(conv: Convolution, x: jax.Array, layers: Layers, axis: int) -> jax.Array:
    for kernel, bias in layers:
        x = elu(_add_bias(conv(x, kernel), bias, axis))
    return x


def _apply_all_but_last(conv: Convolution, x: jax.Array, layers: Layers, axis: int) -> jax.Array:
    *inner, (kernel, bias) = layers
    x = _apply_all(conv, x, inner, axis)
    return _add_bias(conv(x, kernel), bias, axis)


def _add_bias(x: jax.Array, bias: jax.Array, axis: int) -> jax.Array:
    return x + jax.lax.broadcast_in_dim(bias, x.shape, (axis % x.ndim,))


def _in_blocks(
    apply: Callable[..., jax.Array], conv: Convolution, x: jax.Array, layers: Layers
) -> jax.Array:
    """All layers on one block of images after another: a block stays in the caches."""
    blocks = batch_last.split(x)
    result = jax.lax.map(lambda block: apply(conv, block, layers, axis=0), blocks)
    return batch_last.join(result, x.shape[0])
