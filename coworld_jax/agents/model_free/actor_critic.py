"""One actor and twin critics on stacked frames: what DrQ+BC, CQL and BC share.

Every random number is an argument. An update returns the new state and a `Trace` of what it saw;
a jitted caller pays only for the entries that it uses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from coworld_jax import augment, distributions, losses
from coworld_jax.agents.gradient import Params, descend, differentiate
from coworld_jax.networks import PixelActor, PixelEncoder, TwinCritic
from coworld_jax.types import Metrics

PAD = 4  # pixels by which frames are shifted at most


class Transitions(NamedTuple):
    """Steps of the data; frames of a stack are channels, oldest first."""

    obs: jax.Array  # uint8 [B, height, width, C]
    action: jax.Array  # [B, A], unclipped
    reward: jax.Array  # of the n steps, [B]
    discount: jax.Array  # γ^n times the last step's discount, [B]
    next_obs: jax.Array  # uint8 [B, height, width, C]


class Draws(NamedTuple):
    """Random numbers of one update."""

    shift: jax.Array  # int in 0 ... 2 * PAD, (row, column), [B, 2]
    next_shift: jax.Array  # [B, 2]
    target: jax.Array  # standard normal, [B, A]
    actor: jax.Array  # standard normal, [B, A]


class Trace(NamedTuple):
    """What an update saw."""

    values: Metrics  # unreduced loss terms, named ``*_loss``, and what they were made of
    grads: dict[str, Any]  # averaged over the mapped axis


class PixelAgent(NamedTuple):
    """Networks and optimiser of one agent: static, the same for every update."""

    encoder: PixelEncoder
    actor: PixelActor
    critic: TwinCritic
    optimizer: optax.GradientTransformation
    slow_rate: float = 0.01  # share of the critic that its slow copy takes over
    noise_clip: float = 0.3  # largest deviation of an action from the policy's mean


class PixelState(NamedTuple):
    """Everything that one agent learns, arrays only."""

    encoder: Params
    actor: Params
    critic: Params
    slow_critic: Params
    critic_opt: optax.OptState  # of encoder and critic
    actor_opt: optax.OptState


def init_pixel_agent(
    agent: PixelAgent, key: jax.Array, frames: tuple[int, int, int], action_size: int
) -> PixelState:
    """A fresh agent; the slow critic begins as a copy.

    Args:
        frames: height, width and channels of a stack.
    """
    key_encoder, key_actor, key_critic = jax.random.split(key, 3)
    encoder = agent.encoder.init(key_encoder, jnp.zeros((1, *frames)))
    feat = jax.eval_shape(agent.encoder.apply, encoder, jnp.zeros((1, *frames)))
    feat, action = jnp.zeros(feat.shape), jnp.zeros((1, action_size))
    actor = agent.actor.init(key_actor, feat)
    critic = agent.critic.init(key_critic, feat, action)
    return PixelState(
        encoder=encoder,
        actor=actor,
        critic=critic,
        slow_critic=jax.tree.map(jnp.copy, critic),
        critic_opt=agent.optimizer.init({"encoder": encoder, "critic": critic}),
        actor_opt=agent.optimizer.init(actor),
    )


def scale_frames(frames: jax.Array) -> jax.Array:
    """uint8 to float32 in [-0.5, 0.5]."""
    return frames.astype(jnp.float32) / 255.0 - 0.5


def encode(agent: PixelAgent, encoder: Params, frames: jax.Array) -> jax.Array:
    """Features of uint8 frames: ``[B, height, width, C] -> [B, F]``."""
    return agent.encoder.apply(encoder, scale_frames(frames))


def mean_action(agent: PixelAgent, actor: Params, feat: jax.Array) -> jax.Array:
    """The policy's mean, ``tanh`` of its outputs: ``[B, F] -> [B, A]``."""
    return jnp.tanh(agent.actor.apply(actor, feat))


def noisy_action(mean: jax.Array, std: jax.Array, noise: jax.Array, clip: float) -> jax.Array:
    """``a = clamp(μ + clip(σ ε, ±c), ±(1 - 1e-6))``.

    Args:
        mean: ``μ``, ``[...]``.
        std: ``σ``, ``[]``.
        noise: ``ε``, standard normal, ``[...]``.
        clip: ``c``.

    Returns:
        ``[...]``. **Gradient:** to ``mean``, as if there were no clamp.

    Reference: DrQ-v2, Yarats et al. (2021).
    """
    action = mean + jnp.clip(std * noise, -clip, clip)
    limit = distributions.ACTION_LIMIT
    clamped = jnp.clip(action, -limit, limit)
    return action + jax.lax.stop_gradient(clamped - action)


def exploration_std(step: jax.Array, initial: float, final: float, steps: float) -> jax.Array:
    """``σ`` of `noisy_action`, from ``initial`` to ``final`` in a straight line.

    Args:
        step: the count of updates. The official code counts agent steps, two for each update.
        steps: at which ``final`` is reached, counted as ``step`` is.
    """
    progress = jnp.clip(step / steps, 0.0, 1.0)
    return (1.0 - progress) * initial + progress * final


def augmented(batch: Transitions, draws: Draws) -> tuple[jax.Array, jax.Array]:
    """Shifted frames and next frames, uint8."""
    obs = augment.random_shift(batch.obs, draws.shift, PAD)
    return obs, augment.random_shift(batch.next_obs, draws.next_shift, PAD)


def td_targets(
    agent: PixelAgent,
    state: PixelState,
    batch: Transitions,
    next_feat: jax.Array,
    noise: jax.Array,
    std: jax.Array,
) -> tuple[jax.Array, Metrics]:
    """``y`` of `losses.td_target` at the policy's next action, and what it was made of.

    The slow critic has a trunk but no encoder of its own: ``next_feat`` are the online one's.
    """
    mean = mean_action(agent, state.actor, next_feat)
    action = noisy_action(mean, std, noise, agent.noise_clip)
    next_q = agent.critic.apply(state.slow_critic, next_feat, action)
    target = losses.td_target(batch.reward, batch.discount, next_q)
    return target, {
        "target_mean": mean,
        "target_action": action,
        "target_q": next_q,
        "target": target,
    }


def step_critic(
    agent: PixelAgent,
    state: PixelState,
    loss: Callable[[Params], tuple[jax.Array, Metrics]],
    axis_name: str | None,
) -> tuple[PixelState, Metrics, Params]:
    """One step on encoder and critic.

    Args:
        loss: of ``{"encoder", "critic"}``: unreduced values, and a dictionary of what it saw.
    """
    params = {"encoder": state.encoder, "critic": state.critic}
    seen, grads = differentiate(loss, params, axis_name)
    params, opt = descend(agent.optimizer, grads, state.critic_opt, params)
    state = state._replace(encoder=params["encoder"], critic=params["critic"], critic_opt=opt)
    return state, seen, grads


def step_actor(
    agent: PixelAgent,
    state: PixelState,
    loss: Callable[[Params], tuple[jax.Array, Metrics]],
    axis_name: str | None,
) -> tuple[PixelState, Metrics, Params]:
    """One step on the actor, then the slow critic follows the critic."""
    seen, grads = differentiate(loss, state.actor, axis_name)
    actor, opt = descend(agent.optimizer, grads, state.actor_opt, state.actor)
    target = optax.incremental_update(state.critic, state.slow_critic, agent.slow_rate)
    return state._replace(actor=actor, actor_opt=opt, slow_critic=target), seen, grads


def act_and_judge(
    agent: PixelAgent,
    actor: Params,
    critic: Params,
    feat: jax.Array,
    noise: jax.Array,
    std: jax.Array,
) -> Metrics:
    """The policy's noisy action at ``feat``, and the critics' values of it.

    Returns:
        ``actor_mean`` and ``actor_action`` ``[B, A]``, ``actor_q`` ``[2, B]``.

    **Gradient:** to ``actor``, through the action.
    """
    mean = mean_action(agent, actor, feat)
    action = noisy_action(mean, std, noise, agent.noise_clip)
    return {
        "actor_mean": mean,
        "actor_action": action,
        "actor_q": agent.critic.apply(critic, feat, action),
    }
