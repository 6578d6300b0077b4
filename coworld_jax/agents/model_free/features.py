"""LOMPO's agent: a deterministic actor and twin critics on a world model's features."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from coworld_jax import losses
from coworld_jax.agents.gradient import Params, descend, differentiate
from coworld_jax.agents.model_free.actor_critic import Trace, Transitions
from coworld_jax.networks import FeatureActor, FeatureCritic
from coworld_jax.types import Metrics


class FeatureAgent(NamedTuple):
    """Networks and optimisers: static, the same for every update."""

    actor: FeatureActor
    critic: FeatureCritic
    actor_optimizer: optax.GradientTransformation
    critic_optimizer: optax.GradientTransformation
    slow_rate: float = 0.005  # share of the critic that its slow copy takes over


class FeatureState(NamedTuple):
    """Everything that one agent learns, arrays only."""

    actor: Params
    critic: Params
    slow_critic: Params
    actor_opt: optax.OptState
    critic_opt: optax.OptState


def init_features(
    agent: FeatureAgent, key: jax.Array, feature_size: int, action_size: int
) -> FeatureState:
    """A fresh agent. The slow critic is drawn for itself, as in the official code."""
    key_actor, key_critic, key_slow = jax.random.split(key, 3)
    feat, action = jnp.zeros((1, feature_size)), jnp.zeros((1, action_size))
    actor = agent.actor.init(key_actor, feat)
    critic = agent.critic.init(key_critic, feat, action)
    return FeatureState(
        actor=actor,
        critic=critic,
        slow_critic=agent.critic.init(key_slow, feat, action),
        actor_opt=agent.actor_optimizer.init(actor),
        critic_opt=agent.critic_optimizer.init(critic),
    )


def update_features(
    agent: FeatureAgent, state: FeatureState, batch: Transitions, axis_name: str | None = None
) -> tuple[FeatureState, Trace]:
    """One update: both losses before either step, then the slow critic follows.

    ``L_critic = Σ_i (Q_i(s, a) - y)²``, ``L_actor = -min Q(s, π(s))``, without noise.

    Args:
        batch: features ``[B, F]`` in the place of frames; LOMPO's discount is γ in all of them.
        axis_name: mapped axis over which the batch is split.

    **Gradient:** the critic's loss to the critics, the actor's to the actor.

    Reference: LOMPO, Rafailov et al. (2021), and its code, whose conservative term has weight 0.
    """
    next_action = agent.actor.apply(state.actor, batch.next_obs)
    next_q = agent.critic.apply(state.slow_critic, batch.next_obs, next_action)
    target = losses.td_target(batch.reward, batch.discount, next_q)

    def critic_loss(critic: Params) -> tuple[jax.Array, Metrics]:
        q = agent.critic.apply(critic, batch.obs, batch.action)
        loss = losses.twin_td_loss(q, target)
        return loss, {"critic_loss": loss, "q": q}

    def actor_loss(actor: Params) -> tuple[jax.Array, Metrics]:
        q = agent.critic.apply(state.critic, batch.obs, agent.actor.apply(actor, batch.obs))
        loss = losses.policy_loss(q)
        return loss, {"actor_loss": loss, "actor_q": q}

    seen, critic_grads = differentiate(critic_loss, state.critic, axis_name)
    policy, actor_grads = differentiate(actor_loss, state.actor, axis_name)
    critic, critic_opt = descend(
        agent.critic_optimizer, critic_grads, state.critic_opt, state.critic
    )
    actor, actor_opt = descend(agent.actor_optimizer, actor_grads, state.actor_opt, state.actor)
    state = FeatureState(
        actor=actor,
        critic=critic,
        slow_critic=optax.incremental_update(critic, state.slow_critic, agent.slow_rate),
        actor_opt=actor_opt,
        critic_opt=critic_opt,
    )
    grads = {"critic": critic_grads, "actor": actor_grads}
    return state, Trace(seen | policy | {"target": target}, grads)
