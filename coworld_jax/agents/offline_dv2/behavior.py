"""Learning behaviour in an ensemble's imagination, with a penalty where it disagrees.

Offline DV2 of V-D4RL: DreamerV2 of 2021, whose model stays as it is. Of H + 1 imagined states, the
first is a posterior of the data.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from coworld_jax import distributions, losses, returns
from coworld_jax.agents.dreamer.world_model import features, without_stats
from coworld_jax.agents.ensemble import disagreement, imagine_step
from coworld_jax.agents.gradient import Params, averaged
from coworld_jax.networks import MLP, ActorHead, EnsembleRSSM
from coworld_jax.types import Latent, Metrics


class PenalisedAgent(NamedTuple):
    """Networks, optimisers and constants: static, the same for every update."""

    rssm: EnsembleRSSM
    reward: MLP
    actor: ActorHead
    critic: MLP
    actor_optimizer: optax.GradientTransformation
    critic_optimizer: optax.GradientTransformation
    penalty: str = "none"  # kind of `ensemble.disagreement`
    penalty_scale: float = 10.0  # λ
    discount: float = 0.99  # γ
    lambda_: float = 0.95
    entropy_scale: float = 1e-4
    slow_critic_every: int = 100


class PenalisedState(NamedTuple):
    """What the behaviour learns, arrays only."""

    actor: Params
    critic: Params
    slow_critic: Params
    actor_opt: optax.OptState
    critic_opt: optax.OptState


class Imagination(NamedTuple):
    """H + 1 imagined states of N rollouts."""

    feat: jax.Array  # [H + 1, N, F]
    deter: jax.Array  # [H + 1, N, D]
    action: jax.Array  # that led to each state; zeros for the first, [H + 1, N, A]
    loc: jax.Array  # of the policy at the first H states, [H, N, A]
    scale: jax.Array  # [H, N, A]
    penalty: jax.Array  # u, [H + 1, N]


def imagine(
    agent: PenalisedAgent,
    model: Params,
    actor: Params,
    start: Latent,
    heads: jax.Array,
    noise: tuple[jax.Array, jax.Array] | None,
) -> Imagination:
    """Roll the actor out, each step with the prior of one head.

    Args:
        model: parameters of ``rssm`` and ``reward``: data.
        actor: differentiated.
        start: ``[N, ...]``, detached by the caller.
        heads: int, one for each step, ``[H]``.
        noise: of the latents (see `world_model.draw`) and uniform of the actions, ``[H, N, ...]``;
            None for modes.

    **Gradient:** to the actor through the imagined dynamics; its own input is stopped.
    """

    def step(latent: Latent, inputs: tuple[Any, ...]) -> tuple[Latent, tuple[Any, ...]]:
        head, noise = inputs
        loc, scale = agent.actor.apply(actor, jax.lax.stop_gradient(features(latent)))
        if noise is None:
            action, latent_noise = distributions.truncated_normal_mode(loc), None
        else:
            latent_noise, action_noise = noise
            action = distributions.truncated_normal_sample(loc, scale, action_noise)
        following = imagine_step(agent.rssm, model["rssm"], latent, action, head, latent_noise)
        following = without_stats(following)
        return following, (following, action, loc, scale)

    first = without_stats(start)
    _, (latents, action, loc, scale) = jax.lax.scan(step, first, (heads, noise))
    states = jax.tree.map(lambda one, more: jnp.concatenate([one[None], more]), first, latents)
    penalty = disagreement(agent.penalty, agent.rssm, model["rssm"], states.deter, states.stoch)
    action = jnp.concatenate([jnp.zeros_like(action[:1]), action])
    return Imagination(features(states), states.deter, action, loc, scale, penalty)


def actor_loss(
    actor: Params,
    agent: PenalisedAgent,
    state: PenalisedState,
    model: Params,
    start: Latent,
    heads: jax.Array,
    noise: tuple[jax.Array, jax.Array] | None,
) -> tuple[jax.Array, Metrics]:
    """``-w_t (V_{t+1} + β H_t)`` at states ``t < H - 1``, with rewards ``r - λ u``.

    The policy of a state is paired with the return of the next one, as in DreamerV2 of 2021, and
    the penalty is differentiated through.

    Returns:
        Loss ``[H - 1, N]``, and what it was made of. **Gradient:** to ``actor``.
    """
    seen = imagine(agent, model, actor, start, heads, noise)
    plain = agent.reward.apply(model["reward"], seen.feat)
    reward = plain - agent.penalty_scale * seen.penalty
    discount = jnp.full_like(reward, agent.discount)
    slow_value = agent.critic.apply(state.slow_critic, seen.feat)
    target = returns.lambda_return(reward[:-1], discount[:-1], slow_value[1:], agent.lambda_)
    weight = returns.discount_weights(discount)
    entropy = jnp.sum(distributions.truncated_normal_entropy(seen.loc, seen.scale), axis=-1)[:-1]
    unused = jnp.zeros_like(entropy)
    loss = losses.actor_loss(
        target[1:],
        unused,
        unused,
        entropy,
        weight[:-2],
        dynamics_share=1.0,
        entropy_scale=agent.entropy_scale,
    )
    return loss, seen._asdict() | {
        "actor_loss": loss,
        "plain_reward": plain,
        "reward": reward,
        "slow_value": slow_value,
        "target": target,
        "weight": weight,
        "entropy": entropy,
    }


def update_penalised(
    agent: PenalisedAgent,
    state: PenalisedState,
    model: Params,
    start: Latent,
    heads: jax.Array,
    noise: tuple[jax.Array, jax.Array] | None,
    count: jax.Array,
    axis_name: str | None = None,
) -> tuple[PenalisedState, Metrics, dict[str, Params]]:
    """One update of actor and critic in imagination.

    Args:
        model: parameters of ``rssm`` and ``reward``, which this update leaves alone.
        start, heads, noise: see `imagine`.
        count: updates done, int ``[]``: the slow critic is copied after the first one and after
            every `PenalisedAgent.slow_critic_every`-th that follows.
        axis_name: mapped axis over which the batch is split.

    Returns:
        The new state, what was seen, and the gradients of ``actor`` and ``critic``.

    Reference: V-D4RL, Lu et al. (2022), ``offlinedv2``.
    """

    def mean_actor_loss(actor: Params) -> tuple[jax.Array, Metrics]:
        loss, seen = actor_loss(actor, agent, state, model, start, heads, noise)
        return jnp.mean(loss), seen

    actor_grads, seen = jax.grad(mean_actor_loss, has_aux=True)(state.actor)
    feat, target, weight = jax.lax.stop_gradient((seen["feat"], seen["target"], seen["weight"]))

    def mean_critic_loss(critic: Params) -> tuple[jax.Array, Metrics]:
        value = agent.critic.apply(critic, feat)
        loss = losses.critic_loss(value[:-1], target, weight[:-1])
        return jnp.mean(loss), {"critic_loss": loss, "value": value}

    critic_grads, critic_seen = jax.grad(mean_critic_loss, has_aux=True)(state.critic)
    grads = averaged({"actor": actor_grads, "critic": critic_grads}, axis_name)
    actor_step, actor_opt = agent.actor_optimizer.update(
        grads["actor"], state.actor_opt, state.actor
    )
    critic_step, critic_opt = agent.critic_optimizer.update(
        grads["critic"], state.critic_opt, state.critic
    )
    critic = optax.apply_updates(state.critic, critic_step)
    due = count % agent.slow_critic_every == 0
    state = PenalisedState(
        actor=optax.apply_updates(state.actor, actor_step),
        critic=critic,
        slow_critic=jax.tree.map(
            lambda slow, fast: jnp.where(due, fast, slow), state.slow_critic, critic
        ),
        actor_opt=actor_opt,
        critic_opt=critic_opt,
    )
    return state, seen | critic_seen, grads
