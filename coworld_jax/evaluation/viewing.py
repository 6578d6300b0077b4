"""What an agent makes of recorded episodes: filtered features, values, open-loop predictions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax import scaling, world_model
from coworld_jax.agent import Agent
from coworld_jax.types import Episode
from coworld_jax.world_model import Params


class Clips(NamedTuple):
    """Episodes side by side on the host, zero-padded to the longest."""

    image: np.ndarray  # uint8 [T, N, 64, 64, 3]
    action: np.ndarray  # float32 [T, N, A]
    state: np.ndarray  # raw, float32 [T, N, D], D = 0 where nobody reads it
    rows: tuple[int, ...]  # rows of each episode before padding


def side_by_side(episodes: Sequence[Episode], action_size: int, state_size: int = 0) -> Clips:
    """Time-major `Clips`; actions get zeros in the coordinates that their task lacks."""
    rows = tuple(len(episode.reward) for episode in episodes)
    image = np.zeros((max(rows), len(rows), *episodes[0].image.shape[1:]), np.uint8)
    action = np.zeros((max(rows), len(rows), action_size), np.float32)
    state = np.zeros((max(rows), len(rows), state_size), np.float32)
    for i, episode in enumerate(episodes):
        image[: rows[i], i] = episode.image
        if state_size:
            state[: rows[i], i] = episode.extras["state"]
        action[: rows[i], i, : episode.action.shape[1]] = episode.action
    return Clips(image, action, state, rows)


@functools.partial(jax.jit, static_argnums=0)
def episode_values(
    agent: Agent,
    world_params: Params,
    critics: tuple[Params, ...],
    observation: jax.Array,
    action: jax.Array,
    key: jax.Array,
) -> jax.Array:
    """Values of several critics along filtered episodes.

    Frames are encoded one time step after the other, so that a long episode costs no memory.

    Args:
        critics: parameters of critics that read this world model's features.
        observation: uint8 ``[T, N, 64, 64, 3]``, or raw states ``[T, N, D]``.
        action: ``[T, N, A]``; ``action[t]`` led to ``observation[t]``.
        key: consumed by the posterior samples.

    Returns:
        ``[len(critics), T, N]``.
    """
    model = agent.model
    time, count = action.shape[:2]
    noise = world_model.latent_noise(model, key, time, count)

    def step(
        latent: world_model.Latent, inputs: tuple[jax.Array, jax.Array, jax.Array]
    ) -> tuple[world_model.Latent, jax.Array]:
        frame, led, draw = inputs
        normal = world_model.normalise(model, world_params, frame)
        embed = world_model.encode(model, world_params, normal)
        projected = model.rssm.apply(world_params["rssm"], embed, method="project")
        latent = world_model.observe_step(model, world_params, latent, led, projected, draw)
        return world_model.without_stats(latent), world_model.features(latent)

    start = world_model.initial_latent(model, action.shape[1])
    _, feat = jax.lax.scan(step, start, (observation, action, noise))
    return jnp.stack([agent.critic.apply(params, feat) for params in critics])


@functools.partial(jax.jit, static_argnums=(0, 4))
def open_loop(
    agent: Agent, world_params: Params, observation: jax.Array, action: jax.Array, context: int
) -> jax.Array:
    """Reconstructions of the first ``context`` frames, then predictions from actions alone.

    Args:
        observation: uint8 ``[T, N, 64, 64, 3]``, or raw states ``[T, N, D]``; only the first
            ``context`` of them are looked at.
        action: ``[T, N, A]``.
        context: in [1, T - 1].

    Returns:
        With modes for samples, means of the images, about [0, 1], ``[T, N, 64, 64, 3]``, or those
        of the states in the simulator's units, ``[T, N, D]``.
    """
    model = agent.model
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
