"""Actor and twin critics on a world model's features, as LOMPO has them."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from coworld_jax.networks.heads import MLP
from coworld_jax.networks.layers import Linear, elu


class FeatureActor(nn.Module):
    """A deterministic policy: ELU layers, then ``tanh``.

    A simulator with fewer coordinates than ``action_size`` takes the first ``taken`` of them; the
    others are zero, as in its episodes.
    """

    action_size: int
    layers: int = 4
    units: int = 256
    taken: int | None = None  # all of them

    @nn.compact
    def __call__(self, feat: jax.Array) -> jax.Array:
        """``[..., F] -> [..., A]``, in (-1, 1)."""
        for layer in range(self.layers):
            feat = elu(Linear(self.units, name=f"hidden{layer}")(feat))
        action = jnp.tanh(Linear(self.action_size, name="output")(feat))
        return action if self.taken is None else action.at[..., self.taken :].set(0.0)


class FeatureCritic(nn.Module):
    """Two action values."""

    layers: int = 3
    units: int = 256

    @nn.compact
    def __call__(self, feat: jax.Array, action: jax.Array) -> jax.Array:
        """``[..., F], [..., A] -> [2, ...]``."""
        x = jnp.concatenate([feat, action], axis=-1)
        return jnp.stack([MLP(self.layers, self.units, name=f"q{i + 1}")(x) for i in range(2)])
