"""Image encoder and decoder for 64x64 frames (DreamerV2's architecture)."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from coworld_jax.networks.convolution import (
    ACTIVATIONS,
    Layers,
    convolve,
    convolve_transpose,
    squared_errors,
)
from coworld_jax.networks.layers import Linear, bias_init, for_each_row, kernel_init


class Layer(NamedTuple):
    """One convolution of stride 2; widths are in units of ``depth``, 0 for the image's three."""

    kernel: int
    size: int  # height and width of its input
    inputs: int
    outputs: int
    transpose: bool

    def channels(self, depth: int) -> tuple[int, int]:
        """Channels of its input and of its output."""
        return self.inputs * depth or 3, self.outputs * depth or 3


ENCODER = (
    Layer(4, 64, 0, 1, False),
    Layer(4, 31, 1, 2, False),
    Layer(4, 14, 2, 4, False),
    Layer(4, 6, 4, 8, False),
)
DECODER = (
    Layer(5, 1, 32, 4, True),
    Layer(5, 5, 4, 2, True),
    Layer(6, 13, 2, 1, True),
    Layer(6, 30, 1, 0, True),
)


class Encoder(nn.Module):
    """Four convolutions of kernel 4 and stride 2, ELU after each: 64 → 31 → 14 → 6 → 2.

    Channels are ``depth`` times 1, 2, 4, 8, so the embedding has ``32 * depth`` values.
    """

    depth: int
    initializer: str = "glorot"
    dtype: jnp.dtype = jnp.float32
    activation: str = "elu"

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Image in [-0.5, 0.5], ``[N, 64, 64, 3] -> [N, E]``, flattened row by row."""
        x = image.astype(self.dtype)
        layers = [
            _Kernel(layer, self.depth, self.initializer, self.dtype, name=f"conv{index}")()
            for index, layer in enumerate(ENCODER)
        ]
        return convolve(x, layers, self.activation).reshape(x.shape[0], -1)


class Decoder(nn.Module):
    """Linear layer and four transposed convolutions of stride 2: 1 → 5 → 13 → 30 → 64."""

    depth: int
    initializer: str = "glorot"
    dtype: jnp.dtype = jnp.float32
    activation: str = "elu"

    def __call__(self, feat: jax.Array) -> jax.Array:
        """Feature ``[N, F]`` to the mean of the image, ``[N, 64, 64, 3]``, about [-0.5, 0.5]."""
        x, layers = self._upper_layers(feat)
        return convolve_transpose(x, layers, self.activation)

    def squared_errors(self, feat: jax.Array, image: jax.Array) -> jax.Array:
        """``Σ (image - mean)²`` of each image: ``[N, F], [N, 64, 64, 3] -> [N]``, float32."""
        x, layers = self._upper_layers(feat)
        return squared_errors(x, layers, image, self.activation)

    @nn.compact
    def _upper_layers(self, feat: jax.Array) -> tuple[jax.Array, Layers]:
        """What the first two layers make, ``[N, 5, 5, C]``, and the weights of the others."""
        channels, _ = DECODER[0].channels(self.depth)
        x = Linear(channels, self.initializer, self.dtype, name="input")(feat)
        layers = [
            _Kernel(layer, self.depth, self.initializer, self.dtype, name=f"conv{index}")()
            for index, layer in enumerate(DECODER)
        ]
        # From a single pixel, the first transposed convolution is a dense layer.
        (kernel, bias), *rest = layers
        x = jnp.einsum("nc,pqcd->npqd", x, kernel)
        x = ACTIVATIONS[self.activation](x + for_each_row(bias, x.shape, x.dtype))
        return x, rest


class _Kernel(nn.Module):
    """Kernel, in the compute type, and float32 bias of a convolution, or of its transpose."""

    layer: Layer
    depth: int
    initializer: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        """``[k, k, in, out]`` and ``[out]``."""
        size, (channels, features) = self.layer.kernel, self.layer.channels(self.depth)
        # PyTorch counts the fan of a transposed convolution from its output.
        fan_in, fan_out = size**2 * channels, size**2 * features
        torch_fan = fan_out if self.layer.transpose else fan_in
        init_fan = torch_fan if self.initializer == "torch" else fan_in
        kernel = self.param(
            "kernel",
            kernel_init(self.initializer, init_fan, fan_out),
            (size, size, channels, features),
        )
        bias = self.param("bias", bias_init(self.initializer, init_fan), (features,))
        return kernel.astype(self.dtype), bias
