"""Conservative Q-learning from pixels, as V-D4RL has it."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from coworld_jax import losses
from coworld_jax.agents.gradient import Params
from coworld_jax.agents.model_free.actor_critic import (
    Draws,
    PixelAgent,
    PixelState,
    Trace,
    Transitions,
    act_and_judge,
    augmented,
    encode,
    mean_action,
    noisy_action,
    step_actor,
    step_critic,
    td_targets,
)
from coworld_jax.types import Metrics


class CandidateDraws(NamedTuple):
    """Random numbers of the candidate actions, C of each kind per state."""

    random: jax.Array  # uniform in [-1, 1], [B, C, A]
    current: jax.Array  # standard normal, [B, C, A]
    next: jax.Array  # standard normal, [B, C, A]


def update_cql(
    agent: PixelAgent,
    state: PixelState,
    batch: Transitions,
    draws: Draws,
    candidate_draws: CandidateDraws,
    std: jax.Array,
    conservative_weight: float,
    axis_name: str | None = None,
) -> tuple[PixelState, Trace]:
    """One update of CQL: critic and encoder, then the actor, then the slow critic.

    ``L_critic = Σ_i (Q_i(s, a) - y)² + w (log Σ_c exp Q_i(s, a_c) - Q_i(s, a))`` over 3C + 1
    actions: random ones, the data's, and samples of the policy for s' and for s. **All of them are
    judged at s**, so the encoder gets gradient through each. ``L_actor = -min Q(s, π(s))``.

    Args:
        std: of the policy's noise, ``[]``; the candidates have it too.
        conservative_weight: ``w``; V-D4RL's command has 10.
        axis_name: mapped axis over which the batch is split.

    **Gradient:** the critic's loss to critic and encoder, the actor's to the actor alone; the
    candidates are stopped.

    Reference: V-D4RL, Lu et al. (2022), ``cql``; Kumar et al. (2020).
    """
    obs, next_obs = augmented(batch, draws)
    next_feat = jax.lax.stop_gradient(encode(agent, state.encoder, next_obs))
    target, values = td_targets(agent, state, batch, next_feat, draws.target, std)
    next_actions = _samples(agent, values["target_mean"], candidate_draws.next, std)
    count = candidate_draws.random.shape[1]

    def critic_loss(params: Params) -> tuple[jax.Array, Metrics]:
        feat = encode(agent, params["encoder"], obs)
        mean = mean_action(agent, state.actor, jax.lax.stop_gradient(feat))
        actions = _samples(agent, mean, candidate_draws.current, std)
        kinds = (candidate_draws.random, batch.action[:, None], next_actions, actions)
        candidates = jnp.concatenate(kinds, axis=1)
        candidate_q = _values_at_one_state(agent, params["critic"], feat, candidates)
        q = candidate_q[:, :, count]  # the data's action is one of the candidates
        td = losses.twin_td_loss(q, target)
        conservative = losses.conservative_loss(candidate_q, q)
        loss = td + conservative_weight * jnp.sum(conservative, axis=0)
        return loss, {
            "critic_loss": loss,
            "conservative_loss": conservative,
            "q": q,
            "feat": feat,
            "candidates": candidates,
            "candidate_q": candidate_q,
        }

    state, seen, critic_grads = step_critic(agent, state, critic_loss, axis_name)

    def actor_loss(actor: Params) -> tuple[jax.Array, Metrics]:
        policy = act_and_judge(agent, actor, state.critic, seen["feat"], draws.actor, std)
        loss = losses.policy_loss(policy["actor_q"])
        return loss, policy | {"actor_loss": loss}

    state, policy, actor_grads = step_actor(agent, state, actor_loss, axis_name)
    values |= seen | policy | {"next_feat": next_feat}
    return state, Trace(values, critic_grads | {"actor": actor_grads})


def _samples(agent: PixelAgent, mean: jax.Array, noise: jax.Array, std: jax.Array) -> jax.Array:
    """C noisy actions around each mean, without gradient: ``[B, A], [B, C, A] -> [B, C, A]``."""
    means = jnp.broadcast_to(mean[:, None], noise.shape)
    return jax.lax.stop_gradient(noisy_action(means, std, noise, agent.noise_clip))


def _values_at_one_state(
    agent: PixelAgent, critic: Params, feat: jax.Array, actions: jax.Array
) -> jax.Array:
    """Critics of C actions at each state, whose trunk runs once: ``[2, B, C]``."""
    embed = agent.critic.apply(critic, feat, method="embed")
    embed = jnp.broadcast_to(embed[:, None], (*actions.shape[:2], embed.shape[-1]))
    return agent.critic.apply(critic, embed, actions, method="values")
