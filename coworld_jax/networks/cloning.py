"""The policy that R3M's evaluation puts on frozen embeddings."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from coworld_jax.networks.layers import Linear

_EPS = 1e-5
_LAYERS = 2
_SMALLER = 100  # times that the first weights of the last layer are smaller than PyTorch's


class CloningHead(nn.Module):
    """Two hidden tanh layers on normalised embeddings, with PyTorch's initialisation.

    The last layer begins a hundred times smaller, so that the first actions are nearly zero.
    """

    hidden: int
    outputs: int

    @nn.compact
    def __call__(self, embed: jax.Array, mean: jax.Array, var: jax.Array) -> jax.Array:
        """Embeddings ``[N, F]`` and their moments ``[F]``, to raw actions ``[N, outputs]``."""
        size = embed.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (size,)) * jax.lax.rsqrt(var + _EPS)
        shift = self.param("bias", nn.initializers.zeros, (size,)) - mean * scale
        x = embed * jnp.broadcast_to(scale, embed.shape) + jnp.broadcast_to(shift, embed.shape)
        for layer in range(_LAYERS):
            x = jnp.tanh(Linear(self.hidden, "torch", name=f"hidden{layer}")(x))
        fan_in = self.hidden * _SMALLER**2  # PyTorch's limit is fan_in ** -0.5
        return Linear(self.outputs, "torch", fan_in=fan_in, name="output")(x)
