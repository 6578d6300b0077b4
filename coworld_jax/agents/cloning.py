"""Behaviour cloning on embeddings that are not learnt, as R3M's evaluation has it.

The embeddings are normalised by batch normalisation: with the moments of the batch in an update,
with their running means in play.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from coworld_jax import losses
from coworld_jax.agents.gradient import Params, apply_gradient, averaged
from coworld_jax.networks import CloningHead
from coworld_jax.types import Metrics

_MOMENTUM = 0.1  # share of the running moments that a batch takes over


class HeadState(NamedTuple):
    """Everything that a head learns, arrays only."""

    params: Params
    mean: jax.Array  # of the embeddings, running, [F]
    var: jax.Array  # [F]
    opt: optax.OptState


def init_head(
    head: CloningHead, optimizer: optax.GradientTransformation, key: jax.Array, size: int
) -> HeadState:
    """A fresh head on embeddings ``[N, size]``."""
    mean, var = jnp.zeros((size,)), jnp.ones((size,))
    params = head.init(key, jnp.zeros((1, size)), mean, var)
    return HeadState(params, mean, var, optimizer.init(params))


def clone(head: CloningHead, state: HeadState, embed: jax.Array) -> jax.Array:
    """The head's action in play, clipped to [-1, 1]: ``[N, F] -> [N, A]``."""
    return jnp.clip(head.apply(state.params, embed, state.mean, state.var), -1.0, 1.0)


def update_head(
    head: CloningHead,
    optimizer: optax.GradientTransformation,
    state: HeadState,
    embed: jax.Array,
    action: jax.Array,
    axis_name: str | None = None,
) -> tuple[HeadState, Metrics]:
    """One step on ``mean (π(e) - a)²`` with the data's actions clipped to [-1, 1].

    Args:
        embed: ``[B, F]``, data.
        action: ``[B, A]``.
        axis_name: mapped axis over which the batch is split; moments are those of all of it.

    Returns:
        The new state and ``loss``, ``grad_norm``. **Gradient:** to the head.

    Reference: R3M, Nair et al. (2022), and its evaluation code.
    """
    mean = averaged(jnp.mean(embed, axis=0), axis_name)
    centred = embed - jnp.broadcast_to(mean, embed.shape)
    var = averaged(jnp.mean(jnp.square(centred), axis=0), axis_name)

    def loss(params: Params) -> jax.Array:
        found = head.apply(params, embed, mean, var)
        return jnp.mean(losses.cloning_loss(found, jnp.clip(action, -1.0, 1.0)))

    value, grads = jax.value_and_grad(loss)(state.params)
    grads = averaged(grads, axis_name)
    params, opt, norm = apply_gradient(optimizer, grads, state.opt, state.params)
    devices = 1 if axis_name is None else jax.lax.axis_size(axis_name)
    examples = embed.shape[0] * devices
    unbiased = var * examples / (examples - 1)
    state = HeadState(
        params,
        mean=state.mean + _MOMENTUM * (mean - state.mean),
        var=state.var + _MOMENTUM * (unbiased - state.var),
        opt=opt,
    )
    return state, {"loss": value, "grad_norm": norm}
