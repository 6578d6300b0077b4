"""Networks of the methods that learn from stacked frames without a world model.

DrQ+BC, CQL, BC and CURL share one encoder, one actor and one pair of critics. Actor and critics
each have a trunk of their own on the encoder's features. Frames may have any size from 16 pixels.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from coworld_jax.networks.convolution import convolve_pixels
from coworld_jax.networks.layers import LayerNorm

STRIDES = (2, 1, 1, 1)

_orthogonal = nn.initializers.orthogonal()


def delta_orthogonal(
    key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32
) -> jax.Array:
    """CURL's kernels ``[k, k, in, out]``: orthogonal at the centre with gain √2, zero elsewhere.

    ``nn.initializers.delta_orthogonal`` needs at least as many outputs as inputs; here either may
    be larger.
    """
    centre = nn.initializers.orthogonal(2.0**0.5)(key, shape[2:], dtype)
    return jnp.zeros(shape, dtype).at[shape[0] // 2, shape[1] // 2].set(centre)


class PixelEncoder(nn.Module):
    """Four 3x3 convolutions with ReLU, the first of stride 2.

    ``84 → 41 → 39 → 37 → 35``; 64 pixels end at 25.
    """

    channels: int = 32
    delta: bool = False  # CURL's initialisation instead of DrQ's orthogonal kernels

    @nn.compact
    def __call__(self, image: jax.Array) -> jax.Array:
        """Scaled frames ``[N, height, width, C] -> [N, F]``, flattened row by row."""
        layers, inputs = [], image.shape[-1]
        for index in range(len(STRIDES)):
            layers.append(_Kernel(inputs, self.channels, self.delta, name=f"conv{index}")())
            inputs = self.channels
        return convolve_pixels(image, layers, STRIDES).reshape(image.shape[0], -1)


class _Kernel(nn.Module):
    """Kernel and bias of a 3x3 convolution."""

    inputs: int
    outputs: int
    delta: bool

    @nn.compact
    def __call__(self) -> tuple[jax.Array, jax.Array]:
        """``[3, 3, in, out]`` and ``[out]``."""
        init = delta_orthogonal if self.delta else nn.initializers.orthogonal(2.0**0.5)
        kernel = self.param("kernel", init, (3, 3, self.inputs, self.outputs))
        return kernel, self.param("bias", nn.initializers.zeros, (self.outputs,))


class Trunk(nn.Module):
    """``tanh(LayerNorm(features @ W + b))``; CURL has no tanh."""

    size: int
    squash: bool = True

    @nn.compact
    def __call__(self, feat: jax.Array) -> jax.Array:
        """``[N, F] -> [N, size]``."""
        x = LayerNorm(name="norm")(
            nn.Dense(self.size, kernel_init=_orthogonal, name="linear")(feat)
        )
        return jnp.tanh(x) if self.squash else x


class PixelMLP(nn.Module):
    """Two hidden ReLU layers and a linear output."""

    hidden: int
    outputs: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[..., in] -> [..., outputs]``."""
        for layer in range(2):
            x = nn.relu(nn.Dense(self.hidden, kernel_init=_orthogonal, name=f"hidden{layer}")(x))
        return nn.Dense(self.outputs, kernel_init=_orthogonal, name="output")(x)


class PixelActor(nn.Module):
    """The policy's raw outputs: A means for DrQ, A means and A scales for CURL."""

    size: int
    hidden: int
    outputs: int
    squash: bool = True

    def setup(self) -> None:
        """Layers, named as their parameters are."""
        self.trunk = Trunk(self.size, self.squash)
        self.policy = PixelMLP(self.hidden, self.outputs)

    def __call__(self, feat: jax.Array) -> jax.Array:
        """``[N, F] -> [N, outputs]``."""
        return self.policy(self.trunk(feat))

    def embed(self, feat: jax.Array) -> jax.Array:
        """The trunk alone: ``[N, F] -> [N, size]``."""
        return self.trunk(feat)


class TwinCritic(nn.Module):
    """Two action values on one trunk.

    Many actions of one state share its trunk: `embed` once, then `values` of each.
    """

    size: int
    hidden: int
    squash: bool = True

    def setup(self) -> None:
        """Layers, named as their parameters are."""
        self.trunk = Trunk(self.size, self.squash)
        self.q1 = PixelMLP(self.hidden, 1)
        self.q2 = PixelMLP(self.hidden, 1)

    def __call__(self, feat: jax.Array, action: jax.Array) -> jax.Array:
        """``[N, F], [N, A] -> [2, N]``."""
        return self.values(self.trunk(feat), action)

    def embed(self, feat: jax.Array) -> jax.Array:
        """The trunk alone: ``[N, F] -> [N, size]``."""
        return self.trunk(feat)

    def values(self, embed: jax.Array, action: jax.Array) -> jax.Array:
        """``[..., size], [..., A] -> [2, ...]``."""
        x = jnp.concatenate([embed, action], axis=-1)
        return jnp.stack([self.q1(x)[..., 0], self.q2(x)[..., 0]])
