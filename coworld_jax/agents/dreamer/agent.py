"""One DreamerV2 agent: its networks, its optimisers and its state."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import optax

from coworld_jax.agents.dreamer import world_model
from coworld_jax.agents.dreamer.settings import LearningConfig, NetworkConfig
from coworld_jax.agents.dreamer.world_model import WorldModel
from coworld_jax.agents.gradient import Params, adam
from coworld_jax.networks import (
    MLP,
    RSSM,
    ActorHead,
    Decoder,
    Encoder,
    StateDecoder,
    StateEncoder,
)


@flax.struct.dataclass
class AgentState:
    """Everything that one agent learns, arrays only."""

    world_model: Params
    actor: Params
    critic: Params
    slow_critic: Params
    world_model_opt: optax.OptState
    actor_opt: optax.OptState
    critic_opt: optax.OptState
    behavior_updates: jax.Array  # int32 [], decides when the slow critic is copied


class Agent(NamedTuple):
    """Networks and optimisers of one agent: static, the same for every update."""

    model: WorldModel
    actor: ActorHead
    critic: MLP
    model_optimizer: optax.GradientTransformation
    actor_optimizer: optax.GradientTransformation
    critic_optimizer: optax.GradientTransformation
    learning: LearningConfig
    action_size: int  # coordinates that its own simulator takes; the networks may have more


def make_agent(
    network: NetworkConfig,
    learning: LearningConfig,
    action_size: int,
    state_size: int = 0,
    *,
    bridge: bool = False,
) -> Agent:
    """Build the networks and optimisers that the settings describe.

    Args:
        action_size: A.
        state_size: N of the state vector that the agent reads; 0 for an agent that reads images.
        bridge: whether it also has an encoder of images into the embedding of states.
    """

    def optimizer(learning_rate: float) -> optax.GradientTransformation:
        return adam(
            learning_rate,
            eps=learning.adam_eps,
            clip=learning.clip,
            weight_decay=learning.weight_decay,
        )

    common = _common(network)
    return Agent(
        model=_make_world_model(network, action_size, state_size, bridge),
        actor=ActorHead(action_size, network.actor_layers, network.units, **common),
        critic=MLP(network.critic_layers, network.units, **common),
        model_optimizer=optimizer(learning.model_lr),
        actor_optimizer=optimizer(learning.actor_lr),
        critic_optimizer=optimizer(learning.critic_lr),
        learning=learning,
        action_size=action_size,
    )


def _common(network: NetworkConfig) -> dict[str, Any]:
    return {"initializer": network.initializer, "dtype": jnp.dtype(network.dtype)}


def _make_world_model(
    network: NetworkConfig, action_size: int, state_size: int, bridge: bool
) -> WorldModel:
    common = _common(network)
    image_encoder = Encoder(network.depth, **common)
    embed, layers = 32 * network.depth, (network.state_layers, network.units)
    continuation = MLP(network.continue_layers, network.units, **common)
    return WorldModel(
        encoder=StateEncoder(embed, *layers, **common) if state_size else image_encoder,
        rssm=RSSM(
            latent=network.latent,
            groups=network.groups,
            classes=network.classes,
            deter=network.deter,
            hidden=network.hidden,
            cell=network.cell,
            embed=embed,
            **common,
        ),
        decoder=StateDecoder(state_size, *layers, **common)
        if state_size
        else Decoder(network.depth, **common),
        reward=MLP(network.reward_layers, network.units, **common),
        continuation=continuation if network.discount_head else None,
        action_size=action_size,
        unroll=network.unroll,
        state_size=state_size,
        bridge=image_encoder if bridge else None,
    )


def init_agent(agent: Agent, key: jax.Array) -> AgentState:
    """A fresh agent; the slow critic begins as a copy of the critic."""
    key_model, key_actor, key_critic = jax.random.split(key, 3)
    model = world_model.init_world_model(agent.model, key_model)
    feat = jnp.zeros((1, agent.model.rssm.stoch + agent.model.rssm.deter))
    actor = agent.actor.init(key_actor, feat)
    critic = agent.critic.init(key_critic, feat)
    return AgentState(
        world_model=model,
        actor=actor,
        critic=critic,
        slow_critic=jax.tree.map(jnp.copy, critic),
        world_model_opt=agent.model_optimizer.init(model),
        actor_opt=agent.actor_optimizer.init(actor),
        critic_opt=agent.critic_optimizer.init(critic),
        behavior_updates=jnp.zeros((), jnp.int32),
    )


def fresh_moments(agent: Agent, state: AgentState) -> AgentState:
    """``state`` with the moments of its optimisers as at the beginning."""
    return state.replace(  # type: ignore[attr-defined]
        world_model_opt=agent.model_optimizer.init(state.world_model),
        actor_opt=agent.actor_optimizer.init(state.actor),
        critic_opt=agent.critic_optimizer.init(state.critic),
    )
