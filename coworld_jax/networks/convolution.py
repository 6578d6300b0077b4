"""Stacks of convolutions without padding, in the form that is fastest for the platform.

`convolve` and `convolve_transpose` are the equations: each layer is
``f(conv(x, kernel) + bias)`` with ``f`` ELU or ReLU; `convolve_pixels` has kernels of 3 and strides
of 1 too. `squared_errors` compares what `convolve_transpose` makes with images. Kernels are
``[height, width, in, out]`` in every form, so weights do not depend on it.
Other platforms run the stock convolutions. XLA for a CPU runs gradients and transposed convolutions
far below the matrix units; there the layers are computed in C++ (`direct`), or, without it, as
matrix products (`batch_last`, `row_windows`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from coworld_jax.networks import batch_last, direct, row_windows
from coworld_jax.networks.layers import elu, for_each_row

ACTIVATIONS: dict[str, Callable[[jax.Array], jax.Array]] = {"elu": elu, "relu": jax.nn.relu}

_LAYOUT = ("NHWC", "HWIO", "NHWC")

Layers = Sequence[tuple[jax.Array, jax.Array]]  # (kernel [k, k, in, out], float32 bias [out])


def convolve(x: jax.Array, layers: Layers, activation: str = "elu") -> jax.Array:
    """Convolutions of stride 2, ``f`` after each.

    ``x <- f(conv(x, kernel) + bias)``, where
    ``conv(x, kernel)[i, j] = Σ_{p, q} x[2i + p, 2j + q] kernel[p, q]``.

    Args:
        x: ``[N, height, width, in]``.
        layers: kernel and bias of each layer.
        activation: ``f``, one of `ACTIVATIONS`.

    Returns:
        ``[N, height', width', out]``; each layer makes ``(size - k) // 2 + 1`` of a size.
    """
    chex.assert_rank(x, 4)
    return jax.lax.platform_dependent(
        x,
        tuple(layers),
        cpu=partial(FORMS[_on_cpu(x, layers, "blocks")].convolve, activation=activation),
        default=partial(FORMS["stock"].convolve, activation=activation),
    )


def convolve_transpose(x: jax.Array, layers: Layers, activation: str = "elu") -> jax.Array:
    """Transposed convolutions of stride 2, ``f`` after each but the last.

    ``x <- f(conv_transpose(x, kernel) + bias)``, where
    ``conv_transpose(x, kernel)[u, v] = Σ_{2i + p = u, 2j + q = v} x[i, j] kernel[p, q]``.

    Args:
        x: ``[N, height, width, in]``.
        layers: kernel and bias of each layer.
        activation: ``f``, one of `ACTIVATIONS`.

    Returns:
        ``[N, height', width', out]``; each layer makes ``2 * size + k - 2`` of a size.
    """
    chex.assert_rank(x, 4)
    return jax.lax.platform_dependent(
        x,
        tuple(layers),
        cpu=partial(FORMS[_on_cpu(x, layers, "blocks")].convolve_transpose, activation=activation),
        default=partial(FORMS["stock"].convolve_transpose, activation=activation),
    )


def squared_errors(
    x: jax.Array, layers: Layers, image: jax.Array, activation: str = "elu"
) -> jax.Array:
    """``Σ (image - convolve_transpose(x, layers))²`` over the values of each image.

    Where C++ computes the layers in blocks of images, the comparison is made in the blocks. To move
    the predictions out of them, and their gradient back, would take as long as a layer.

    Args:
        x: ``[N, height, width, in]``.
        layers: kernel and bias of each layer.
        image: data, float32 ``[N, height', width', out]``.
        activation: see `convolve_transpose`.

    Returns:
        float32 ``[N]``. **Gradient:** to ``x`` and the layers.
    """
    chex.assert_rank([x, image], 4)
    return jax.lax.platform_dependent(
        x,
        tuple(layers),
        jax.lax.stop_gradient(image),
        cpu=partial(FORMS[_on_cpu(x, layers, "blocks")].squared_errors, activation=activation),
        default=partial(FORMS["stock"].squared_errors, activation=activation),
    )


def convolve_pixels(x: jax.Array, layers: Layers, strides: Sequence[int]) -> jax.Array:
    """Convolutions without padding, ReLU after each: ``x <- relu(conv(x, kernel) + bias)``.

    Args:
        x: ``[N, height, width, in]``.
        layers: kernel and bias of each layer.
        strides: 1 or 2 for each layer.

    Returns:
        ``[N, height', width', out]``; each layer makes ``(size - k) // stride + 1`` of a size.
    """
    chex.assert_rank(x, 4)
    return jax.lax.platform_dependent(
        x,
        tuple(layers),
        cpu=partial(PIXEL_FORMS[_on_cpu(x, layers, "rows")], strides=tuple(strides)),
        default=partial(PIXEL_FORMS["stock"], strides=tuple(strides)),
    )


def _on_cpu(x: jax.Array, layers: Layers, otherwise: str) -> str:
    """The fastest form on a CPU: C++ where it can be used."""
    return "direct" if direct.fits(x, [kernel for kernel, _ in layers]) else otherwise


def strided_conv(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The stock convolution of stride 2: ``[N, h, w, in], [k, k, in, out]`` to NHWC."""
    return jax.lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=_LAYOUT)


def strided_conv_transpose(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The stock transposed convolution of stride 2: ``[N, h, w, in], [k, k, in, out]`` to NHWC."""
    # lax correlates, so the kernel that is added around each input pixel must be turned round.
    return jax.lax.conv_transpose(x, kernel[::-1, ::-1], (2, 2), "VALID", dimension_numbers=_LAYOUT)


def _convolve_pixels_stock(x: jax.Array, layers: Layers, strides: Sequence[int]) -> jax.Array:
    for (kernel, bias), stride in zip(layers, strides, strict=True):
        z = jax.lax.conv_general_dilated(
            x, kernel, (stride, stride), "VALID", dimension_numbers=_LAYOUT
        )
        x = jax.nn.relu(z + for_each_row(bias, z.shape, z.dtype))
    return x


def _convolve_pixels_in_rows(x: jax.Array, layers: Layers, strides: Sequence[int]) -> jax.Array:
    blocks = row_windows.split(x)
    for (kernel, bias), stride in zip(layers, strides, strict=True):
        blocks = row_windows.conv_relu(blocks, kernel, bias, stride)
    return row_windows.join(blocks, x.shape[0])


def _convolve_stock(x: jax.Array, layers: Layers, activation: str = "elu") -> jax.Array:
    for kernel, bias in layers:
        z = strided_conv(x, kernel)
        x = ACTIVATIONS[activation](z + for_each_row(bias, z.shape, z.dtype))
    return x


def _split(x: jax.Array, layers: Layers) -> jax.Array:
    return batch_last.split(x, batch_last.images_of_block([kernel for kernel, _ in layers]))


def _convolve_in_blocks(x: jax.Array, layers: Layers, activation: str = "elu") -> jax.Array:
    blocks, fused = _split(x, layers), activation == "elu"  # the blocks know ELU alone
    for kernel, bias in layers:
        blocks = batch_last.conv(blocks, kernel, bias, fused)
        blocks = blocks if fused else ACTIVATIONS[activation](blocks)
    return batch_last.join(blocks, x.shape[0])


def _convolve_transpose_stock(x: jax.Array, layers: Layers, activation: str = "elu") -> jax.Array:
    for index, (kernel, bias) in enumerate(layers):
        z = strided_conv_transpose(x, kernel)
        z = z + for_each_row(bias, z.shape, z.dtype)
        x = z if index == len(layers) - 1 else ACTIVATIONS[activation](z)
    return x


def _convolve_transpose_in_blocks(
    x: jax.Array, layers: Layers, activation: str = "elu"
) -> jax.Array:
    blocks, fused = _split(x, layers), activation == "elu"
    for index, (kernel, bias) in enumerate(layers):
        last = index == len(layers) - 1
        blocks = batch_last.conv_transpose(blocks, kernel, bias, fused and not last)
        blocks = blocks if fused or last else ACTIVATIONS[activation](blocks)
    return batch_last.join(blocks, x.shape[0])


def _convolve_directly(
    x: jax.Array, layers: Layers, activation: str = "elu", strides: Sequence[int] | None = None
) -> jax.Array:
    blocks = direct.split(x)
    for (kernel, bias), stride in zip(layers, strides or [2] * len(layers), strict=True):
        blocks = direct.conv(blocks, kernel, bias.astype(x.dtype), stride, activation)
    return direct.join(blocks, x.shape[0])


def _convolve_transpose_directly(
    x: jax.Array, layers: Layers, activation: str = "elu"
) -> jax.Array:
    blocks = _hidden_blocks(x, layers[:-1], activation)
    kernel, bias = layers[-1]
    blocks = direct.conv_transpose(blocks, kernel, bias.astype(x.dtype), 2, "none")
    return direct.join(blocks, x.shape[0])


def _squared_errors_directly(
    x: jax.Array, layers: Layers, image: jax.Array, activation: str = "elu"
) -> jax.Array:
    blocks = _hidden_blocks(x, layers[:-1], activation)
    kernel, bias = layers[-1]
    image = direct.split(image)
    squares = direct.squared_errors(blocks, kernel, bias.astype(x.dtype), image, 2)
    return squares.reshape(-1)[: x.shape[0]]


def _hidden_blocks(x: jax.Array, layers: Layers, activation: str) -> jax.Array:
    blocks = direct.split(x)
    for kernel, bias in layers:
        blocks = direct.conv_transpose(blocks, kernel, bias.astype(x.dtype), 2, activation)
    return blocks


def _squared_errors_of(
    convolve_transpose: Callable[..., jax.Array],
    x: jax.Array,
    layers: Layers,
    image: jax.Array,
    activation: str = "elu",
) -> jax.Array:
    mean = convolve_transpose(x, layers, activation).astype(jnp.float32)
    chex.assert_equal_shape([image, mean])
    return jnp.sum(jnp.square(image - mean), axis=(1, 2, 3))


class Form(NamedTuple):
    """One way to compute `convolve`, `convolve_transpose` and `squared_errors`."""

    convolve: Callable[..., jax.Array]
    convolve_transpose: Callable[..., jax.Array]
    squared_errors: Callable[..., jax.Array]


FORMS = {
    "stock": Form(
        _convolve_stock,
        _convolve_transpose_stock,
        partial(_squared_errors_of, _convolve_transpose_stock),
    ),
    "blocks": Form(
        _convolve_in_blocks,
        _convolve_transpose_in_blocks,
        partial(_squared_errors_of, _convolve_transpose_in_blocks),
    ),
    "direct": Form(  # see `direct.fits`
        _convolve_directly,
        _convolve_transpose_directly,
        _squared_errors_directly,
    ),
}

PIXEL_FORMS: dict[str, Callable[..., jax.Array]] = {
    "stock": _convolve_pixels_stock,
    "rows": _convolve_pixels_in_rows,
    "direct": partial(_convolve_directly, activation="relu"),
}
"""Ways to compute `convolve_pixels`."""
