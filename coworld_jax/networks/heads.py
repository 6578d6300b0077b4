"""Heads on the features of the world model: reward, continuation, value, policy."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from coworld_jax.networks.layers import Linear, elu


class MLP(nn.Module):
    """A scalar head: ELU layers, then one float32 output."""

    layers: int
    units: int
    initializer: str = "glorot"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, feat: jax.Array) -> jax.Array:
        """``[..., F] -> [...]``, float32."""
        x = _hidden(feat, self.layers, self.units, self.initializer, self.dtype)
        return Linear(1, self.initializer, self.dtype, result=jnp.float32, name="output")(x)[..., 0]


class ActorHead(nn.Module):
    """The policy's truncated normal: ELU layers, then location and scale per action coordinate.

    ``loc = tanh(m)`` and ``scale = 2 sigmoid(s / 2) + 0.1``, in float32.
    """

    action_size: int
    layers: int
    units: int
    initializer: str = "glorot"
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, feat: jax.Array) -> tuple[jax.Array, jax.Array]:
        """``[..., F]`` to ``loc`` in [-1, 1] and ``scale`` in (0.1, 2.1), both ``[..., A]``."""
        x = _hidden(feat, self.layers, self.units, self.initializer, self.dtype)
        size = 2 * self.action_size
        out = Linear(size, self.initializer, self.dtype, result=jnp.float32, name="output")(x)
        mean, std = jnp.split(out, 2, axis=-1)
        return jnp.tanh(mean), 2.0 * jax.nn.sigmoid(std / 2.0) + 0.1


def _hidden(x: jax.Array, layers: int, units: int, initializer: str, dtype: jnp.dtype) -> jax.Array:
    for layer in range(layers):
        x = elu(Linear(units, initializer, dtype, name=f"hidden{layer}")(x))
    return x
