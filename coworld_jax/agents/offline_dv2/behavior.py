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
from coworld_jax.agents.dreamer.behavior import Noise, update_slow_critic
from coworld_jax.agents.dreamer.world_model import features, without_stats
from coworld_jax.agents.ensemble import disagreement, imagine_step
from coworld_jax.agents.gradient import Params, descend, differentiate
from coworld_jax.networks import MLP, ActorHead, EnsembleRSSM, recurrence
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
    noise: Noise | None,
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

    act, slots = recurrence.defer(agent.actor.apply, actor, features(start), len(heads))

    def step(latent: Latent, inputs: tuple[Any, ...]) -> tuple[Latent, tuple[Any, ...]]:
        head, noise, slot = inputs
        loc, scale = act(jax.lax.stop_gradient(features(latent)), slot)
        if noise is None:
            action, latent_noise = distributions.truncated_normal_mode(loc), None
        else:
            latent_noise, action_noise = noise
            action = distributions.truncated_normal_sample(loc, scale, action_noise)
        following = imagine_step(agent.rssm, model["rssm"], latent, action, head, latent_noise)
        following = without_stats(following)
        return following, (following, action, loc, scale)

    first = without_stats(start)
    _, (latents, action, loc, scale) = recurrence.scan(step, first, (heads, noise, slots))
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
    noise: Noise | None,
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
    lambda_return = returns.lambda_return(reward[:-1], discount[:-1], slow_value[1:], agent.lambda_)
    weight = returns.discount_weights(discount)
    entropy = jnp.sum(distributions.truncated_normal_entropy(seen.loc, seen.scale), axis=-1)[:-1]
    unused = jnp.zeros_like(entropy)
    loss = losses.actor_loss(
        lambda_return[1:],
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
        "lambda_return": lambda_return,
        "weight": weight,
        "entropy": entropy,
    }


def update_penalised(
    agent: PenalisedAgent,
    state: PenalisedState,
    model: Params,
    start: Latent,
    heads: jax.Array,
    noise: Noise | None,
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

    def imagined_actor_loss(actor: Params) -> tuple[jax.Array, Metrics]:
        return actor_loss(actor, agent, state, model, start, heads, noise)

    seen, actor_grads = differentiate(imagined_actor_loss, state.actor, axis_name)
    feat, lambda_return, weight = (
        jax.lax.stop_gradient(seen[name]) for name in ("feat", "lambda_return", "weight")
    )

    def critic_loss(critic: Params) -> tuple[jax.Array, Metrics]:
        value = agent.critic.apply(critic, feat)
        loss = losses.critic_loss(value[:-1], lambda_return, weight[:-1])
        return loss, {"critic_loss": loss, "value": value}

    critic_seen, critic_grads = differentiate(critic_loss, state.critic, axis_name)
    actor, actor_opt = descend(agent.actor_optimizer, actor_grads, state.actor_opt, state.actor)
    critic, critic_opt = descend(
        agent.critic_optimizer, critic_grads, state.critic_opt, state.critic
    )
    state = PenalisedState(
        actor=actor,
        critic=critic,
        slow_critic=update_slow_critic(state.slow_critic, critic, count, agent.slow_critic_every),
        actor_opt=actor_opt,
        critic_opt=critic_opt,
    )
    return state, seen | critic_seen, {"actor": actor_grads, "critic": critic_grads}
