"""Encoder and decoder of state vectors, for a source that reads its simulator's state."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from coworld_jax.networks.heads import hidden_layers
from coworld_jax.networks.layers import Linear, elu


class VectorEncoder(nn.Module):
    """ELU layers, the last of which is the embedding, in the range of the image encoder's."""

    layers: int
    units: int
    embed: int
    initializer: str = "glorot"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, state: jax.Array) -> jax.Array:
        """``[N, V] -> [N, E]``."""
        x = hidden_layers(state, self.layers, self.units, self.initializer, self.dtype)
        return elu(Linear(self.embed, self.initializer, self.dtype, name="output")(x))


class VectorDecoder(nn.Module):
    """ELU layers, then the mean of every coordinate."""

    layers: int
    units: int
    size: int
    initializer: str = "glorot"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, feat: jax.Array) -> jax.Array:
        """``[N, F] -> [N, V]``."""
        x = hidden_layers(feat, self.layers, self.units, self.initializer, self.dtype)
        return Linear(self.size, self.initializer, self.dtype, name="output")(x)
