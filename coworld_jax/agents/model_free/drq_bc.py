"""DrQ+BC and behaviour cloning from pixels, as V-D4RL has them."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from coworld_jax import augment, losses
from coworld_jax.agents.gradient import Params, descend, differentiate
from coworld_jax.agents.model_free.actor_critic import (
    PAD,
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


def update_drq_bc(
    agent: PixelAgent,
    state: PixelState,
    batch: Transitions,
    draws: Draws,
    std: jax.Array,
    cloning_weight: float,
    axis_name: str | None = None,
) -> tuple[PixelState, Trace]:
    """One update of DrQ+BC: critic and encoder, then the actor, then the slow critic.

    ``L_critic = Σ_i (Q_i(s, a) - y)²`` and ``L_actor = -λ min Q(s, π(s)) + (π(s) - a)²`` with
    ``λ = w / mean |min Q|``. The actor sees the features from before the encoder's step and the
    critic from after its own.

    Args:
        std: of the policy's noise, ``[]``; see `exploration_std`.
        cloning_weight: ``w``, 2.5 in the paper.
        axis_name: mapped axis over which the batch is split.

    **Gradient:** the critic's loss to critic and encoder, the actor's to the actor alone.

    Reference: V-D4RL, Lu et al. (2022), ``drqbc``.
    """
    obs, next_obs = augmented(batch, draws)
    next_feat = jax.lax.stop_gradient(encode(agent, state.encoder, next_obs))
    target, values = td_targets(agent, state, batch, next_feat, draws.target, std)

    def critic_loss(params: Params) -> tuple[jax.Array, Metrics]:
        feat = encode(agent, params["encoder"], obs)
        q = agent.critic.apply(params["critic"], feat, batch.action)
        loss = losses.twin_td_loss(q, target)
        return loss, {"critic_loss": loss, "q": q, "feat": feat}

    state, seen, critic_grads = step_critic(agent, state, critic_loss, axis_name)

    def actor_loss(actor: Params) -> tuple[jax.Array, Metrics]:
        policy = act_and_judge(agent, actor, state.critic, seen["feat"], draws.actor, std)
        terms = {
            "policy_loss": losses.policy_loss(policy["actor_q"]),
            "cloning_loss": losses.cloning_loss(policy["actor_action"], batch.action),
            "value_scale": losses.value_scale(policy["actor_q"], cloning_weight, axis_name),
        }
        loss = terms["value_scale"] * terms["policy_loss"] + terms["cloning_loss"]
        return loss, policy | terms | {"actor_loss": loss}

    state, policy, actor_grads = step_actor(agent, state, actor_loss, axis_name)
    values |= seen | policy | {"next_feat": next_feat}
    return state, Trace(values, critic_grads | {"actor": actor_grads})


class CloningState(NamedTuple):
    """Everything that behaviour cloning learns, arrays only."""

    encoder: Params
    actor: Params
    opt: optax.OptState  # of both


def init_cloning(agent: PixelAgent, key: jax.Array, frames: tuple[int, int, int]) -> CloningState:
    """A fresh agent; its critic is not made.

    Args:
        frames: height, width and channels of a stack.
    """
    key_encoder, key_actor = jax.random.split(key)
    frame = jnp.zeros((1, *frames))
    encoder = agent.encoder.init(key_encoder, frame)
    feat = jnp.zeros(jax.eval_shape(agent.encoder.apply, encoder, frame).shape)
    actor = agent.actor.init(key_actor, feat)
    return CloningState(encoder, actor, agent.optimizer.init({"encoder": encoder, "actor": actor}))


def update_bc(
    agent: PixelAgent,
    state: CloningState,
    batch: Transitions,
    draws: Draws,
    std: jax.Array,
    axis_name: str | None = None,
) -> tuple[CloningState, Trace]:
    """One update of behaviour cloning: ``L = (π(s) - a)²`` with the noisy action.

    Args:
        std: of the policy's noise, ``[]``.
        axis_name: mapped axis over which the batch is split.

    **Gradient:** to encoder and actor.

    Reference: V-D4RL, ``bc``.
    """
    obs = augment.random_shift(batch.obs, draws.shift, PAD)

    def loss(params: Params) -> tuple[jax.Array, Metrics]:
        feat = encode(agent, params["encoder"], obs)
        mean = mean_action(agent, params["actor"], feat)
        action = noisy_action(mean, std, draws.actor, agent.noise_clip)
        cloning = losses.cloning_loss(action, batch.action)
        return cloning, {"cloning_loss": cloning, "actor_action": action}

    params = {"encoder": state.encoder, "actor": state.actor}
    values, grads = differentiate(loss, params, axis_name)
    params, opt = descend(agent.optimizer, grads, state.opt, params)
    return CloningState(params["encoder"], params["actor"], opt), Trace(values, grads)
