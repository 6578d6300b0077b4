"""Direct convolutions and small products for CPUs, from C++: images in blocks, batch innermost.

On a CPU, XLA's own convolutions run far below the rate of a matrix product, and products of patches
run at the rate at which patches are copied. The functions of ``direct.cc`` copy no patches. A layer
of stride s needs three sums, for kernels ``K[p, q, c, f]`` without padding:

* ``gather(x, K)[i, j, f] = Σ_{p, q, c} x[s i + p, s j + q, c] K[p, q, c, f]``;
* ``spread(z, K)[u, v, c] = Σ_{s i + p = u, s j + q = v, f} z[i, j, f] K[p, q, c, f]``;
* ``correlate(x, z)[p, q, c, f] = Σ_{i, j} x[s i + p, s j + q, c] z[i, j, f]``.

A convolution is ``gather(x, K)``, with the gradients ``dx = spread(dz, K)`` and ``dK = correlate(x,
dz)``. A transposed one is ``spread(x, K')``, where K' has its channels exchanged, with ``dx =
gather(dz, K')`` and ``dK' = correlate(dz, x)``.

``spread_errors`` subtracts an image from what it has made. `multiply_rows` computes the gradient of
a small dense layer's kernel.

`training.native` compiles the library and registers its functions here. `fits` says what they can
do; all other layers on a CPU are products (`batch_last`, `row_windows`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

Saved = tuple[jax.Array, jax.Array, jax.Array]

_ACTIVATIONS = {"none": 0, "elu": 1, "relu": 2}  # Activation in lanes.h
_MOST_TAPS = 8  # kMostTaps in direct.cc: rows of a kernel
FUNCTIONS = (
    "gather",
    "spread",
    "spread_errors",
    "correlate",
    "deactivate",
    "multiply_rows",
    "split",
    "join",
)
_LARGEST_KERNEL = 2**18  # values of the result: 1 MB, which an L2 cache holds
_MOST_VALUES = 2**19  # of both arrays
_registered: list[int] = []  # images in a block; empty before XLA knows the functions


def register(functions: Mapping[str, Any], images: int) -> None:
    """Give XLA the functions; what is traced from now on uses them.

    Args:
        functions: for each of `FUNCTIONS` a handler, as `jax.ffi.pycapsule` makes it.
        images: in a block.
    """
    for name in FUNCTIONS:
        jax.ffi.register_ffi_target(_target(name), functions[name], platform="cpu")
    _registered[:] = [images]


def fits(x: jax.Array, kernels: Sequence[jax.Array]) -> bool:
    """Whether there is a library that computes the layers, and images ``[N, ...]`` fill a block.

    A block that is mostly padding, as for the few images that a policy sees, is no gain.
    """
    if not _registered or x.shape[0] < _registered[0]:
        return False
    small = all(kernel.shape[0] <= _MOST_TAPS for kernel in kernels)
    return small and all(array.dtype == jnp.float32 for array in (x, *kernels))


def split(x: jax.Array) -> jax.Array:
    """``[N, height, width, C]`` to blocks ``[G, height, width, C, n]``, the last one padded."""
    (size,) = _registered
    blocks = -(-x.shape[0] // size)
    x = jnp.pad(x, ((0, blocks * size - x.shape[0]), (0, 0), (0, 0), (0, 0)))
    return _images_innermost(x.reshape(blocks, size, *x.shape[1:]))


def join(blocks: jax.Array, images: int) -> jax.Array:
    """The inverse of `split`: ``[G, height, width, C, n] -> [N, height, width, C]``."""
    x = _images_outermost(blocks)
    return x.reshape(-1, *x.shape[2:])[:images]


@jax.custom_vjp
def _images_innermost(x: jax.Array) -> jax.Array:
    """``[G, n, height, width, C] -> [G, height, width, C, n]``.

    C++ transposes squares of n x n values in registers, here and in `_images_outermost`.
    """
    count, size, *pixels = x.shape
    values = math.prod(pixels)
    call = _call("split", _array(count, values, size))
    return call(x.reshape(count, size, values)).reshape(count, *pixels, size)


@jax.custom_vjp
def _images_outermost(blocks: jax.Array) -> jax.Array:
    """``[G, height, width, C, n] -> [G, n, height, width, C]``."""
    count, *pixels, size = blocks.shape
    values = math.prod(pixels)
    call = _call("join", _array(count, size, values))
    return call(blocks.reshape(count, values, size)).reshape(count, size, *pixels)


# Each is the other's gradient.
_images_innermost.defvjp(
    lambda x: (_images_innermost(x), None), lambda _, dy: (_images_outermost(dy),)
)
_images_outermost.defvjp(
    lambda blocks: (_images_outermost(blocks), None), lambda _, dx: (_images_innermost(dx),)
)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def conv(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int, activation: str
) -> jax.Array:
    """``f(conv(x, kernel) + bias)``, where ``f`` is "none", "elu" or "relu".

    Args:
        x: ``[G, height, width, in, n]``.
        kernel: ``[k, k, in, out]``.
        bias: ``[out]``.

    Returns:
        ``[G, (height - k) // stride + 1, (width - k) // stride + 1, out, n]``. **Gradient:** to
        ``x``, ``kernel`` and ``bias``.

    Raises:
        ValueError: the kernel is larger than the images, or than `fits` allows.
    """
    _check(x, kernel, bias)
    if min(x.shape[1:3]) < kernel.shape[0]:
        raise ValueError(
            f"Images of {x.shape[1]}x{x.shape[2]} pixels are smaller than a kernel of "
            f"{kernel.shape[0]}x{kernel.shape[0]}: use larger images or fewer layers."
        )
    sizes = [(size - kernel.shape[0]) // stride + 1 for size in x.shape[1:3]]
    return _layer("gather", x, kernel, bias, sizes, stride, activation)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def conv_transpose(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int, activation: str
) -> jax.Array:
    """``f(conv_transpose(x, kernel) + bias)``, where ``f`` is "none", "elu" or "relu".

    Args:
        x: ``[G, height, width, in, n]``.
        kernel: ``[k, k, in, out]``.
        bias: ``[out]``.

    Returns:
        ``[G, stride * (height - 1) + k, stride * (width - 1) + k, out, n]``. **Gradient:** to
        ``x``, ``kernel`` and ``bias``.

    Raises:
        ValueError: the kernel is larger than `fits` allows.
    """
    _check(x, kernel, bias)
    sizes = _transposed_shape(x, kernel, stride)[1:3]
    return _layer("spread", x, kernel.swapaxes(2, 3), bias, sizes, stride, activation)


@partial(jax.custom_vjp, nondiff_argnums=(4,))
def squared_errors(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, image: jax.Array, stride: int
) -> jax.Array:
    """``Σ (conv_transpose(x, kernel) + bias - image)²`` over the values of each image.

    Args:
        x: ``[G, height, width, in, n]``.
        kernel: ``[k, k, in, out]``.
        bias: ``[out]``.
        image: data, of the shape that `conv_transpose` returns.

    Returns:
        ``[G, n]``. **Gradient:** to ``x``, ``kernel`` and ``bias``.

    Raises:
        ValueError: the kernel is larger than `fits` allows.
    """
    return _squared_errors_fwd(x, kernel, bias, image, stride)[0]


def fits_product(x: jax.Array, z: jax.Array) -> bool:
    """Whether `multiply_rows` is faster than XLA: float32, and arrays that stay in the caches."""
    small = x.shape[-1] * z.shape[-1] <= _LARGEST_KERNEL and x.size + z.size <= _MOST_VALUES
    return bool(_registered) and small and x.dtype == z.dtype == jnp.float32


def multiply_rows(x: jax.Array, z: jax.Array) -> jax.Array:
    """``xᵀ z``, summed over rows: ``[N, in], [N, out] -> [in, out]``. No gradient."""
    chex.assert_rank([x, z], 2)
    chex.assert_equal_shape_prefix([x, z], 1)
    chex.assert_type([x, z], jnp.float32)
    return _call("multiply_rows", _array(x.shape[1], z.shape[1]))(x, z)


def _check(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> None:
    """The functions read memory as these shapes and types say."""
    k, channels = kernel.shape[0], x.shape[3]
    chex.assert_shape(x, (None, None, None, channels, *_registered))
    chex.assert_shape(kernel, (k, k, channels, None))
    chex.assert_shape(bias, kernel.shape[3:])
    chex.assert_type([x, kernel, bias], jnp.float32)
    if k > _MOST_TAPS:
        raise ValueError(f"A kernel of {k} rows is larger than the largest one, {_MOST_TAPS}.")


def _conv_fwd(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int, activation: str
) -> tuple[jax.Array, Saved]:
    y = conv(x, kernel, bias, stride, activation)
    return y, (x, kernel, y)


def _conv_bwd(
    stride: int, activation: str, saved: Saved, dy: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, kernel, y = saved
    dz, dbias = _deactivate(y, dy, activation)
    none = jnp.zeros(kernel.shape[2], jnp.float32)
    dx = _layer("spread", dz, kernel, none, x.shape[1:3], stride, "none")
    return dx, _correlate(x, dz, kernel.shape[0], stride), dbias


def _conv_transpose_fwd(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, stride: int, activation: str
) -> tuple[jax.Array, Saved]:
    y = conv_transpose(x, kernel, bias, stride, activation)
    return y, (x, kernel, y)


def _conv_transpose_bwd(
    stride: int, activation: str, saved: Saved, dy: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    x, kernel, y = saved
    dz, dbias = _deactivate(y, dy, activation)
    return *_transposed_gradients(x, kernel, dz, stride), dbias


def _transposed_gradients(
    x: jax.Array, kernel: jax.Array, dz: jax.Array, stride: int
) -> tuple[jax.Array, jax.Array]:
    """dx and dK of a transposed convolution ``z`` from that of ``z``."""
    none = jnp.zeros(kernel.shape[2], jnp.float32)
    dx = _layer("gather", dz, kernel.swapaxes(2, 3), none, x.shape[1:3], stride, "none")
    return dx, _correlate(dz, x, kernel.shape[0], stride).swapaxes(2, 3)


conv.defvjp(_conv_fwd, _conv_bwd)
conv_transpose.defvjp(_conv_transpose_fwd, _conv_transpose_bwd)


def _squared_errors_fwd(
    x: jax.Array, kernel: jax.Array, bias: jax.Array, image: jax.Array, stride: int
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    _check(x, kernel, bias)
    shape = _transposed_shape(x, kernel, stride)
    chex.assert_shape(image, shape)
    chex.assert_type(image, jnp.float32)
    blocks, *_, features, size = shape
    result = (_array(*shape), _array(blocks, features, size), _array(blocks, size))
    call = _call("spread_errors", result)
    errors, sums, squares = call(x, kernel.swapaxes(2, 3), bias, image, stride=np.int64(stride))
    return squares, (x, kernel, errors, sums)


def _squared_errors_bwd(
    stride: int, saved: tuple[jax.Array, ...], dsquares: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, None]:
    """With ``dz = 2 dsquares errors``; the factor is applied to the small ``x`` and ``dx``."""
    x, kernel, errors, sums = saved
    factor = 2.0 * dsquares
    of_images = jax.lax.broadcast_in_dim(factor, x.shape, (0, 4))
    dx, dkernel = _transposed_gradients(of_images * x, kernel, errors, stride)
    return of_images * dx, dkernel, jnp.einsum("gn,gfn->f", factor, sums), None


squared_errors.defvjp(_squared_errors_fwd, _squared_errors_bwd)


def _transposed_shape(x: jax.Array, kernel: jax.Array, stride: int) -> tuple[int, ...]:
    """The shape of what `conv_transpose` returns."""
    height, width = (stride * (size - 1) + kernel.shape[0] for size in x.shape[1:3])
    return x.shape[0], height, width, kernel.shape[3], x.shape[4]


def _layer(
    function: str,
    x: jax.Array,
    kernel: jax.Array,
    bias: jax.Array,
    sizes: Sequence[int],
    stride: int,
    activation: str,
) -> jax.Array:
    """``gather`` or ``spread`` with bias ``[out]`` and activation, ``[G, *sizes, out, n]``."""
    call = _call(function, _array(x.shape[0], *sizes, bias.shape[0], x.shape[4]))
    return call(x, kernel, bias, stride=np.int64(stride), activation=_code(activation))


def _correlate(x: jax.Array, z: jax.Array, k: int, stride: int) -> jax.Array:
    """``[G, H, W, c, n], [G, h, w, f, n]`` to ``[k, k, c, f]``."""
    call = _call("correlate", _array(k, k, x.shape[3], z.shape[3]))
    return call(x, z, stride=np.int64(stride))


def _deactivate(y: jax.Array, dy: jax.Array, activation: str) -> tuple[jax.Array, jax.Array]:
    """The gradient of z from that of ``y = f(z)``, and its sum for each channel."""
    if activation == "none":
        return dy, jnp.sum(dy, (0, 1, 2, 4))
    call = _call("deactivate", (_array(*y.shape), _array(y.shape[3])))
    return call(y, dy, activation=_code(activation))


def _call(name: str, result: Any) -> Callable[..., Any]:
    """One of `FUNCTIONS`; over a mapped axis it is called once for each."""
    return jax.ffi.ffi_call(_target(name), result, vmap_method="sequential")


def _array(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _code(activation: str) -> np.int64:
    return np.int64(_ACTIVATIONS[activation])


def _target(name: str) -> str:
    return f"coworld_jax.{name}"
