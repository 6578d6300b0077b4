"""Offline DV2: its parts, its state, the update of its world model, and the states it starts from.

The behaviour's update is in `behavior`.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from coworld_jax.agents import ensemble
from coworld_jax.agents.dreamer import world_model
from coworld_jax.agents.dreamer.behavior import rollout_noise
from coworld_jax.agents.dreamer.world_model import (
    Observation,
    WorldModel,
    balanced_kl,
    init_world_model,
    latent_noise,
    likelihood_losses,
    normalise_image,
    predict,
    without_stats,
)
from coworld_jax.agents.gradient import (
    Params,
    apply_gradient,
    averaged,
    prefixed,
    term_means,
    weighted_sum,
)
from coworld_jax.agents.offline_dv2.behavior import (
    PenalisedAgent,
    PenalisedState,
    update_penalised,
)
from coworld_jax.agents.offline_dv2.settings import LearningConfig, NetworkConfig
from coworld_jax.agents.optimizers import keras_adam
from coworld_jax.networks import MLP, ActorHead, Decoder, Encoder, EnsembleRSSM
from coworld_jax.types import Batch, Metrics


class OfflineAgent(NamedTuple):
    """Networks, optimisers and constants: static, the same for every update."""

    model: WorldModel
    model_optimizer: optax.GradientTransformation
    behavior: PenalisedAgent
    learning: LearningConfig


class OfflineState(NamedTuple):
    """Everything that is learnt, arrays only."""

    model: Params
    model_opt: optax.OptState
    behavior: PenalisedState


def make_agent(
    network: NetworkConfig, learning: LearningConfig, penalty: tuple[str, float], action_size: int
) -> OfflineAgent:
    """Build the networks and optimisers that the settings describe.

    Args:
        penalty: kind of `ensemble.disagreement`, and its weight λ.
        action_size: A.
    """

    def optimizer(learning_rate: float) -> optax.GradientTransformation:
        return keras_adam(
            learning_rate, learning.adam_eps, learning.clip, weight_decay=learning.weight_decay
        )

    model = WorldModel(
        encoder=Encoder(network.depth),
        rssm=EnsembleRSSM(
            heads=network.heads,
            latent="categorical",
            groups=network.groups,
            classes=network.classes,
            deter=network.deter,
            hidden=network.hidden,
            embed=32 * network.depth,
        ),
        decoder=Decoder(network.depth),
        reward=MLP(network.reward_layers, network.units),
        continuation=None,
        action_size=action_size,
    )
    behavior = PenalisedAgent(
        rssm=model.rssm,
        reward=model.reward,
        actor=ActorHead(action_size, network.actor_layers, network.units),
        critic=MLP(network.critic_layers, network.units),
        actor_optimizer=optimizer(learning.actor_lr),
        critic_optimizer=optimizer(learning.critic_lr),
        penalty=penalty[0],
        penalty_scale=penalty[1],
        discount=learning.discount,
        lambda_=learning.lambda_,
        entropy_scale=learning.entropy_scale,
        slow_critic_every=learning.slow_critic_every,
    )
    return OfflineAgent(model, optimizer(learning.model_lr), behavior, learning)


def init_agent(agent: OfflineAgent, key: jax.Array) -> OfflineState:
    """A fresh agent; the slow critic begins as a copy of the critic."""
    key_model, key_actor, key_critic = jax.random.split(key, 3)
    model, behavior = init_world_model(agent.model, key_model), agent.behavior
    feat = jnp.zeros((1, agent.model.rssm.stoch + agent.model.rssm.deter))
    actor, critic = behavior.actor.init(key_actor, feat), behavior.critic.init(key_critic, feat)
    return OfflineState(
        model=model,
        model_opt=agent.model_optimizer.init(model),
        behavior=PenalisedState(
            actor=actor,
            critic=critic,
            slow_critic=jax.tree.map(jnp.copy, critic),
            actor_opt=behavior.actor_optimizer.init(actor),
            critic_opt=behavior.critic_optimizer.init(critic),
        ),
    )


def observe(
    agent: OfflineAgent, params: Params, batch: Batch, key: jax.Array, axis_name: str | None = None
) -> tuple[Observation, jax.Array]:
    """Filter a batch of chunks, each from zeros: the action into a first row counts for nothing.

    Args:
        key: consumed by the heads and the posterior samples.

    Returns:
        The states, and the normalised images, ``[T, B, ...]``.
    """
    key_heads, key_noise = jax.random.split(key)
    model, (time, chunks) = agent.model, batch.reward.shape
    heads = ensemble.draw_heads(model.rssm, key_heads, time)
    noise = latent_noise(model, key_noise, time, chunks, axis_name)
    image = normalise_image(batch.image)
    embed = world_model.encode(model, params, image)
    first = jnp.zeros((time, chunks), bool).at[0].set(True)
    seen = ensemble.observe(model.rssm, params["rssm"], embed, batch.action, first, heads, noise)
    return seen, image


def world_model_loss(
    params: Params, agent: OfflineAgent, batch: Batch, key: jax.Array, axis_name: str | None
) -> tuple[jax.Array, Metrics]:
    """``-log p(o|s) - log p(r|s) + balanced KL(q || p_k)``: ``[]``, then the mean of each term.

    **Gradient:** to ``params``; of the priors, to the heads that were drawn.
    """
    seen, image = observe(agent, params, batch, key, axis_name)
    prediction = predict(agent.model, params, seen)
    means = term_means(likelihood_losses(agent.model, params, seen, prediction, batch, image))
    learning = agent.learning
    means["kl"] = balanced_kl(seen, learning.kl_balance, learning.free_nats, axis_name)
    return weighted_sum(means, dict.fromkeys(means, 1.0)), means


def update_world_model(
    agent: OfflineAgent,
    state: OfflineState,
    batch: Batch,
    key: jax.Array,
    axis_name: str | None = None,
) -> tuple[OfflineState, Metrics]:
    """One gradient step on the world model; ``key`` is consumed."""
    (total, metrics), grads = jax.value_and_grad(world_model_loss, has_aux=True)(
        state.model, agent, batch, key, axis_name
    )
    grads, metrics = averaged((grads, metrics | {"loss": total}), axis_name)
    model, model_opt, metrics["grad_norm"] = apply_gradient(
        agent.model_optimizer, grads, state.model_opt, state.model
    )
    return state._replace(model=model, model_opt=model_opt), prefixed("model", metrics)


def update_behavior(
    agent: OfflineAgent,
    state: OfflineState,
    batch: Batch,
    key: jax.Array,
    count: jax.Array,
    axis_name: str | None = None,
) -> tuple[OfflineState, Metrics]:
    """One step of actor and critic from every posterior of a batch; the model is data.

    Args:
        key: consumed.
        count: updates of the behaviour made before, int32 ``[]``.
    """
    keys = jax.random.split(key, 4)
    key_seen, key_heads = keys[:2]
    seen, _ = observe(agent, state.model, batch, key_seen, axis_name)
    post = jax.lax.stop_gradient(without_stats(seen.post))
    start = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), post)
    model, horizon = agent.model, agent.learning.horizon
    behavior, made, grads = update_penalised(
        agent.behavior,
        state.behavior,
        {name: state.model[name] for name in ("rssm", "reward")},
        start,
        ensemble.draw_heads(model.rssm, key_heads, horizon),
        rollout_noise(model, keys[2:], horizon, batch.reward.shape, axis_name),
        count,
        axis_name,
    )
    return state._replace(behavior=behavior), averaged(_logged(made, grads), axis_name)


def _logged(made: Metrics, grads: dict[str, Params]) -> Metrics:
    """Means of what an update of the behaviour was made of."""
    names = {
        "actor/loss": "actor_loss",
        "actor/entropy": "entropy",
        "actor/return": "lambda_return",
        "actor/imagined_reward": "plain_reward",
        "actor/penalty": "penalty",
        "critic/loss": "critic_loss",
        "critic/value": "value",
    }
    means = {name: jnp.mean(made[quantity]) for name, quantity in names.items()}
    norms = {f"{name}/grad_norm": optax.tree.norm(grad) for name, grad in grads.items()}
    return means | norms
