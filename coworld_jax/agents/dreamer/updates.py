"""The two updates of a DreamerV2 agent: of its world model, and of its behaviour in imagination.

An update takes a state and data and returns a new state and metrics. Other terms enter a loss as
`Terms`, so that this module knows no second domain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp

from coworld_jax import losses
from coworld_jax.agents.dreamer import behavior, scaling, world_model
from coworld_jax.agents.dreamer.agent import Agent, AgentState
from coworld_jax.agents.dreamer.behavior import Imagined, Noise
from coworld_jax.agents.dreamer.world_model import Chunks, Observation, Prediction, WorldModel
from coworld_jax.agents.gradient import (
    Params,
    apply_gradient,
    averaged,
    joined,
    prefixed,
    term_means,
    weighted_sum,
)
from coworld_jax.types import Batch, Latent, Metrics

_NONE: dict[str, Any] = {}  # never written to
StateT = TypeVar("StateT", bound=AgentState)  # a method may add fields to the state of an agent


class Terms(NamedTuple):
    """What another module puts into a loss, by name, unreduced (or a scalar of its own)."""

    added: Metrics = _NONE  # further terms, each with a weight
    replaced: Metrics = _NONE  # terms in the place of the agent's own
    logged: Metrics = _NONE  # no part of the loss


class Seen(NamedTuple):
    """A batch as the world model takes it."""

    batch: Batch  # [T, B, ...]
    observation: jax.Array  # its images or states, normalised, [T, B, ...]
    noise: jax.Array  # of the posterior samples, [T, B, groups]


# (parameters, own observation, heads there, observations beside it) -> terms of the model's loss
ModelTerms = Callable[[Params, Observation, Prediction, Sequence[Observation]], Terms]
# (parameters, imagined states, critic's value there) -> terms of the critic's loss, [H - 1, N]
CriticTerms = Callable[[Params, Imagined, jax.Array], Terms]
# parameters -> terms of the actor's loss, of which none is replaced
ActorTerms = Callable[[Params], Terms]


def no_terms(*_: object) -> Terms:
    """The agent alone."""
    return Terms()


class ModelExtra(NamedTuple):
    """Further terms of the world model's loss, and what they need.

    The batches in ``beside`` are filtered together with the agent's own, in the same loop over
    time; the terms get what that gives.
    """

    terms: ModelTerms = no_terms
    weights: dict[str, float] = _NONE  # of the terms that are added
    beside: tuple[Seen, ...] = ()  # see `see_image`


class BehaviorExtra(NamedTuple):
    """Further terms of the losses of critic and actor, and their weights."""

    critic_terms: CriticTerms = no_terms
    critic_weights: dict[str, float] = _NONE
    actor_terms: ActorTerms = no_terms
    actor_weights: dict[str, float] = _NONE


def see(
    agent: Agent, state: AgentState, batch: Batch, key: jax.Array, axis_name: str | None = None
) -> Seen:
    """A batch with the noise of its posterior samples; ``key`` is consumed."""
    raw = getattr(batch, agent.model.reads)
    normal = world_model.normalise(agent.model, state.world_model, raw)
    return _with_noise(agent, batch, normal, key, axis_name)


def see_image(agent: Agent, batch: Batch, key: jax.Array, axis_name: str | None = None) -> Seen:
    """The images of a batch, from any domain, with the noise of their posterior samples.

    ``key`` is consumed. An agent that reads states encodes them by its bridge.
    """
    return _with_noise(agent, batch, world_model.normalise_image(batch.image), key, axis_name)


def _with_noise(
    agent: Agent, batch: Batch, observation: jax.Array, key: jax.Array, axis_name: str | None
) -> Seen:
    time, chunks = batch.reward.shape
    noise = world_model.latent_noise(agent.model, key, time, chunks, axis_name)
    return Seen(batch, observation, noise)


def world_model_loss(
    params: Params, agent: Agent, seen: Seen, extra: ModelExtra, axis_name: str | None = None
) -> tuple[jax.Array, tuple[Observation, Metrics]]:
    """Eq. 3: the weighted sum of likelihoods, KL and further terms.

    Args:
        params: differentiated.

    Returns:
        ``[]``, then what filtering gave and the mean of each term.
    """
    learning, reads = agent.learning, agent.model.reads
    observed, *beside = observe_all(params, agent.model, seen, extra.beside)
    prediction = world_model.predict(agent.model, params, observed)
    terms = world_model.likelihood_losses(
        agent.model, params, observed, prediction, seen.batch, seen.observation
    )
    further = extra.terms(params, observed, prediction, beside)
    # The clamp belongs to the batch mean, so this term comes reduced.
    kl = world_model.balanced_kl(observed, learning.kl_balance, learning.free_nats, axis_name)
    means = term_means(joined(terms | {"kl": kl}, further.replaced, further.added))
    weights = {reads: 1.0, "reward": learning.reward_scale, "kl": learning.kl_scale}
    weights |= extra.weights
    if agent.model.continuation is not None:
        weights["continue"] = learning.continue_scale
    total = weighted_sum(means, weights)
    return total, (observed, means | term_means(further.logged))


def observe_all(
    params: Params, model: WorldModel, seen: Seen, beside: Sequence[Seen]
) -> tuple[Observation, ...]:
    """What filtering an agent's own batch gives, and then each batch beside it."""
    embeds = [
        world_model.encode(model, params, seen.observation),
        *(world_model.encode_image(model, params, other.observation) for other in beside),
    ]
    batches = [
        Chunks(embed, batch.action, noise)
        for embed, (batch, _, noise) in zip(embeds, (seen, *beside), strict=True)
    ]
    return world_model.observe_each(model, params, batches)


def update_world_model(
    agent: Agent,
    state: StateT,
    batch: Batch,
    key: jax.Array,
    extra: ModelExtra,
    axis_name: str | None = None,
) -> tuple[StateT, Observation, Metrics]:
    """One gradient step on the world model (Eq. 3).

    Args:
        batch: ``[T, B, ...]``, uint8 images.
        key: consumed by the posterior samples.
        extra: terms that another module adds to, or puts in the place of, the agent's own.
        axis_name: mapped axis over which the batch is split; gradients are averaged over it.

    Returns:
        The new state, the observation under the old parameters (detached), and metrics.
    """
    seen = see(agent, state, batch, key, axis_name)
    (total, (observed, metrics)), grads = jax.value_and_grad(world_model_loss, has_aux=True)(
        state.world_model, agent, seen, extra, axis_name
    )
    metrics["loss"] = total
    # What the posterior knows beyond the prior, in nats, without balance and clamp.
    metrics["kl_mean"] = jnp.mean(losses.latent_kl(observed.post.stats, observed.prior))
    grads, metrics = averaged((grads, metrics), axis_name)
    params, opt_state, metrics["grad_norm"] = apply_gradient(
        agent.model_optimizer, grads, state.world_model_opt, state.world_model
    )
    if agent.model.state_size:  # measured and not learnt: weight decay must not reach it
        params["scaling"] = state.world_model["scaling"]
    new_state = replace(state, world_model=params, world_model_opt=opt_state)
    return new_state, jax.lax.stop_gradient(observed), prefixed("model", metrics)


def actor_loss(
    params: Params,
    agent: Agent,
    state: AgentState,
    start: Latent,
    start_discount: jax.Array,
    noise: Noise,
    extra: BehaviorExtra,
) -> tuple[jax.Array, tuple[Imagined, Metrics]]:
    """Eq. 7: the mean over imagined states, plus further terms.

    Args:
        params: of the actor, differentiated.
        state: of the agent; all of it is data.
        start, start_discount, noise: see `behavior.actor_terms`.

    Returns:
        ``[]``, then what the critic learns from and what is logged.
    """
    loss, (imagined, logged) = behavior.actor_terms(
        params, agent, state, start, start_discount, noise
    )
    terms = extra.actor_terms(params)
    total = jnp.mean(loss)
    if terms.added:
        total = total + weighted_sum(term_means(terms.added), extra.actor_weights)
    return total, (imagined, logged | terms.added | terms.logged)


def critic_loss(
    params: Params, agent: Agent, imagined: Imagined, extra: BehaviorExtra
) -> tuple[jax.Array, Metrics]:
    """Eq. 6: the weighted sum of the regression and further terms.

    Args:
        params: of the critic, differentiated.

    Returns:
        ``[]``, then the mean of each term.
    """
    loss, value = behavior.critic_terms(params, agent, imagined)
    further = extra.critic_terms(params, imagined, value)
    means = term_means(joined({"regression": loss}, further.replaced, further.added))
    total = weighted_sum(means, {"regression": 1.0} | extra.critic_weights)
    return total, means | term_means({"value": value} | further.logged)


def update_behavior(
    agent: Agent,
    state: StateT,
    post: Latent,
    discount: jax.Array,
    key: jax.Array,
    extra: BehaviorExtra,
    axis_name: str | None = None,
) -> tuple[StateT, Metrics]:
    """One gradient step on actor and critic in imagination from every posterior (Eq. 6, 7, 8).

    Args:
        post: detached posteriors, ``[T, B, ...]``: the start states.
        discount: 1 - terminal of those states, ``[T, B]``.
        key: consumed by the imagined latents and actions.
        extra: terms that another module adds.
        axis_name: mapped axis over which the batch is split.

    Returns:
        The new state and metrics. **Gradient:** the actor's loss to the actor, the critic's to the
        critic; the world model is data.
    """
    steps = agent.learning.horizon - 1
    noise = behavior.rollout_noise(
        agent.model, jax.random.split(key), steps, discount.shape, axis_name
    )
    slow_critic = behavior.update_slow_critic(
        state.slow_critic, state.critic, state.behavior_updates, agent.learning.slow_critic_every
    )
    state = replace(state, slow_critic=slow_critic)
    start = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), post)
    (actor_total, (imagined, logged)), actor_grads = jax.value_and_grad(actor_loss, has_aux=True)(
        state.actor, agent, state, start, discount.reshape(-1), noise, extra
    )
    (critic_total, critic_logged), critic_grads = jax.value_and_grad(critic_loss, has_aux=True)(
        state.critic, agent, imagined, extra
    )
    metrics = prefixed("actor", {"loss": actor_total} | term_means(logged))
    metrics |= prefixed("critic", {"loss": critic_total} | critic_logged)
    actor_grads, critic_grads, metrics = averaged((actor_grads, critic_grads, metrics), axis_name)
    actor, actor_opt, metrics["actor/grad_norm"] = apply_gradient(
        agent.actor_optimizer, actor_grads, state.actor_opt, state.actor
    )
    critic, critic_opt, metrics["critic/grad_norm"] = apply_gradient(
        agent.critic_optimizer, critic_grads, state.critic_opt, state.critic
    )
    new_state = replace(
        state,
        actor=actor,
        critic=critic,
        actor_opt=actor_opt,
        critic_opt=critic_opt,
        behavior_updates=state.behavior_updates + 1,
    )
    return new_state, metrics


def update_agent(
    agent: Agent,
    state: StateT,
    batch: Batch,
    key: jax.Array,
    extras: tuple[ModelExtra, BehaviorExtra] = (ModelExtra(), BehaviorExtra()),
    axis_name: str | None = None,
) -> tuple[StateT, Metrics]:
    """One update of the world model on a batch, then one of the behaviour from its posteriors.

    Args:
        key: consumed.
        extras: further terms of the two.
    """
    key_model, key_behavior = jax.random.split(key)
    state, observed, metrics = update_world_model(
        agent, state, batch, key_model, extras[0], axis_name
    )
    state, behavior_metrics = update_behavior(
        agent, state, observed.post, batch.discount, key_behavior, extras[1], axis_name
    )
    return state, metrics | behavior_metrics


def update_scaling(
    state: StateT, batch: Batch, count: jax.Array, axis_name: str | None = None
) -> tuple[StateT, Metrics]:
    """Measure the unit of the states that an agent reads on one more batch of random play.

    Args:
        count: batches measured before, int32 ``[]``.
    """
    moments = averaged(scaling.moments(batch.state), axis_name)
    measured = scaling.measure(state.world_model["scaling"], moments, count)
    world_model = state.world_model | {"scaling": measured}
    return replace(state, world_model=world_model), {"model/scaling_std": jnp.mean(measured["std"])}
