"""Stride-2 convolutions as matrix products, for CPUs: blocks of images ``[C, height, width, n]``.

With the images of a block innermost, every patch is a run of contiguous memory, so that gathering
patches and adding overlapping ones are plain vectorised copies, and a block of 16 images keeps its
patches in the caches.

With ``patches(x)`` all k x k windows of x in steps of two, as columns:
``conv(x, K) = K^T patches(x)``, ``conv_transpose(y, K) = overlap_add(K y)``, the adjoint, and the
gradient of K is ``patches(x) y^T`` in both.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

BLOCK = 16  # images; one vector register of float32, and the patches of a layer fit the L3 cache


def split(x: jax.Array) -> jax.Array:
    """``[N, height, width, C]`` to blocks ``[G, C, height, width, n]``, the last one padded."""
    size = min(BLOCK, x.shape[0])
    blocks = -(-x.shape[0] // size)
    x = jnp.pad(x, ((0, blocks * size - x.shape[0]), (0, 0), (0, 0), (0, 0)))
    return x.reshape(blocks, size, *x.shape[1:]).transpose(0, 4, 2, 3, 1)


def join(blocks: jax.Array, images: int) -> jax.Array:
    """The inverse of `split`: ``[G, C, height, width, n] -> [N, height, width, C]``."""
    x = blocks.transpose(0, 4, 2, 3, 1)
    return x.reshape(-1, *x.shape[2:])[:images]


@jax.custom_vjp
def conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """``y[i, j] = Σ_{p, q} x[2i + p, 2j + q] kernel[p, q]``.

    Args:
        x: ``[in, height, width, n]``.
        kernel: ``[k, k, in, out]``.

    Returns:
        ``[out, (height - k) // 2 + 1, (width - k) // 2 + 1, n]``.
    """
    return _gather(_patches(x, kernel.shape[0]), kernel)


@jax.custom_vjp
def conv_transpose(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """``y[2i + p, 2j + q] = Σ_{i, j} x[i, j] kernel[p, q]``, the adjoint of `conv`.

    Args:
        x: ``[in, height, width, n]``.
        kernel: ``[k, k, in, out]``.

    Returns:
        ``[out, 2 * height + k - 2, 2 * width + k - 2, n]``.
    """
    return _spread(x, kernel.swapaxes(2, 3))


def _conv_fwd(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return conv(x, kernel), (x, kernel)


def _conv_bwd(saved: tuple[jax.Array, jax.Array], dy: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    dx = _spread(dy, kernel)
    # The last row and column of an odd image reach no output.
    dx = jnp.pad(dx, [(0, size - reached) for size, reached in zip(x.shape, dx.shape)])
    return dx, _kernel_gradient(_patches(x, kernel.shape[0]), dy)


def _conv_transpose_fwd(
    x: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return conv_transpose(x, kernel), (x, kernel)


def _conv_transpose_bwd(
    saved: tuple[jax.Array, jax.Array], dy: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    patches = _patches(dy, kernel.shape[0])
    return _gather(patches, kernel.swapaxes(2, 3)), _kernel_gradient(patches, x).swapaxes(2, 3)


conv.defvjp(_conv_fwd, _conv_bwd)
conv_transpose.defvjp(_conv_transpose_fwd, _conv_transpose_bwd)


def _patches(x: jax.Array, k: int) -> jax.Array:
    """``[C, height, width, n] -> [k, k, C, h, w, n]``, the pixel under each tap of the kernel.

    First the columns, then the rows: the second copy, k times as large, moves whole rows.
    """
    h, w = (x.shape[1] - k) // 2 + 1, (x.shape[2] - k) // 2 + 1
    columns = jnp.stack([x[:, :, q : q + 2 * w - 1 : 2] for q in range(k)])
    columns = jax.lax.optimization_barrier(columns)  # or XLA does both copies at once, pixelwise
    return jnp.stack([columns[:, :, p : p + 2 * h - 1 : 2] for p in range(k)])


def _gather(patches: jax.Array, kernel: jax.Array) -> jax.Array:
    """``K^T patches``: ``[k, k, C, h, w, n], [k, k, C, D] -> [D, h, w, n]``."""
    *_, h, w, n = patches.shape
    matrix = kernel.reshape(-1, kernel.shape[-1])
    return (matrix.T @ patches.reshape(matrix.shape[0], -1)).reshape(-1, h, w, n)


def _kernel_gradient(patches: jax.Array, y: jax.Array) -> jax.Array:
    """``patches y^T``: ``[k, k, C, h, w, n], [D, h, w, n] -> [k, k, C, D]``."""
    k, _, channels, *_ = patches.shape
    features = y.shape[0]
    product = jnp.einsum(
        "dm,cm->cd", y.reshape(features, -1), patches.reshape(k * k * channels, -1)
    )
    return product.reshape(k, k, channels, features)


def _spread(y: jax.Array, kernel: jax.Array) -> jax.Array:
    """``overlap_add(K y)``: ``[D, h, w, n], [k, k, C, D] -> [C, 2h + k - 2, 2w + k - 2, n]``."""
    (k, _, channels, features), (_, h, w, n) = kernel.shape, y.shape
    product = kernel.reshape(-1, features) @ y.reshape(features, -1)
    taps = product.reshape(k, k, channels, h, w, n)
    reach = (k + 1) // 2 - 1  # how far beyond its own 2x2 pixels an input pixel reaches, halved
    # Output pixels of equal parity in row and column form an image of their own.
    phases = jnp.stack(
        [
            sum(
                jnp.pad(
                    taps[p, q],
                    (
                        (0, 0),
                        (p // 2, reach - p // 2),
                        (q // 2, reach - q // 2),
                        (0, 0),
                    ),
                )
                for p in range(row, k, 2)
                for q in range(column, k, 2)
            )
            for row in range(2)
            for column in range(2)
        ]
    )
    phases = phases.reshape(2, 2, channels, h + reach, w + reach, n).transpose(2, 3, 0, 4, 1, 5)
    image = phases.reshape(channels, 2 * (h + reach), 2 * (w + reach), n)
    return image[:, : 2 * h + k - 2, : 2 * w + k - 2]
