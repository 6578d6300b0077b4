"""One DreamerV2 agent: its state and its two updates.

An update takes a state and data and returns a new state and metrics; the couplings enter as
functions that add or replace loss terms, so this module knows no second domain.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import chex
import flax.struct
import jax
import jax.numpy as jnp
import optax

from coworld_jax import behavior, losses, world_model
from coworld_jax.behavior import Imagined
from coworld_jax.config import LearningConfig, NetworkConfig
from coworld_jax.networks import (
    MLP,
    RSSM,
    ActorHead,
    Decoder,
    Encoder,
    StateDecoder,
    StateEncoder,
)
from coworld_jax.types import Batch, Latent, Metrics
from coworld_jax.world_model import Observation, Params, Prediction, WorldModel


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
    aligned_updates: jax.Array  # int32 [], updates with coupling B, decides eta


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


# (parameters, observation, heads, what was encoded) -> unreduced terms of the world-model loss
ModelTerms = Callable[[Params, Observation, Prediction, jax.Array], dict[str, jax.Array]]
# (imagined states, critic's value there) -> further terms of the critic's loss, and what is only
# logged, both [H - 1, N]
CriticTerms = Callable[[Imagined, jax.Array], tuple[Metrics, Metrics]]


def make_agent(
    network: NetworkConfig, learning: LearningConfig, action_size: int, state_size: int = 0
) -> Agent:
    """Build the networks and optimisers that a configuration describes.

    Args:
        action_size: A.
        state_size: N of the state vector that the agent reads; 0 for an agent that reads images.
    """
    dtype = jnp.dtype(network.dtype)
    common: dict[str, Any] = {"initializer": network.initializer, "dtype": dtype}
    image_encoder = Encoder(network.depth, **common)
    embed, layers = 32 * network.depth, (network.state_layers, network.units)
    model = WorldModel(
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
        continuation=MLP(network.continue_layers, network.units, **common)
        if network.discount_head
        else None,
        action_size=action_size,
        unroll=network.unroll,
        state_size=state_size,
        bridge=image_encoder if state_size else None,
    )

    def optimizer(learning_rate: float) -> optax.GradientTransformation:
        return optax.chain(
            optax.clip_by_global_norm(learning.clip),
            optax.scale_by_adam(eps=learning.adam_eps),
            optax.scale(-learning_rate),
            optax.add_decayed_weights(-learning.weight_decay),
        )

    return Agent(
        model=model,
        actor=ActorHead(action_size, network.actor_layers, network.units, **common),
        critic=MLP(network.critic_layers, network.units, **common),
        model_optimizer=optimizer(learning.model_lr),
        actor_optimizer=optimizer(learning.actor_lr),
        critic_optimizer=optimizer(learning.critic_lr),
        learning=learning,
        action_size=action_size,
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
        aligned_updates=jnp.zeros((), jnp.int32),
    )


def update_world_model(
    agent: Agent,
    state: AgentState,
    batch: Batch,
    key: jax.Array,
    extra_terms: ModelTerms,
    scales: dict[str, float],
    axis_name: str | None = None,
) -> tuple[AgentState, Observation, Metrics]:
    """One gradient step on the world model (Eq. 3).

    Args:
        batch: ``[T, B, ...]``, uint8 images.
        key: consumed by the posterior samples.
        extra_terms: terms that a coupling adds to, or puts in the place of, the likelihood terms.
        scales: weight of each extra term that is no likelihood term.
        axis_name: mapped axis over which the batch is split; gradients are averaged over it.

    Returns:
        The new state, the observation under the old parameters (detached), and metrics.
    """
    learning = agent.learning
    time, chunks = batch.reward.shape
    noise = world_model.latent_noise(agent.model, key, time, chunks, axis_name)
    reads = agent.model.reads
    observation = world_model.normalise(agent.model, state.world_model, getattr(batch, reads))
    weights = {reads: 1.0, "reward": learning.reward_scale, "kl": learning.kl_scale} | scales
    if agent.model.continuation is not None:
        weights["continue"] = learning.continue_scale

    def loss(params: Params) -> tuple[jax.Array, tuple[Observation, Metrics]]:
        embed = world_model.encode(agent.model, params, observation)
        seen = world_model.observe(agent.model, params, embed, batch.action, noise)
        prediction = world_model.predict(agent.model, params, seen)
        terms = world_model.likelihood_losses(prediction, batch, observation)
        terms |= extra_terms(params, seen, prediction, observation)
        means = _means(terms)
        means["kl"] = world_model.balanced_kl(
            seen, learning.kl_balance, learning.free_nats, axis_name
        )
        return _weighted_sum(means, weights), (seen, means)

    (total, (seen, metrics)), grads = jax.value_and_grad(loss, has_aux=True)(state.world_model)
    params, opt_state, norm = _apply(
        agent.model_optimizer, grads, state.world_model_opt, state.world_model, axis_name
    )
    if agent.model.state_size:  # measured and not learnt: weight decay must not reach it
        params["scaling"] = state.world_model["scaling"]
    metrics |= {"loss": total, "grad_norm": norm}
    # What the posterior knows beyond the prior, in nats, without balance and clamp.
    metrics["kl_mean"] = jnp.mean(losses.latent_kl(seen.post.stats, seen.prior))
    new_state = replace(state, world_model=params, world_model_opt=opt_state)
    return new_state, jax.lax.stop_gradient(seen), _prefixed("model", metrics, axis_name)


def update_behavior(
    agent: Agent,
    state: AgentState,
    post: Latent,
    discount: jax.Array,
    key: jax.Array,
    extra_terms: CriticTerms,
    scales: dict[str, float],
    axis_name: str | None = None,
) -> tuple[AgentState, Metrics]:
    """One gradient step on actor and critic in imagination from every posterior (Eq. 6, 7, 8).

    Args:
        post: detached posteriors, ``[T, B, ...]``: the start states.
        discount: 1 - terminal of those states, ``[T, B]``.
        key: consumed by the imagined latents and actions.
        extra_terms: terms that a coupling adds to the critic's loss.
        scales: weight of each extra term.
        axis_name: mapped axis over which the batch is split.

    Returns:
        The new state and metrics. **Gradient:** the actor's loss to the actor, the critic's to the
        critic; the world model is data.
    """
    learning, model = agent.learning, agent.model
    key_latent, key_action = jax.random.split(key)
    time, batch = discount.shape
    steps = (learning.horizon - 1) * time
    latent_noise = world_model.latent_noise(model, key_latent, steps, batch, axis_name)
    action_noise = world_model.example_noise(
        jax.random.uniform, key_action, (steps,), batch, (model.action_size,), axis_name
    )
    slow_critic = behavior.update_slow_critic(
        state.slow_critic, state.critic, state.behavior_updates, learning.slow_critic_every
    )

    def actor_loss(params: Params) -> tuple[jax.Array, tuple[Imagined, Metrics]]:
        loss, aux = behavior.actor_terms(
            params,
            actor=agent.actor,
            critic=agent.critic,
            critic_params=state.critic,
            slow_critic_params=slow_critic,
            model=model,
            world_params=state.world_model,
            start=jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), post),
            start_discount=discount.reshape(-1),
            latent_noise=latent_noise.reshape(learning.horizon - 1, time * batch, -1),
            action_noise=action_noise.reshape(learning.horizon - 1, time * batch, -1),
            action_size=agent.action_size,
            discount=learning.discount,
            lambda_=learning.lambda_,
            dynamics_share=learning.dynamics_share,
            entropy_scale=learning.entropy_scale,
        )
        return jnp.mean(loss), aux

    def critic_loss(params: Params, imagined: Imagined) -> tuple[jax.Array, Metrics]:
        loss, value = behavior.critic_terms(params, critic=agent.critic, imagined=imagined)
        terms, logged = extra_terms(imagined, value)
        means = _means({"regression": loss} | terms)
        total = _weighted_sum(means, {"regression": 1.0} | scales)
        return total, means | _means({"value": value} | logged)

    (actor_total, (imagined, logged)), actor_grads = jax.value_and_grad(actor_loss, has_aux=True)(
        state.actor
    )
    (critic_total, critic_logged), critic_grads = jax.value_and_grad(critic_loss, has_aux=True)(
        state.critic, imagined
    )
    actor, actor_opt, actor_norm = _apply(
        agent.actor_optimizer, actor_grads, state.actor_opt, state.actor, axis_name
    )
    critic, critic_opt, critic_norm = _apply(
        agent.critic_optimizer, critic_grads, state.critic_opt, state.critic, axis_name
    )
    metrics = _prefixed(
        "actor",
        {"loss": actor_total, "grad_norm": actor_norm} | _means(logged),
        axis_name,
    )
    metrics |= _prefixed(
        "critic", critic_logged | {"loss": critic_total, "grad_norm": critic_norm}, axis_name
    )
    new_state = replace(
        state,
        actor=actor,
        critic=critic,
        slow_critic=slow_critic,
        actor_opt=actor_opt,
        critic_opt=critic_opt,
        behavior_updates=state.behavior_updates + 1,
    )
    return new_state, metrics


def _means(terms: Metrics) -> Metrics:
    """The one place that reduces: each term's mean over time and batch."""
    return {name: jnp.mean(term) for name, term in terms.items()}


def _weighted_sum(means: Metrics, weights: dict[str, float]) -> jax.Array:
    """The one place that weighs loss terms: each term has a weight, each weight a term."""
    chex.assert_equal(set(means), set(weights))
    return jnp.stack([weight * means[name] for name, weight in weights.items()]).sum()


@jax.named_scope("optimizer")
def _apply(
    optimizer: optax.GradientTransformation,
    grads: Params,
    opt_state: optax.OptState,
    params: Params,
    axis_name: str | None,
) -> tuple[Params, optax.OptState, jax.Array]:
    """One optimiser step with gradients averaged over the mapped axis; also their norm."""
    if axis_name is not None:
        grads = jax.lax.pmean(grads, axis_name)
    norm = optax.tree.norm(grads)
    updates, opt_state = optimizer.update(grads, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, norm


def _prefixed(prefix: str, metrics: Metrics, axis_name: str | None) -> Metrics:
    """``metrics`` averaged over the mapped axis, with ``prefix/`` before each name."""
    if axis_name is not None:
        metrics = jax.lax.pmean(metrics, axis_name)
    return {f"{prefix}/{name}": value for name, value in metrics.items()}
