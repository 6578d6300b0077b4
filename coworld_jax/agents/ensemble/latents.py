"""Filtering, imagining and disagreement with an ensemble RSSM, time-major.

Heads and noise are arguments: one head per time step serves the whole batch.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from coworld_jax import distributions, losses
from coworld_jax.agents.dreamer.world_model import Observation, draw
from coworld_jax.agents.gradient import Params
from coworld_jax.networks import EnsembleRSSM, recurrence
from coworld_jax.types import Latent


def draw_heads(rssm: EnsembleRSSM, key: jax.Array, steps: int) -> jax.Array:
    """One head for each step, uniformly: int32 ``[steps]``. ``key`` is consumed."""
    return jax.random.randint(key, (steps,), 0, rssm.heads)


def observe(
    rssm: EnsembleRSSM,
    params: Params,
    embed: jax.Array,
    action: jax.Array,
    is_first: jax.Array,
    heads: jax.Array,
    noise: jax.Array | None,
) -> Observation:
    """Filter a batch of chunks.

    Args:
        embed: ``[T, B, E]``.
        action: ``action[t]`` led to ``embed[t]``, ``[T, B, A]``.
        is_first: bool ``[T, B]``; there, state and action before it are zeros.
        heads: int, whose prior each step predicts with, ``[T]``.
        noise: of the posteriors, see `world_model.draw`, ``[T, B, ...]``; None for modes.

    **Gradient:** to ``params`` and ``embed``; of the priors, to those in ``heads`` alone.
    """
    projected = rssm.apply(params, embed, method="project")

    def step(
        carry: tuple[jax.Array, jax.Array], inputs: tuple[Any, ...]
    ) -> tuple[tuple[jax.Array, jax.Array], Latent]:
        projected, action, is_first, noise = inputs
        stoch, deter, action = (jnp.where(is_first[:, None], 0.0, x) for x in (*carry, action))
        deter = rssm.apply(params, stoch, deter, action, method="recur")
        stats = rssm.apply(params, deter, projected, method="posterior")
        post = Latent(deter, draw(stats, noise), stats)
        return (post.stoch, deter), post

    batch = embed.shape[1]
    start = jnp.zeros((batch, rssm.stoch)), jnp.zeros((batch, rssm.deter))
    _, post = recurrence.scan(step, start, (projected, action, is_first, noise))
    # No step needs a prior: all of them are computed at once, each by its own head alone.
    return Observation(post, rssm.apply(params, post.deter, heads, method="prior"), embed)


def imagine_step(
    rssm: EnsembleRSSM,
    params: Params,
    latent: Latent,
    action: jax.Array,
    head: jax.Array,
    noise: jax.Array | None,
) -> Latent:
    """The state that one head predicts: ``[N, ...]``; ``head`` is an int ``[]``."""
    deter = rssm.apply(params, latent.stoch, latent.deter, action, method="recur")
    stats = rssm.apply(params, deter, head, method="prior")
    return Latent(deter, draw(stats, noise), stats)


def disagreement(
    kind: str, rssm: EnsembleRSSM, params: Params, deter: jax.Array, stoch: jax.Array
) -> jax.Array:
    """How much the priors of a state differ.

    Args:
        kind: ``none``; ``mean_distance`` of class probabilities or means; ``log_prob``, the
            deviation of the state's log-density; ``largest_std``, for Gaussian latents.
        deter: ``[..., D]``.
        stoch: the state whose density counts, ``[..., S]``.

    Returns:
        ``[...]``. **Gradient:** to ``params``, ``deter`` and, for ``log_prob``, ``stoch``.
    """
    if kind == "none":
        return jnp.zeros(deter.shape[:-1])
    return DISAGREEMENTS[kind](rssm.apply(params, deter, method="priors"), stoch)


def stats_mean_distance(stats: dict[str, jax.Array], stoch: jax.Array) -> jax.Array:
    """`losses.mean_distance` of class probabilities or of means: ``[K, ...] -> [...]``."""
    del stoch
    if "mean" in stats:
        return losses.mean_distance(stats["mean"])
    probs = jax.nn.softmax(stats["logits"])
    return losses.mean_distance(probs.reshape(*probs.shape[:-2], -1))


def stats_log_prob_std(stats: dict[str, jax.Array], stoch: jax.Array) -> jax.Array:
    """`losses.log_prob_std` of a flat state: ``[K, ...], [..., S] -> [...]``."""
    if "mean" in stats:
        mean, std = stats["mean"], stats["std"]
        z = jnp.broadcast_to(stoch[None], mean.shape)
        standard = distributions.normal_log_prob((z - mean) / std, jnp.zeros_like(mean))
        return losses.log_prob_std(jnp.sum(standard - jnp.log(std), axis=-1))
    log_probs = jax.nn.log_softmax(stats["logits"])
    flat = log_probs.reshape(*log_probs.shape[:-2], -1)
    return losses.log_prob_std(jnp.sum(jnp.broadcast_to(stoch[None], flat.shape) * flat, axis=-1))


def stats_largest_std(stats: dict[str, jax.Array], stoch: jax.Array) -> jax.Array:
    """`losses.largest_std` of Gaussian priors: ``[K, ..., S] -> [...]``."""
    del stoch
    return losses.largest_std(stats["std"])


DISAGREEMENTS = {
    "mean_distance": stats_mean_distance,
    "log_prob": stats_log_prob_std,
    "largest_std": stats_largest_std,
}
"""By name, functions of the priors' statistics ``[K, ...]`` and of the state ``[..., S]``."""
