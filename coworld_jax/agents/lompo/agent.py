"""LOMPO: its parts and its state."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from coworld_jax.agents.dreamer.world_model import WorldModel, init_world_model
from coworld_jax.agents.ensemble.playing import Acting, Learnt
from coworld_jax.agents.gradient import Params
from coworld_jax.agents.lompo.buffer import Ring, init_ring
from coworld_jax.agents.lompo.model import LatentModel, add_noise
from coworld_jax.agents.lompo.settings import (
    BuffersConfig,
    ImaginationConfig,
    LearningConfig,
    NetworkConfig,
)
from coworld_jax.agents.model_free import FeatureAgent, FeatureState, init_features
from coworld_jax.agents.optimizers import keras_adam
from coworld_jax.networks import MLP, Decoder, Encoder, EnsembleRSSM, FeatureActor, FeatureCritic


class Lompo(NamedTuple):
    """Networks, optimisers and constants: static, the same for every update."""

    model: LatentModel
    model_optimizer: optax.GradientTransformation
    agent: FeatureAgent
    learning: LearningConfig
    imagination: ImaginationConfig
    buffers: BuffersConfig
    action_size: int  # coordinates of the networks' actions
    taken: int  # those that the domain's simulator takes

    @property
    def feature_size(self) -> int:
        """F."""
        return self.model.rssm.stoch + self.model.rssm.deter

    @property
    def real_blocks(self) -> int:
        """Batches of encoded chunks that the real buffer holds."""
        return -(-self.buffers.real_steps // (self.learning.batch * (self.learning.length - 1)))

    @property
    def imagined_blocks(self) -> int:
        """Batches of rollouts that the buffer of imagined steps holds."""
        return -(-self.buffers.imagined_steps // self._imagined)

    @property
    def first_blocks(self) -> int:
        """Batches of rollouts that are imagined before the agent learns; at most a whole buffer."""
        return min(-(-self.buffers.first_steps // self._imagined), self.imagined_blocks)

    @property
    def _imagined(self) -> int:
        """Steps of one batch of rollouts."""
        return self.learning.batch * self.learning.length * self.imagination.horizon


class LompoState(NamedTuple):
    """Everything that is learnt, and the two buffers; arrays only."""

    model: Params
    model_opt: optax.OptState
    agent: FeatureState
    real: Ring
    imagined: Ring


def make_lompo_agent(
    network: NetworkConfig,
    learning: LearningConfig,
    imagination: ImaginationConfig,
    buffers: BuffersConfig,
    action_size: int,
    taken: int,
) -> Lompo:
    """Build the networks and optimisers that the settings describe.

    Args:
        action_size: A of the networks.
        taken: coordinates that the domain's simulator takes.
    """

    def optimizer(learning_rate: float) -> optax.GradientTransformation:
        return keras_adam(learning_rate, learning.adam_eps, learning.clip)

    model = LatentModel(
        encoder=Encoder(network.depth, activation="relu"),
        rssm=EnsembleRSSM(
            heads=network.heads,
            latent="gaussian",
            groups=network.stoch,
            classes=1,
            deter=network.deter,
            hidden=network.hidden,
            embed=32 * network.depth,
        ),
        decoder=Decoder(network.depth, activation="relu"),
        reward=MLP(network.reward_layers, network.units),
        penalty=imagination.penalty,
        penalty_scale=imagination.penalty_scale,
        noise_scale=imagination.noise_scale,
    )
    agent = FeatureAgent(
        actor=FeatureActor(action_size, network.actor_layers, network.units, taken),
        critic=FeatureCritic(network.critic_layers, network.units),
        actor_optimizer=optimizer(learning.actor_lr),
        critic_optimizer=optimizer(learning.critic_lr),
        slow_rate=learning.slow_rate,
    )
    return Lompo(
        model=model,
        model_optimizer=optimizer(learning.model_lr),
        agent=agent,
        learning=learning,
        imagination=imagination,
        buffers=buffers,
        action_size=action_size,
        taken=taken,
    )


def world_model(lompo: Lompo) -> WorldModel:
    """The model's networks as filtering and pictures take them."""
    model = lompo.model
    return WorldModel(
        model.encoder, model.rssm, model.decoder, model.reward, None, lompo.action_size
    )


def init_lompo(lompo: Lompo, key: jax.Array) -> LompoState:
    """A fresh agent with empty buffers."""
    key_model, key_agent = jax.random.split(key)
    model = init_world_model(world_model(lompo), key_model)
    real, imagined = empty_buffers(lompo)
    return LompoState(
        model=model,
        model_opt=lompo.model_optimizer.init(model),
        agent=init_features(lompo.agent, key_agent, lompo.feature_size, lompo.action_size),
        real=real,
        imagined=imagined,
    )


def empty_buffers(lompo: Lompo) -> tuple[Ring, Ring]:
    """The real buffer of chunks, and that of imagined rollouts."""
    learning, sizes = lompo.learning, (lompo.feature_size, lompo.action_size)
    chunks, starts = learning.batch, learning.batch * learning.length
    return (
        init_ring(lompo.real_blocks * chunks, learning.length - 1, *sizes),
        init_ring(lompo.imagined_blocks * starts, lompo.imagination.horizon, *sizes),
    )


def fresh_moments(lompo: Lompo, state: LompoState) -> LompoState:
    """``state`` with the moments of its optimisers as at the beginning."""
    agent = state.agent
    return state._replace(
        model_opt=lompo.model_optimizer.init(state.model),
        agent=agent._replace(
            actor_opt=lompo.agent.actor_optimizer.init(agent.actor),
            critic_opt=lompo.agent.critic_optimizer.init(agent.critic),
        ),
    )


def pick(state: LompoState) -> Learnt:
    """What acting and judging need."""
    return Learnt(state.model, state.agent.actor, state.agent.critic)


def make_acting(lompo: Lompo) -> Acting:
    """The actor, with the noise of imagination to explore; the lower of its critics."""
    actor, critic = lompo.agent.actor, lompo.agent.critic

    def choose(params: Params, feat: jax.Array, key: jax.Array, *, explore: bool) -> jax.Array:
        action = actor.apply(params, feat)
        if not explore:
            return action
        noisy = add_noise(lompo.model, action, jax.random.normal(key, action.shape))
        return noisy.at[..., lompo.taken :].set(0.0)

    def judge(learnt: Learnt, feat: jax.Array, action: jax.Array) -> jax.Array:
        """``min Q`` of the row before and of the action that led to a row.

        The first row has no reward: its value is γ times that of the actor's action there.
        """
        own = actor.apply(learnt.actor, feat[0])
        first = lompo.learning.discount * critic.apply(learnt.critic, feat[0], own).min(axis=0)
        later = critic.apply(learnt.critic, feat[:-1], action[1:]).min(axis=0)
        return jnp.concatenate([first[None], later])

    return Acting(world_model(lompo), lompo.taken, lompo.learning.discount, choose, judge)
