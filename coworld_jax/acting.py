"""Acting with an agent's parameters: one observation in, one action out."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from coworld_jax import distributions, world_model
from coworld_jax.agent import Agent
from coworld_jax.types import Latent
from coworld_jax.world_model import Params


class ActingState(NamedTuple):
    """What an agent remembers between two frames, ``[B, ...]``."""

    latent: Latent
    action: jax.Array  # [B, A]


def initial_acting_state(agent: Agent, batch: int) -> ActingState:
    """Before the first frame of an episode."""
    latent = world_model.initial_latent(agent.model, batch)
    return ActingState(latent, jnp.zeros((batch, agent.model.action_size)))


def act(
    agent: Agent,
    world_params: Params,
    actor_params: Params,
    state: ActingState,
    observation: jax.Array,
    key: jax.Array,
    *,
    explore: bool,
) -> ActingState:
    """Observe once and choose an action.

    Args:
        observation: uint8 ``[B, 64, 64, 3]``, or a raw state, float32 ``[B, N]``.
        key: consumed by the posterior sample and, when exploring, the action.
        explore: sample the policy; otherwise its mode. The posterior is sampled either way.

    Returns:
        The new state; its ``action`` ``[B, A]`` is in (-1, 1).
    """
    key_latent, key_action = jax.random.split(key)
    normal = world_model.normalise(agent.model, world_params, observation)
    embed = world_model.encode(agent.model, world_params, normal)
    projected = agent.model.rssm.apply(world_params["rssm"], embed, method="project")
    noise = world_model.latent_noise(agent.model, key_latent, 1, observation.shape[0])[0]
    latent = world_model.observe_step(
        agent.model, world_params, state.latent, state.action, projected, noise
    )
    loc, scale = agent.actor.apply(actor_params, world_model.features(latent))
    if explore:
        uniform = jax.random.uniform(key_action, loc.shape)
        action = distributions.truncated_normal_sample(loc, scale, uniform)
    else:
        action = distributions.truncated_normal_mode(loc)
    return ActingState(world_model.without_stats(latent), action)
