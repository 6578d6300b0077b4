"""One step of the recurrent state-space model (RSSM), with Gaussian or categorical latents."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from coworld_jax.networks.layers import LayerNorm, Linear, elu
from coworld_jax.networks.recurrence import kept

OBSERVING = ("input", "gates", "post_deter", "post_stats")  # layers of one step of filtering


class RSSM(nn.Module):
    """The learned transition: deterministic recurrence, prior and posterior.

    ``h' = GRU(ELU(L[z, a]), h)``; prior ``p(z' | h')``; posterior ``q(z' | h', e)``.

    The posterior's first layer is stored in two parts, one for ``h'`` and one for ``e``: the second
    does not depend on the recurrence, so it is applied to all time steps at once.
    """

    latent: str  # "gaussian" or "categorical"
    groups: int  # Gaussian dimensions, or number of categoricals
    classes: int  # classes of each categorical; 1 for Gaussian latents
    deter: int
    hidden: int
    cell: str  # "plain" or "layer_norm"
    embed: int
    initializer: str = "glorot"
    dtype: jnp.dtype = jnp.float32

    @property
    def stoch(self) -> int:
        """Size S of the flat stochastic state."""
        return self.groups * self.classes

    def setup(self) -> None:
        """Layers, named as their parameters are."""
        fan = self.deter + self.embed
        stats = self.stoch if self.latent == "categorical" else 2 * self.groups
        self.input = Linear(self.hidden, self.initializer, self.dtype)
        self.gates = Linear(3 * self.deter, self.initializer, self.dtype)
        if self.cell == "layer_norm":
            self.norm = LayerNorm()
        self.prior_hidden = Linear(self.hidden, self.initializer, self.dtype)
        self.prior_stats = Linear(stats, self.initializer, self.dtype, result=jnp.float32)
        self.post_deter = Linear(self.hidden, self.initializer, self.dtype, fan_in=fan)
        self.post_embed = Linear(
            self.hidden, self.initializer, self.dtype, use_bias=False, fan_in=fan
        )
        self.post_stats = Linear(stats, self.initializer, self.dtype, result=jnp.float32)

    def __call__(
        self, stoch: jax.Array, deter: jax.Array, action: jax.Array, embed: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array], dict[str, jax.Array]]:
        """One whole step, used to make the parameters: deter, prior and posterior statistics."""
        deter = self.recur(stoch, deter, action)
        return deter, self.prior(deter), self.posterior(deter, self.project(embed))

    def recur(self, stoch: jax.Array, deter: jax.Array, action: jax.Array) -> jax.Array:
        """``h' = GRU(ELU(L[z, a]), h)``: ``[..., S], [..., D], [..., A] -> [..., D]``.

        The gates come from one product, ``r, c, u = L[x, h]``, optionally layer-normalised over
        all three: ``h' = σ(u - 1) tanh(σ(r) c) + (1 - σ(u - 1)) h``. Unlike in a textbook GRU, the
        reset gate multiplies the candidate after the linear layer.
        """
        x = elu(self.input(jnp.concatenate([stoch, action], axis=-1)))
        gates = self.gates(jnp.concatenate([x, deter.astype(x.dtype)], axis=-1))
        if self.cell == "layer_norm":
            # Kept, or XLA 0.10 cannot compile its gradient for a GPU together with the split's.
            gates = kept(self.norm(gates))
        reset, candidate, update = jnp.split(gates.astype(jnp.float32), 3, axis=-1)
        candidate = jnp.tanh(nn.sigmoid(reset) * candidate)
        update = nn.sigmoid(update - 1.0)
        return update * candidate + (1.0 - update) * deter

    def prior(self, deter: jax.Array) -> dict[str, jax.Array]:
        """Statistics of ``p(z | h)``: ``[..., D]`` to the fields of `types.Latent`."""
        return self._stats(self.prior_stats(elu(self.prior_hidden(deter))))

    def project(self, embed: jax.Array) -> jax.Array:
        """The embedding's part of the posterior's first layer: ``[..., E] -> [..., hidden]``."""
        return self.post_embed(embed)

    def posterior(self, deter: jax.Array, projected: jax.Array) -> dict[str, jax.Array]:
        """Statistics of ``q(z | h, e)`` from ``h`` and the projected embedding."""
        return self._stats(self.post_stats(elu(self.post_deter(deter) + projected)))

    def _stats(self, raw: jax.Array) -> dict[str, jax.Array]:
        if self.latent == "categorical":
            return {"logits": raw.reshape(*raw.shape[:-1], self.groups, self.classes)}
        mean, std = jnp.split(raw, 2, axis=-1)
        return {"mean": mean, "std": 2.0 * nn.sigmoid(std / 2.0) + 0.1}
