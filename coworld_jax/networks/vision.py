"""Image encoder and decoder for 64x64 frames (DreamerV2's architecture)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from coworld_jax.networks.convolution import convolve, convolve_transpose
from coworld_jax.networks.layers import Linear, bias_init, elu, kernel_init

ENCODER_KERNELS = (4, 4, 4, 4)
DECODER_KERNELS = (5, 5, 6, 6)


class Encoder(nn.Module):
    """Four convolutions of kernel 4 and stride 2, ELU after each: 64 → 31 → 14 → 6 → 2.

    Channels are ``depth`` times 1, 2, 4, 8, so the embedding has ``32 * depth`` values.
    """

    depth: int
    initializer: str = "glorot"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Image in [-0.5, 0.5], ``[N, 64, 64, 3] -> [N, E]``, flattened row by row."""
        x = image.astype(self.dtype)
        layers, channels = [], x.shape[-1]
        for layer, size in enumerate(ENCODER_KERNELS):
            features = self.depth * 2**layer
            make = _Kernel(
                size, channels, features, False, self.initializer, self.dtype, name=f"conv{layer}"
            )
            layers.append(make())
            channels = features
        return convolve(x, layers).reshape(x.shape[0], -1)


class Decoder(nn.Module):
    """Linear layer and four transposed convolutions of stride 2: 1 → 5 → 13 → 30 → 64."""

    depth: int
    initializer: str = "glorot"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, feat: jax.Array) -> jax.Array:
        """Feature ``[N, F]`` to the mean of the image, ``[N, 64, 64, 3]``, about [-0.5, 0.5]."""
        channels = 32 * self.depth
        x = Linear(channels, self.initializer, self.dtype, name="input")(feat)
        layers = []
        outputs = (4 * self.depth, 2 * self.depth, self.depth, 3)
        for layer, (features, size) in enumerate(zip(outputs, DECODER_KERNELS, strict=True)):
            make = _Kernel(
                size, channels, features, True, self.initializer, self.dtype, name=f"conv{layer}"
            )
            layers.append(make())
            channels = features
        # From a single pixel, the first transposed convolution is a dense layer.
        (kernel, bias), *rest = layers
        x = jnp.einsum("nc,pqcd->npqd", x, kernel)
        return convolve_transpose(elu(x + jnp.broadcast_to(bias, x.shape)), rest)


class _Kernel(nn.Module):
    """Kernel and bias of a convolution, or of its transpose, in the compute type."""

    size: int
    channels: int
    features: int
    transpose: bool
    initializer: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        """``[size, size, channels, features]`` and ``[features]``."""
        area = self.size**2
        # PyTorch counts the fan of a transposed convolution from its output.
        fan_in, fan_out = area * self.channels, area * self.features
        torch_fan = fan_out if self.transpose else fan_in
        init_fan = torch_fan if self.initializer == "torch" else fan_in
        kernel = self.param(
            "kernel",
            kernel_init(self.initializer, init_fan, fan_out),
            (self.size, self.size, self.channels, self.features),
        )
        bias = self.param("bias", bias_init(self.initializer, init_fan), (self.features,))
        return kernel.astype(self.dtype), bias.astype(self.dtype)
