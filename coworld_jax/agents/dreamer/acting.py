"""Acting with an agent's parameters: one observation in, one action out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from coworld_jax import distributions
from coworld_jax.agents.dreamer import probing, world_model
from coworld_jax.agents.dreamer.agent import Agent, AgentState
from coworld_jax.agents.dreamer.world_model import WorldModel
from coworld_jax.agents.gradient import Params
from coworld_jax.method import Player, State
from coworld_jax.types import Latent

_ACTING = ("encoder", "rssm", "scaling")  # the parts of a world model that acting needs

_NOBODY: Mapping[str, Any] = MappingProxyType({})


class ActingState(NamedTuple):
    """What an agent remembers between two frames, ``[B, ...]``."""

    latent: Latent
    action: jax.Array  # [B, A]


def acting_params(world_params: Params, actor: Params) -> dict[str, Params]:
    """``params`` of `act`: what acting needs of an agent's parameters."""
    world = {name: world_params[name] for name in _ACTING if name in world_params}
    return {"world_model": world, "actor": actor}


def initial_acting_state(model: WorldModel, batch: int) -> ActingState:
    """Before the first frame of an episode."""
    latent = world_model.initial_latent(model, batch)
    return ActingState(latent, jnp.zeros((batch, model.action_size)))


def look(
    model: WorldModel,
    world_params: Params,
    memory: ActingState,
    observation: jax.Array,
    key: jax.Array,
) -> Latent:
    """The posterior after one more observation, ``[B, ...]``; its sample consumes ``key``."""
    normal = world_model.normalise(model, world_params, observation)
    embed = world_model.encode(model, world_params, normal)
    projected = model.rssm.apply(world_params["rssm"], embed, method="project")
    noise = world_model.latent_noise(model, key, 1, observation.shape[0])[0]
    return world_model.observe_step(
        model, world_params, memory.latent, memory.action, projected, noise
    )


def act(
    agent: Agent,
    params: Mapping[str, Params],
    memory: ActingState,
    observation: jax.Array,
    key: jax.Array,
    *,
    explore: bool,
) -> tuple[ActingState, jax.Array]:
    """Observe once and choose an action.

    Args:
        params: ``world_model`` and ``actor``.
        observation: uint8 ``[B, 64, 64, 3]``, or a raw state, float32 ``[B, N]``.
        key: consumed by the posterior sample and, when exploring, the action.
        explore: sample the policy; otherwise its mode. The posterior is sampled either way.

    Returns:
        The new memory, and the action in (-1, 1), zero in the coordinates that only the networks
        have.
    """
    key_latent, key_action = jax.random.split(key)
    latent = look(agent.model, params["world_model"], memory, observation, key_latent)
    loc, scale = agent.actor.apply(params["actor"], world_model.features(latent))
    if explore:
        uniform = jax.random.uniform(key_action, loc.shape)
        action = distributions.truncated_normal_sample(loc, scale, uniform)
    else:
        action = distributions.truncated_normal_mode(loc)
    action = action.at[:, agent.action_size :].set(0.0)  # surplus coordinates stay zero
    memory = ActingState(world_model.without_stats(latent), action)
    return memory, action


def make_player(
    agent: Agent,
    pick: Callable[[State], AgentState],
    others: Mapping[str, Callable[[State], Params]] = _NOBODY,
) -> Player:
    """The player of one agent.

    Args:
        agent: its networks.
        pick: its part of the method's state.
        others: further critics that read its features, by name; shown beside its own.
    """

    def params(state: State) -> dict[str, Any]:
        mine = pick(state)
        return acting_params(mine.world_model, mine.actor)

    def act_on(
        params: Any, memory: ActingState, observation: jax.Array, key: jax.Array, *, explore: bool
    ) -> tuple[ActingState, jax.Array]:
        return act(agent, params, memory, observation, key, explore=explore)

    def values(
        state: State, observation: jax.Array, action: jax.Array, key: jax.Array
    ) -> dict[str, jax.Array]:
        mine = pick(state)
        critics = {"critic": mine.critic} | {name: of(state) for name, of in others.items()}
        found = probing.episode_values(agent, mine.world_model, critics, observation, action, key)
        return {name: found[name] for name in critics}  # jit has sorted them

    def predict(state: State, observation: jax.Array, action: jax.Array, context: int) -> jax.Array:
        return probing.open_loop(agent.model, pick(state).world_model, observation, action, context)

    return Player(
        reads=agent.model.reads,
        params=params,
        start=lambda batch: initial_acting_state(agent.model, batch),
        act=act_on,
        discount=agent.learning.discount,
        values=values,
        predict=predict,
        action_size=agent.action_size,
    )
