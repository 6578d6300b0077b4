"""Encoder and decoder of a simulator's state vector, in the places of those of images."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from coworld_jax.networks.layers import Linear, elu


class StateEncoder(nn.Module):
    """ELU layers, the last of which has the size of the image encoder's embedding.

    It ends with an ELU, as the image encoder does: the embeddings of the two have one range, so
    that an image encoder can learn to give the same ones.
    """

    embed: int
    layers: int
    units: int
    initializer: str = "glorot"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, state: jax.Array) -> jax.Array:
        """Scaled state, ``[B, N] -> [B, E]``."""
        x = state
        for layer in range(self.layers):
            x = elu(Linear(self.units, self.initializer, self.dtype, name=f"hidden{layer}")(x))
        return elu(Linear(self.embed, self.initializer, self.dtype, name="output")(x))


class StateDecoder(nn.Module):
    """ELU layers and a linear one."""

    size: int
    layers: int
    units: int
    initializer: str = "glorot"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, feat: jax.Array) -> jax.Array:
        """Feature to the mean of the scaled state, ``[B, F] -> [B, N]``."""
        x = feat
        for layer in range(self.layers):
            x = elu(Linear(self.units, self.initializer, self.dtype, name=f"hidden{layer}")(x))
        output = Linear(self.size, self.initializer, self.dtype, result=jnp.float32, name="output")
        return output(x)
