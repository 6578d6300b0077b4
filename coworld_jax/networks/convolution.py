"""Convolutions of stride 2 without padding, in the form that is fastest for the platform.

Kernels are ``[height, width, in, out]`` in every form, so weights do not depend on it. On a CPU,
XLA's own convolutions (transposed ones and gradients above all) run far below the matrix units;
both functions are therefore one matrix product there. BUILD.md has the measurements.
"""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def strided_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Convolution of stride 2 without padding.

    ``y[i, j] = Σ_{p, q} x[2i + p, 2j + q] kernel[p, q]``

    Args:
        x: ``[N, height, width, in]``.
        kernel: ``[k, k, in, out]``, k even.

    Returns:
        ``[N, (height - k) // 2 + 1, (width - k) // 2 + 1, out]``.
    """
    chex.assert_rank([x, kernel], 4)
    return jax.lax.platform_dependent(
        x, kernel, cpu=_conv_as_product, default=_conv_stock
    )


def strided_conv_transpose(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Transposed convolution of stride 2 without padding, the adjoint of `strided_conv`.

    ``y[2i + p, 2j + q] = Σ_{i, j} x[i, j] kernel[p, q]``

    Args:
        x: ``[N, height, width, in]``.
        kernel: ``[k, k, in, out]``.

    Returns:
        ``[N, 2 * height + k - 2, 2 * width + k - 2, out]``.
    """
    chex.assert_rank([x, kernel], 4)
    return jax.lax.platform_dependent(
        x, kernel, cpu=_conv_transpose_as_product, default=_conv_transpose_stock
    )


def _conv_stock(x: jax.Array, kernel: jax.Array) -> jax.Array:
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=_LAYOUT)


def _conv_transpose_stock(x: jax.Array, kernel: jax.Array) -> jax.Array:
    # lax correlates, so the kernel that is added around each input pixel must be turned round.
    return jax.lax.conv_transpose(
        x, kernel[::-1, ::-1], (2, 2), "VALID", dimension_numbers=_LAYOUT
    )


def _conv_as_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Space to depth turns stride 2 into stride 1; the taps that remain become columns."""
    k, _, channels, features = kernel.shape
    taps = k // 2
    height, width = (x.shape[1] - k) // 2 + 1, (x.shape[2] - k) // 2 + 1
    rows, columns = height + taps - 1, width + taps - 1
    blocks = x[:, : 2 * rows, : 2 * columns]
    blocks = blocks.reshape(-1, rows, 2, columns, 2, channels).swapaxes(2, 3)
    blocks = blocks.reshape(-1, rows, columns, 4 * channels)
    patches = jnp.concatenate(
        [
            blocks[:, p : p + height, q : q + width]
            for p in range(taps)
            for q in range(taps)
        ],
        axis=-1,
    )
    matrix = kernel.reshape(taps, 2, taps, 2, channels, features).swapaxes(1, 2)
    product = patches.reshape(-1, 4 * taps * taps * channels) @ matrix.reshape(-1, features)
    return product.reshape(-1, height, width, features)


def _conv_transpose_as_product(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """One product gives all that each input pixel contributes; shifted sums overlap it."""
    _, height, width, channels = x.shape
    k, features = kernel.shape[0], kernel.shape[-1]
    taps = (k + 1) // 2
    odd = 2 * taps - k  # an odd kernel is padded by one tap, and the output cropped again
    kernel = jnp.pad(kernel, ((0, odd), (0, odd), (0, 0), (0, 0)))
    # Columns in the order [tap row, tap column, phase row, phase column, feature].
    matrix = kernel.reshape(taps, 2, taps, 2, channels, features).transpose(4, 0, 2, 1, 3, 5)
    product = x.reshape(-1, channels) @ matrix.reshape(channels, -1)
    product = product.reshape(-1, height, width, taps * taps, 4 * features)
    rows, columns = height + taps - 1, width + taps - 1
    blocks = sum(
        jnp.pad(
            product[:, :, :, p * taps + q],
            ((0, 0), (p, taps - 1 - p), (q, taps - 1 - q), (0, 0)),
        )
        for p in range(taps)
        for q in range(taps)
    )
    image = blocks.reshape(-1, rows, columns, 2, 2, features).swapaxes(2, 3)
    image = image.reshape(-1, 2 * rows, 2 * columns, features)
    return image[:, : 2 * rows - odd, : 2 * columns - odd]
