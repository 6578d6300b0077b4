"""Actor and twin critics on a world model's features, as LOMPO has them."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from coworld_jax.networks.heads import MLP
from coworld_jax.networks.layers import Linear, elu


class FeatureActor(nn.Module):
    """A deterministic policy: ELU layers, then ``tanh``."""

    action_size: int
    layers: int = 4
    units: int = 256

    @nn.compact
    def __call__(self, feat: jax.Array) -> jax.Array:
        """``[..., F] -> [..., A]``, in (-1, 1)."""
        for layer in range(self.layers):
            feat = elu(Linear(self.units, name=f"hidden{layer}")(feat))
        return jnp.tanh(Linear(self.action_size, name="output")(feat))


class FeatureCritic(nn.Module):
    """Two action values."""

    layers: int = 3
    units: int = 256

    @nn.compact
    def __call__(self, feat: jax.Array, action: jax.Array) -> jax.Array:
        """``[..., F], [..., A] -> [2, ...]``."""
        x = jnp.concatenate([feat, action], axis=-1)
        return jnp.stack([MLP(self.layers, self.units, name=f"q{i + 1}")(x) for i in range(2)])
