"""Recurrent state-space models with K priors on one deterministic state.

`EnsembleRSSM` is that of V-D4RL's Offline DV2 with categorical latents (layer-norm GRU), and that
of LOMPO with Gaussian ones (Keras' GRU). Encoder, recurrence and posterior are shared; every step
uses one prior, and their disagreement tells how far a state is from the data.
"""

from __future__ import annotations

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from coworld_jax.networks.layers import Linear, elu
from coworld_jax.networks.recurrence import kept


class PriorHeads(nn.Module):
    """K networks of one hidden ELU layer, their parameters stacked on the first axis."""

    heads: int
    hidden: int
    outputs: int

    @nn.compact
    def __call__(self, deter: jax.Array, head: jax.Array | int | None) -> jax.Array:
        """One head ``[..., D] -> [..., outputs]``, or for None all: ``[K, ..., outputs]``.

        Args:
            head: int ``[]`` in ``0 ... K - 1``; only that head computes and gets gradient. Or one
                for each entry of the first axis of ``deter``, ``[T]``.
        """
        layers = []
        for name, inputs, outputs in (
            ("hidden", deter.shape[-1], self.hidden),
            ("stats", self.hidden, self.outputs),
        ):
            kernel = self.param(f"{name}_kernel", _stacked_glorot, (self.heads, inputs, outputs))
            bias = self.param(f"{name}_bias", nn.initializers.zeros, (self.heads, outputs))
            layers.append((kernel, bias))

        def one(layers: list[tuple[jax.Array, jax.Array]], deter: jax.Array) -> jax.Array:
            first, last = layers
            return _affine(elu(_affine(deter, *first)), *last)

        if head is None:
            return jax.vmap(one, in_axes=(0, None))(layers, deter)
        chosen = [(kernel[head], bias[head]) for kernel, bias in layers]
        return one(chosen, deter) if jnp.ndim(head) == 0 else jax.vmap(one)(chosen, deter)


class EnsembleRSSM(nn.Module):
    """The learned transition: deterministic recurrence, K priors and one posterior.

    ``h' = GRU(ELU(L[z, a]), h)``; priors ``p_k(z' | h')``; posterior ``q(z' | h', e)``.
    """

    heads: int  # K
    latent: str  # "categorical" (layer-norm GRU) or "gaussian" (Keras' GRU)
    groups: int  # number of categoricals, or Gaussian dimensions
    classes: int  # classes of each categorical; 1 for Gaussian latents
    deter: int
    hidden: int
    embed: int
    min_std: float = 0.1  # Gaussian: std = softplus(s) + min_std

    @property
    def stoch(self) -> int:
        """Size S of the flat stochastic state."""
        return self.groups * self.classes

    def setup(self) -> None:
        """Layers, named as their parameters are."""
        fan = self.deter + self.embed
        stats = self.stoch if self.latent == "categorical" else 2 * self.groups
        self.input = Linear(self.hidden)
        self.gates = Linear(3 * self.deter)
        if self.latent == "categorical":
            self.norm = nn.LayerNorm(epsilon=1e-3, use_fast_variance=False)
        else:
            self.recurrent_gates = Linear(3 * self.deter)
        self.prior_heads = PriorHeads(self.heads, self.hidden, stats)
        self.post_deter = Linear(self.hidden, fan_in=fan)
        self.post_embed = Linear(self.hidden, use_bias=False, fan_in=fan)
        self.post_stats = Linear(stats)

    def __call__(
        self, stoch: jax.Array, deter: jax.Array, action: jax.Array, embed: jax.Array
    ) -> tuple[jax.Array, dict[str, jax.Array], dict[str, jax.Array]]:
        """One whole step, used to make the parameters: deter, priors and posterior statistics."""
        deter = self.recur(stoch, deter, action)
        return deter, self.priors(deter), self.posterior(deter, self.project(embed))

    def recur(self, stoch: jax.Array, deter: jax.Array, action: jax.Array) -> jax.Array:
        """``h' = GRU(ELU(L[z, a]), h)``: ``[..., S], [..., D], [..., A] -> [..., D]``.

        Layer-norm GRU: ``r, c, u = LN(L[x, h])``,
        ``h' = σ(u - 1) tanh(σ(r) c) + (1 - σ(u - 1)) h``.
        Keras' GRU, whose gates are in the order z, r, c, with a bias for each product:
        ``h' = σ(z) h + (1 - σ(z)) tanh(c_x + σ(r) c_h)``.
        """
        x = elu(self.input(jnp.concatenate([stoch, action], axis=-1)))
        if self.latent == "categorical":
            gates = self.gates(jnp.concatenate([x, deter], axis=-1))
            gates = kept(self.norm(gates))  # see `RSSM.recur`
            reset, candidate, update = jnp.split(gates, 3, axis=-1)
            update = nn.sigmoid(update - 1.0)
            return update * jnp.tanh(nn.sigmoid(reset) * candidate) + (1.0 - update) * deter
        keep_x, reset_x, candidate_x = jnp.split(self.gates(x), 3, axis=-1)
        keep_h, reset_h, candidate_h = jnp.split(self.recurrent_gates(deter), 3, axis=-1)
        keep = nn.sigmoid(keep_x + keep_h)
        candidate = jnp.tanh(candidate_x + nn.sigmoid(reset_x + reset_h) * candidate_h)
        return keep * deter + (1.0 - keep) * candidate

    def prior(self, deter: jax.Array, head: jax.Array | int = 0) -> dict[str, jax.Array]:
        """Statistics of ``p_k(z | h)`` for one k: ``[..., D]`` to the fields of `types.Latent`.

        Args:
            head: see `PriorHeads`; the first one where nobody draws, as for pictures.
        """
        return self._stats(self.prior_heads(deter, head))

    def priors(self, deter: jax.Array) -> dict[str, jax.Array]:
        """Statistics of all priors, ``[K, ...]``."""
        return self._stats(self.prior_heads(deter, None))

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
        return {"mean": mean, "std": nn.softplus(std) + self.min_std}


def _affine(x: jax.Array, kernel: jax.Array, bias: jax.Array) -> jax.Array:
    y = x @ kernel
    return kept(y + jnp.broadcast_to(bias, y.shape))


def _stacked_glorot(
    key: jax.Array, shape: Sequence[int], dtype: jnp.dtype = jnp.float32
) -> jax.Array:
    """Glorot-uniform kernels, each of the fans of one head."""
    limit = (6.0 / (shape[1] + shape[2])) ** 0.5
    return jax.random.uniform(key, shape, dtype, -limit, limit)
