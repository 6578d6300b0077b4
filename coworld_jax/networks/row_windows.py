"""Small convolutions with ReLU as matrix products, for CPUs: images in blocks, rows outermost.

They are for what `networks.direct` cannot do: few images, no C++ compiler.

``x[G, height, C, width, n]`` holds G blocks of n images. The k taps of a kernel's row are laid side
by side once, ``[height, k * C, width' * n]``; then the k rows of input under one row of output are
one run of contiguous memory, a matrix ``[k * k * C, width' * n]`` that need not be gathered, and
one row of output is one product with the kernel. Pixels are copied k times, not k * k times.

XLA runs the stock convolution of these layers on a CPU at a tenth of the rate of a matrix product,
and its gradient of the kernel at a fiftieth. ``experiments.benchmarks.pixels`` measures the whole.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

BLOCK = 32  # images: the windows of one output row stay in the caches

Saved = tuple[jax.Array, jax.Array, jax.Array]


def split(x: jax.Array) -> jax.Array:
    """``[N, height, width, C]`` to blocks ``[G, height, C, width, n]``, the last one padded."""
    size = min(BLOCK, x.shape[0])
    blocks = -(-x.shape[0] // size)
    x = jnp.pad(x, ((0, blocks * size - x.shape[0]), (0, 0), (0, 0), (0, 0)))
    return x.reshape(blocks, size, *x.shape[1:]).transpose(0, 2, 4, 3, 1)


def join(blocks: jax.Array, images: int) -> jax.Array:
    """The inverse of `split`: ``[G, height, C, width, n] -> [N, height, width, C]``."""
    x = blocks.transpose(0, 4, 1, 3, 2)
    return x.reshape(-1, *x.shape[2:])[:images]


@partial(jax.custom_vjp, nondiff_argnums=(3,))
def conv_relu(x: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int) -> jax.Array:
    """``relu(conv(x, kernel) + bias)`` without padding.

    Args:
        x: ``[G, height, in, width, n]``.
        kernel: ``[k, k, in, out]``.
        bias: ``[out]``.

    Returns:
        ``[G, (height - k) // stride + 1, out, (width - k) // stride + 1, n]``.
    """

    def finish(z: jax.Array) -> jax.Array:
        return jax.nn.relu(z + jnp.broadcast_to(bias[:, None], z.shape))

    def block(x: jax.Array) -> jax.Array:
        windows, (height, width) = _Windows(x, kernel.shape[0], stride), _sizes(x, kernel, stride)
        matrix = _matrix(kernel)
        rows = jax.lax.map(lambda i: finish(matrix @ windows.at(i)), jnp.arange(height))
        return rows.reshape(height, kernel.shape[-1], width, x.shape[-1])

    return jax.lax.map(block, x)


def _conv_fwd(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int
) -> tuple[jax.Array, Saved]:
    y = conv_relu(x, kernel, bias, stride)
    return y, (x, kernel, y)


def _conv_bwd(stride: int, saved: Saved, dy: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, kernel, y = saved
    dz = jnp.where(y > 0.0, dy, 0.0)
    dbias = jnp.sum(dz, axis=(0, 1, 3, 4))
    return (
        _image_gradient(dz, kernel, stride, x.shape),
        _kernel_gradient(x, dz, kernel, stride),
        dbias,
    )


conv_relu.defvjp(_conv_fwd, _conv_bwd)


def _kernel_gradient(x: jax.Array, dz: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    """``Σ window · dz^T`` over all rows of output."""
    k, features = kernel.shape[0], kernel.shape[-1]

    def block(total: jax.Array, arrays: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        x, dz = arrays
        windows = _Windows(x, k, stride)

        def row(total: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
            i, dz = inputs
            return total + jnp.einsum("dm,wm->wd", dz.reshape(features, -1), windows.at(i)), None

        return jax.lax.scan(row, total, (jnp.arange(dz.shape[0]), dz))

    total, _ = jax.lax.scan(block, jnp.zeros((kernel.size // features, features)), (x, dz))
    return total.reshape(kernel.shape)


def _image_gradient(
    dz: jax.Array, kernel: jax.Array, stride: int, shape: tuple[int, ...]
) -> jax.Array:
    """The convolution of dz, spread by the stride and padded, with the kernel turned round."""
    k = kernel.shape[0]
    sizes = {axis: shape[axis] for axis in (1, 3)}
    # Rows and columns that no window reaches are padded at the end.
    padding = [
        (k - 1, size - (stride * (dz.shape[axis] - 1) + 1), stride - 1)
        for axis, size in sizes.items()
    ]
    none = (0, 0, 0)
    spread = jax.lax.pad(dz, jnp.zeros((), dz.dtype), (none, padding[0], none, padding[1], none))
    turned = kernel[::-1, ::-1].swapaxes(2, 3)

    def block(x: jax.Array) -> jax.Array:
        windows, (height, width) = _Windows(x, k, 1), _sizes(x, turned, 1)
        matrix = _matrix(turned)
        rows = jax.lax.map(lambda i: matrix @ windows.at(i), jnp.arange(height))
        return rows.reshape(height, turned.shape[-1], width, x.shape[-1])

    return jax.lax.map(block, spread)


class _Windows:
    """The inputs under each row of output, as columns of a matrix."""

    def __init__(self, x: jax.Array, k: int, stride: int) -> None:
        """Lay the taps side by side, for ``x[height, C, width, n]``."""
        height, channels, columns, n = x.shape
        width = (columns - k) // stride + 1
        taps = [x[:, :, q : q + stride * (width - 1) + 1 : stride] for q in range(k)]
        self._rows = jnp.stack(taps, axis=1).reshape(height * k * channels, width * n)
        self._each, self._k, self._stride = k * channels, k, stride

    def at(self, row: jax.Array) -> jax.Array:
        """``[k * k * C, width' * n]`` under one row of output."""
        start = row * self._stride * self._each
        return jax.lax.dynamic_slice_in_dim(self._rows, start, self._k * self._each)


def _matrix(kernel: jax.Array) -> jax.Array:
    """``[k, k, in, out] -> [out, k * k * in]``."""
    return kernel.reshape(-1, kernel.shape[-1]).T


def _sizes(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[int, int]:
    """Height and width of the output of ``x[height, C, width, n]``."""
    k = kernel.shape[0]
    return (x.shape[0] - k) // stride + 1, (x.shape[2] - k) // stride + 1
