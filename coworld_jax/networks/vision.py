"""Image encoder and decoder for 64x64 frames (DreamerV2's architecture)."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from coworld_jax.networks.convolution import strided_conv, strided_conv_transpose
from coworld_jax.networks.layers import Linear, bias_init, kernel_init

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
        for layer, size in enumerate(ENCODER_KERNELS):
            x = _Convolution(
                self.depth * 2**layer, size, False, self.initializer, self.dtype, name=f"conv{layer}"
            )(x)
            x = nn.elu(x)
        return x.reshape(x.shape[0], -1)


class Decoder(nn.Module):
    """Linear layer and four transposed convolutions of stride 2: 1 → 5 → 13 → 30 → 64."""

    depth: int
    initializer: str = "glorot"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, feat: jax.Array) -> jax.Array:
        """Feature ``[N, F]`` to the mean of the image, ``[N, 64, 64, 3]``, about [-0.5, 0.5]."""
        channels = (4 * self.depth, 2 * self.depth, self.depth, 3)
        x = Linear(32 * self.depth, self.initializer, self.dtype, name="input")(feat)
        x = x.reshape(-1, 1, 1, 32 * self.depth)
        for layer, (features, size) in enumerate(zip(channels, DECODER_KERNELS, strict=True)):
            x = _Convolution(
                features, size, True, self.initializer, self.dtype, name=f"conv{layer}"
            )(x)
            if layer < len(channels) - 1:
                x = nn.elu(x)
        return x


class _Convolution(nn.Module):
    """A convolution of stride 2, or its transpose, with bias."""

    features: int
    size: int
    transpose: bool
    initializer: str
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        area, channels = self.size**2, x.shape[-1]
        # PyTorch counts the fan of a transposed convolution from its output.
        fan_in, fan_out = area * channels, area * self.features
        torch_fan = fan_out if self.transpose else fan_in
        init_fan = torch_fan if self.initializer == "torch" else fan_in
        kernel = self.param(
            "kernel",
            kernel_init(self.initializer, init_fan, fan_out),
            (self.size, self.size, channels, self.features),
        )
        bias = self.param("bias", bias_init(self.initializer, init_fan), (self.features,))
        convolve = strided_conv_transpose if self.transpose else strided_conv
        y = convolve(x, kernel.astype(self.dtype))
        return y + jnp.broadcast_to(bias.astype(self.dtype), y.shape)
