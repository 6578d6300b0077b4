"""Stride-2 convolution layers as matrix products, for CPUs: images in blocks, batch innermost.

They are for what `networks.direct` cannot do: bfloat16, few images, no C++ compiler.

``x[G, C, height, width, n]`` holds G blocks of n images. A patch is then a run of contiguous
memory, so that gathering patches and adding overlapping ones are vectorised copies; and as a loop
takes one block after another, its patches, k * k / 4 times the image, stay in the caches.

Measured on two CPU cores, depth 12, 256 images, forward and backward: the encoder takes 35 ms, 54
as products with channels last; the decoder 50 instead of 205. That was with blocks of 16 images.
The fewer images a block has, the more of its patches stay in the caches, and the more often the
kernels are read; `images_of_block` decides.

XLA fuses an element-wise pass into the copies behind it, once per tap, whatever barrier stands
between them; only a loop ends a fusion. Hence one loop per layer.

With ``patches(x)`` the k x k windows of x in steps of two, as columns of a matrix:

* convolution ``z = K^T patches(x)``; gradients ``dK = patches(x) dz^T``, ``dx = spread(K dz)``;
* transposed ``z = spread(K x)``; gradients ``dK = patches(dz) x^T``, ``dx = K^T patches(dz)``,

where ``spread`` adds windows where they overlap: the adjoint of ``patches``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp

from coworld_jax.networks.layers import elu, elu_gradient

BLOCK = 16  # images; the patches of a layer fit the L3 cache
NARROW_BLOCK = 8  # where the kernels are small
_NARROW = 2**17  # weights of a stack: half a megabyte, which an L2 cache holds

Saved = tuple[jax.Array, jax.Array, jax.Array]


def images_of_block(kernels: Sequence[jax.Array]) -> int:
    """How many images a block has in a stack of layers: few if all its kernels stay in a cache.

    With blocks of 8 instead of 16 images, an update of ``planar`` (depth 4) takes 0.89 of the time
    on two CPU cores and 0.8 on one, ``small`` 0.99, and ``released``, with 3 MB of kernels, 1.01 to
    1.06. Blocks of 4 are better on one core, and not always on two.
    """
    return NARROW_BLOCK if sum(kernel.size for kernel in kernels) <= _NARROW else BLOCK


def split(x: jax.Array, size: int = BLOCK) -> jax.Array:
    """``[N, height, width, C]`` to blocks ``[G, C, height, width, n]``, the last one padded.

    Args:
        size: images of a block, if there are so many.
    """
    size = min(size, x.shape[0])
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
        bias: ``[out]``, float32.

    Returns:
        ``[G, out, (height - k) // 2 + 1, (width - k) // 2 + 1, n]``.
    """
    k, features = kernel.shape[0], kernel.shape[-1]
    height, width = ((size - k) // 2 + 1 for size in x.shape[2:4])
    matrix = kernel.reshape(-1, features).T

    def block(columns: jax.Array) -> jax.Array:
        return _finish(matrix @ _patches(columns, k, height, width), bias, activate)

    y = jax.lax.map(block, _split_columns(x, k, width))
    return y.reshape(-1, features, height, width, x.shape[-1])


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def conv_transpose(x: jax.Array, kernel: jax.Array, bias: jax.Array, activate: bool) -> jax.Array:
    """``elu(conv_transpose(x, kernel) + bias)``, the ELU only if ``activate``.

    Args:
        x: ``[G, in, height, width, n]``.
        kernel: ``[k, k, in, out]``.
        bias: ``[out]``, float32.

    Returns:
        ``[G, out, 2 * height + k - 2, 2 * width + k - 2, n]``.
    """
    k = kernel.shape[0]

    def block(x: jax.Array) -> jax.Array:
        return _finish(_spread(kernel.swapaxes(2, 3), x), jnp.tile(bias, 4), activate)

    _, _, height, width, n = x.shape
    phases = jax.lax.map(block, x)
    return _interleave(phases, 2 * height + k - 2, 2 * width + k - 2, n)


def _conv_fwd(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, activate: bool
) -> tuple[jax.Array, Saved]:
    y = conv(x, kernel, bias, activate)
    return y, (x, kernel, y)


def _conv_bwd(
    activate: bool, saved: Saved, dy: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, kernel, y = saved
    (k, _, _, features), (height, width) = kernel.shape, y.shape[2:4]

    def block(
        sums: tuple[jax.Array, jax.Array], arrays: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        columns, y, dy = arrays
        dz = _activation_gradient(y, dy, activate)
        dkernel = _outer(_patches(columns, k, height, width), dz.reshape(features, -1))
        dbias = jnp.sum(dz, axis=(1, 2, 3), dtype=jnp.float32)
        return (sums[0] + dkernel, sums[1] + dbias), _spread(kernel, dz)

    start = (jnp.zeros((kernel.size // features, features)), jnp.zeros(features))
    (dkernel, dbias), phases = jax.lax.scan(block, start, (_split_columns(x, k, width), y, dy))
    dkernel = dkernel.reshape(kernel.shape).astype(kernel.dtype)
    return _interleave(phases, *x.shape[2:]), dkernel, dbias


def _conv_transpose_fwd(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, activate: bool
) -> tuple[jax.Array, Saved]:
    y = conv_transpose(x, kernel, bias, activate)
    return y, (x, kernel, y)


def _conv_transpose_bwd(
    activate: bool, saved: Saved, dy: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, kernel, y = saved
    (k, _, channels, features), (height, width) = kernel.shape, x.shape[2:4]
    matrix = kernel.swapaxes(2, 3).reshape(-1, channels)

    def block(
        sums: tuple[jax.Array, jax.Array], arrays: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        x, columns = arrays
        patches = _patches(columns, k, height, width)
        dbias = jnp.sum(columns, axis=(0, 2, 3), dtype=jnp.float32)
        dkernel = _outer(patches, x.reshape(channels, -1))
        return (sums[0] + dkernel, sums[1] + dbias), matrix.T @ patches

    start = (jnp.zeros(matrix.shape), jnp.zeros(features))
    columns = _split_columns(_activation_gradient(y, dy, activate), k, width)
    (dkernel, dbias), dx = jax.lax.scan(block, start, (x, columns))
    dkernel = dkernel.reshape(k, k, features, channels).swapaxes(2, 3).astype(kernel.dtype)
    return dx.reshape(x.shape), dkernel, dbias


conv.defvjp(_conv_fwd, _conv_bwd)
conv_transpose.defvjp(_conv_transpose_fwd, _conv_transpose_bwd)


def _finish(z: jax.Array, bias: jax.Array, activate: bool) -> jax.Array:
    z = z + jax.lax.broadcast_in_dim(bias, z.shape, (0,)).astype(z.dtype)
    return elu(z) if activate else z


def _activation_gradient(y: jax.Array, dy: jax.Array, activate: bool) -> jax.Array:
    return elu_gradient(y, dy) if activate else dy


def _outer(a: jax.Array, b: jax.Array) -> jax.Array:
    """``a b^T`` over the pixels, in float32: ``[A, M], [B, M] -> [A, B]``."""
    return jnp.einsum("bm,am->ab", b, a, preferred_element_type=jnp.float32)


def _split_columns(x: jax.Array, k: int, width: int) -> jax.Array:
    """Even and odd columns apart, as far as ``width`` windows of k columns reach.

    The pixels under one tap of the kernel are then neighbours: whole rows are copied at once.

    Args:
        x: ``[G, C, height, columns, n]``.

    Returns:
        ``[G, 2, C, height, (width + reach) * n]`` with ``reach = (k - 1) // 2``.
    """
    blocks, channels, height, columns, n = x.shape
    half = width + (k - 1) // 2
    keep = ((0, 0, 0),) * 3 + ((0, 2 * half - columns, 0), (0, 0, 0))
    x = jax.lax.pad(x, jnp.zeros((), x.dtype), keep)
    x = x.reshape(blocks, channels, height, half, 2, n).transpose(0, 4, 1, 2, 3, 5)
    return x.reshape(blocks, 2, channels, height, half * n)


def _patches(columns: jax.Array, k: int, height: int, width: int) -> jax.Array:
    """The pixel under each tap of the kernel, for every window.

    First the columns of the taps, then their rows: two small copies cost less than one that XLA
    makes of k * k slices.

    Args:
        columns: ``[2, C, rows, (width + reach) * n]``, from `_split_columns`.

    Returns:
        ``[k * k * C, height * width * n]``.
    """
    _, channels, rows, length = columns.shape
    n = length // (width + (k - 1) // 2)
    taps = [columns[q % 2, :, :, q // 2 * n : (q // 2 + width) * n] for q in range(k)]
    across = jnp.stack(taps).reshape(k * channels, rows, width * n)
    both = jnp.stack([across[:, p : p + 2 * height - 1 : 2] for p in range(k)])
    return both.reshape(k * k * channels, height * width * n)


def _spread(kernel: jax.Array, y: jax.Array) -> jax.Array:
    """``spread(K y)``, before its pixels are put in order by `_interleave`.

    Output pixels of equal parity of row and column form an image of their own: in each, input
    pixels reach their neighbours only, and adding them up needs no strides.

    Args:
        kernel: ``[k, k, C, D]``.
        y: ``[D, h, w, n]``.

    Returns:
        ``[2 * 2 * C, h + reach, (w + reach) * n]`` with ``reach = (k - 1) // 2``.
    """
    (k, _, channels, features), (_, h, w, n) = kernel.shape, y.shape
    taps = (k + 1) // 2
    odd = 2 * taps - k  # an odd kernel is padded by one tap
    kernel = jnp.pad(kernel, ((0, odd), (0, odd), (0, 0), (0, 0)))
    matrix = kernel.reshape(taps, 2, taps, 2, channels, features).swapaxes(1, 2)
    product = matrix.reshape(-1, features) @ y.reshape(features, -1)
    product = product.reshape(taps, taps, 4 * channels, h, w * n)
    shifted = [
        jnp.pad(product[p, q], ((0, 0), (p, taps - 1 - p), (q * n, (taps - 1 - q) * n)))
        for p in range(taps)
        for q in range(taps)
    ]
    return reduce(jnp.add, shifted)


def _interleave(phases: jax.Array, height: int, width: int, n: int) -> jax.Array:
    """``[G, 2 * 2 * C, rows, columns * n] -> [G, C, height, width, n]``, cropped or zero-padded."""
    blocks, channels, rows, length = phases.shape
    image = phases.reshape(blocks, 2, 2, channels // 4, rows, length // n, n)
    image = image.transpose(0, 3, 4, 1, 5, 2, 6)
    image = image.reshape(blocks, channels // 4, 2 * rows, 2 * length // n, n)
    keep = ((0, height - image.shape[2], 0), (0, width - image.shape[3], 0))
    return jax.lax.pad(image, jnp.zeros((), image.dtype), ((0, 0, 0), (0, 0, 0), *keep, (0, 0, 0)))
