"""Stride-2 convolution layers as matrix products, for CPUs: images in blocks, batch innermost.

``x[G, C, height, width, n]`` holds G blocks of n images. A patch is then a run of contiguous
memory, so that gathering patches and adding overlapping ones are vectorised copies; and as a loop
takes one block after another, its patches stay in the caches (they are 9 to 36 times the image).

With ``patches(x)`` the k x k windows of x in steps of two, as columns of a matrix:

* convolution ``z = K^T patches(x)``; gradients ``dK = patches(x) dz^T``, ``dx = spread(K dz)``;
* transposed ``z = spread(K x)``; gradients ``dK = patches(dz) x^T``, ``dx = K^T patches(dz)``,

where ``spread`` adds windows where they overlap: the adjoint of ``patches``.
"""

from __future__ import annotations

from functools import partial, reduce

import jax
import jax.numpy as jnp

from coworld_jax.networks.layers import elu

BLOCK = 16  # images; one vector register of float32, and the patches of a layer fit the L3 cache

Saved = tuple[jax.Array, jax.Array, jax.Array]


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


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def conv(x: jax.Array, kernel: jax.Array, bias: jax.Array, activate: bool) -> jax.Array:
    """``elu(conv(x, kernel) + bias)``, the ELU only if ``activate``.

    Args:
        x: ``[G, in, height, width, n]``.
        kernel: ``[k, k, in, out]``.
        bias: ``[out]``.

    Returns:
        ``[G, out, (height - k) // 2 + 1, (width - k) // 2 + 1, n]``.
    """

    def block(x: jax.Array) -> jax.Array:
        return _finish(_gather(kernel, _patches(x, kernel.shape[0])), bias, activate)

    return jax.lax.map(block, x)


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def conv_transpose(x: jax.Array, kernel: jax.Array, bias: jax.Array, activate: bool) -> jax.Array:
    """``elu(conv_transpose(x, kernel) + bias)``, the ELU only if ``activate``.

    Args:
        x: ``[G, in, height, width, n]``.
        kernel: ``[k, k, in, out]``.
        bias: ``[out]``.

    Returns:
        ``[G, out, 2 * height + k - 2, 2 * width + k - 2, n]``.
    """
    phases = jax.lax.map(partial(_spread, kernel.swapaxes(2, 3)), x)
    image = _interleave(phases)[:, :, : _spread_size(x, 2, kernel), : _spread_size(x, 3, kernel)]
    return jax.vmap(partial(_finish, bias=bias, activate=activate))(image)


def _conv_fwd(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, activate: bool
) -> tuple[jax.Array, Saved]:
    y = conv(x, kernel, bias, activate)
    return y, (x, kernel, y)


def _conv_bwd(
    activate: bool, saved: Saved, dy: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, kernel, y = saved

    def block(
        sums: tuple[jax.Array, jax.Array], arrays: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        x, y, dy = arrays
        dz = _activation_gradient(y, dy, activate)
        dkernel = _kernel_gradient(_patches(x, kernel.shape[0]), dz)
        return (sums[0] + dkernel, sums[1] + jnp.sum(dz, axis=(1, 2, 3))), _spread(kernel, dz)

    start = (jnp.zeros_like(kernel), jnp.zeros(kernel.shape[-1], kernel.dtype))
    (dkernel, dbias), phases = jax.lax.scan(block, start, (x, y, dy))
    # The last row and column of an odd image reach no output.
    dx = _interleave(phases)
    dx = jnp.pad(dx, [(0, max(0, have - got)) for have, got in zip(x.shape, dx.shape)])
    return dx[:, :, : x.shape[2], : x.shape[3]], dkernel, dbias


def _conv_transpose_fwd(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, activate: bool
) -> tuple[jax.Array, Saved]:
    y = conv_transpose(x, kernel, bias, activate)
    return y, (x, kernel, y)


def _conv_transpose_bwd(
    activate: bool, saved: Saved, dy: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, kernel, y = saved
    kernel = kernel.swapaxes(2, 3)

    def block(
        sums: tuple[jax.Array, jax.Array], arrays: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        x, y, dy = arrays
        dz = _activation_gradient(y, dy, activate)
        patches = _patches(dz, kernel.shape[0])
        dkernel = _kernel_gradient(patches, x)
        dbias = jnp.sum(dz, axis=(1, 2, 3))
        return (sums[0] + dkernel, sums[1] + dbias), _gather(kernel, patches)

    start = (jnp.zeros_like(kernel), jnp.zeros(kernel.shape[2], kernel.dtype))
    (dkernel, dbias), dx = jax.lax.scan(block, start, (x, y, dy))
    return dx, dkernel.swapaxes(2, 3), dbias


conv.defvjp(_conv_fwd, _conv_bwd)
conv_transpose.defvjp(_conv_transpose_fwd, _conv_transpose_bwd)


def _finish(z: jax.Array, bias: jax.Array, activate: bool) -> jax.Array:
    z = z + jax.lax.broadcast_in_dim(bias, z.shape, (0,))
    return elu(z) if activate else z


def _activation_gradient(y: jax.Array, dy: jax.Array, activate: bool) -> jax.Array:
    return dy * jnp.minimum(y + 1.0, 1.0) if activate else dy


def _patches(x: jax.Array, k: int) -> jax.Array:
    """``[C, height, width, n] -> [k, k, C, h, w, n]``, the pixel under each tap of the kernel.

    First the columns, then the rows: the second copy, k times as large, moves whole rows.
    """
    h, w = (x.shape[1] - k) // 2 + 1, (x.shape[2] - k) // 2 + 1
    columns = jnp.stack([x[:, :, q : q + 2 * w - 1 : 2] for q in range(k)])
    return jnp.stack([columns[:, :, p : p + 2 * h - 1 : 2] for p in range(k)])


def _gather(kernel: jax.Array, patches: jax.Array) -> jax.Array:
    """``K^T patches``: ``[k, k, C, D], [k, k, C, h, w, n] -> [D, h, w, n]``."""
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


def _spread(kernel: jax.Array, y: jax.Array) -> jax.Array:
    """``spread(K y)``, before its pixels are put in order by `_interleave`.

    Output pixels of equal parity of row and column form an image of their own: in each, input
    pixels reach their neighbours only, and adding them up needs no strides.

    Args:
        kernel: ``[k, k, C, D]``.
        y: ``[D, h, w, n]``.

    Returns:
        ``[2, 2, C, h + reach, w + reach, n]`` with ``reach = (k - 1) // 2``.
    """
    (k, _, channels, features), (_, h, w, n) = kernel.shape, y.shape
    taps = (k + 1) // 2
    odd = 2 * taps - k  # an odd kernel is padded by one tap
    kernel = jnp.pad(kernel, ((0, odd), (0, odd), (0, 0), (0, 0)))
    matrix = kernel.reshape(taps, 2, taps, 2, channels, features).swapaxes(1, 2)
    product = matrix.reshape(-1, features) @ y.reshape(features, -1)
    product = product.reshape(taps, taps, 4 * channels, h, w, n)
    shifted = [
        jnp.pad(product[p, q], ((0, 0), (p, taps - 1 - p), (q, taps - 1 - q), (0, 0)))
        for p in range(taps)
        for q in range(taps)
    ]
    phases = reduce(jnp.add, shifted)
    return phases.reshape(2, 2, channels, h + taps - 1, w + taps - 1, n)


def _spread_size(x: jax.Array, axis: int, kernel: jax.Array) -> int:
    return 2 * x.shape[axis] + kernel.shape[0] - 2


def _interleave(phases: jax.Array) -> jax.Array:
    """``[G, 2, 2, C, height, width, n] -> [G, C, 2 * height, 2 * width, n]``."""
    blocks, _, _, channels, height, width, n = phases.shape
    return phases.transpose(0, 3, 4, 1, 5, 2, 6).reshape(blocks, channels, 2 * height, 2 * width, n)
