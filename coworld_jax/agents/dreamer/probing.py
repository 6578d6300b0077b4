"""What an agent makes of recorded episodes: filtered features, values, open-loop predictions."""

from __future__ import annotations

import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp

from coworld_jax.agents.dreamer import scaling, world_model
from coworld_jax.agents.dreamer.agent import Agent
from coworld_jax.agents.dreamer.world_model import WorldModel
from coworld_jax.agents.gradient import Params
from coworld_jax.types import Latent


def widen(model: WorldModel, action: jax.Array) -> jax.Array:
    """``action`` with zeros in the coordinates that only the networks have, ``[..., A]``."""
    surplus = model.action_size - action.shape[-1]
    return jnp.pad(jnp.asarray(action), [(0, 0)] * (action.ndim - 1) + [(0, surplus)])


@functools.partial(jax.jit, static_argnums=0)
def episode_values(
    agent: Agent,
    world_params: Params,
    critics: Mapping[str, Params],
    observation: jax.Array,
    action: jax.Array,
    key: jax.Array,
) -> dict[str, jax.Array]:
    """Values of several critics along filtered episodes.

    Args:
        critics: parameters of critics that read this world model's features, by name.
        observation, action, key: see `episode_features`.

    Returns:
        The value of each critic, ``[T, N]``.
    """
    feat = episode_features(agent.model, world_params, observation, action, key)
    return {name: agent.critic.apply(params, feat) for name, params in critics.items()}


def episode_features(
    model: WorldModel,
    world_params: Params,
    observation: jax.Array,
    action: jax.Array,
    key: jax.Array,
) -> jax.Array:
    """Features of filtered episodes, ``[T, N, F]``.

    Frames are encoded one time step after the other, so that a long episode costs no memory.

    Args:
        observation: uint8 ``[T, N, 64, 64, 3]``, or raw states ``[T, N, D]``.
        action: ``[T, N, A]``, with or without the networks' surplus coordinates; ``action[t]`` led
            to ``observation[t]``.
        key: consumed by the posterior samples.
    """
    action = widen(model, action)
    time, count = action.shape[:2]
    noise = world_model.latent_noise(model, key, time, count)

    def step(
        latent: Latent, inputs: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[Latent, jax.Array]:
        frame, led, draw = inputs
        normal = world_model.normalise(model, world_params, frame)
        embed = world_model.encode(model, world_params, normal)
        projected = model.rssm.apply(world_params["rssm"], embed, method="project")
        latent = world_model.observe_step(model, world_params, latent, led, projected, draw)
        return world_model.without_stats(latent), world_model.features(latent)

    start = world_model.initial_latent(model, action.shape[1])
    return jax.lax.scan(step, start, (observation, action, noise))[1]


@functools.partial(jax.jit, static_argnums=(0, 4))
def open_loop(
    model: WorldModel, world_params: Params, observation: jax.Array, action: jax.Array, context: int
) -> jax.Array:
    """Reconstructions of the first ``context`` frames, then predictions from actions alone.

    Args:
        observation: uint8 ``[T, N, 64, 64, 3]``, or raw states ``[T, N, D]``; only the first
            ``context`` of them are looked at.
        action: ``[T, N, A]``, with or without the networks' surplus coordinates.
        context: in [1, T - 1].

    Returns:
        With modes for samples, means of the images, about [0, 1], ``[T, N, 64, 64, 3]``, or those
        of the states in the simulator's units, ``[T, N, D]``.
    """
    action = widen(model, action)
    normal = world_model.normalise(model, world_params, observation[:context])
    embed = world_model.encode(model, world_params, normal)
    seen = world_model.observe(model, world_params, embed, action[:context], None)
    last = jax.tree.map(lambda leaf: leaf[-1], seen.post)
    future = world_model.replay_actions(model, world_params, last, action[context:], None)
    feat = jnp.concatenate([seen.feat, world_model.features(future)])
    means = world_model.decode(model, world_params, feat)
    if model.state_size:
        return scaling.unscale_state(world_params["scaling"], means)
    return means + 0.5
