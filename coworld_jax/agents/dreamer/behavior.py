"""Learning behaviour in imagination: rollouts of the actor, its loss, the critic's loss.

A rollout has H states and the H - 1 actions between them. Its first state is a posterior state of
the batch. The heads read the first H - 1 states, which are one array; only the slow critic reads
the last state as well.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from coworld_jax import distributions, losses, returns
from coworld_jax.agents.dreamer import world_model
from coworld_jax.agents.dreamer.agent import Agent, AgentState
from coworld_jax.agents.dreamer.world_model import (
    WorldModel,
    features,
    imagine_step,
    predict_continuation,
    predict_reward,
    without_stats,
)
from coworld_jax.agents.gradient import Params
from coworld_jax.agents.noise import example_noise
from coworld_jax.networks import recurrence
from coworld_jax.types import Latent


class Rollout(NamedTuple):
    """Imagined states, and the policy at all but the last; features are of the compute type."""

    feat: jax.Array  # [H - 1, N, F]
    last: jax.Array  # features of the last state, [N, F]
    action: jax.Array  # [H - 1, N, A]
    loc: jax.Array  # [H - 1, N, A]
    scale: jax.Array  # [H - 1, N, A]


class Imagined(NamedTuple):
    """States and returns that the critic learns from; no gradient flows back from here."""

    feat: jax.Array  # [H - 1, N, F]
    lambda_return: jax.Array  # [H - 1, N]
    weight: jax.Array  # cumulative discounts, [H - 1, N]


class Noise(NamedTuple):
    """Random draws of one imagined rollout."""

    latent: jax.Array  # see `world_model.latent_noise`, [steps, N, groups]
    action: jax.Array  # uniform on [0, 1), [steps, N, A]


def rollout_noise(
    model: WorldModel,
    keys: jax.Array,
    steps: int,
    starts: tuple[int, ...],
    axis_name: str | None = None,
) -> Noise:
    """Noise of rollouts from ``T B`` posteriors.

    Args:
        keys: of the latents and of the actions, ``[2]``; consumed.
        steps: of each rollout.
        starts: ``(T, B)``; B is the share of one device under a mapped axis.
        axis_name: mapped axis over which the batch is split.
    """
    key_latent, key_action = keys
    time, batch = starts
    latent = world_model.latent_noise(model, key_latent, steps * time, batch, axis_name)
    action = example_noise(
        jax.random.uniform, key_action, (steps * time,), batch, (model.action_size,), axis_name
    )
    shape = (steps, time * batch, -1)
    return Noise(latent.reshape(shape), action.reshape(shape))


@jax.named_scope("imagine")
def imagine(
    agent: Agent, world_params: Params, actor_params: Params, start: Latent, noise: Noise
) -> Rollout:
    """Roll the actor out in the world model.

    Args:
        actor_params: differentiated; ``world_params`` and ``start`` are data.
        start: ``[N, ...]``, detached by the caller.
        noise: see `rollout_noise`.

    Only the coordinates that the agent's own simulator takes are acted with. The others are zero,
    as in its episodes: the world model has never learnt what they would do.

    **Gradient:** from each state to the actions before it (dynamics backpropagation); the actor's
    input is stopped, so a state does not reach the actor through a later action.
    """
    model, dtype = agent.model, agent.model.rssm.dtype
    taken = jnp.arange(noise.action.shape[-1])[None] < agent.action_size

    first = features(start).astype(dtype)
    act, slots = recurrence.defer(agent.actor.apply, actor_params, first, len(noise.action))

    def step(latent: Latent, inputs: tuple[Any, ...]) -> tuple[Latent, tuple[jax.Array, ...]]:
        noise, slot = inputs
        feat = features(latent).astype(dtype)
        loc, scale = act(jax.lax.stop_gradient(feat), slot)
        action = distributions.truncated_normal_sample(loc, scale, noise.action)
        action = jnp.where(taken, action, 0.0)
        following = imagine_step(model, world_params, latent, action, noise.latent)
        return without_stats(following), (feat, action, loc, scale)

    last, (feat, action, loc, scale) = recurrence.scan(
        step, without_stats(start), (noise, slots), unroll=model.unroll
    )
    return Rollout(feat, features(last).astype(dtype), action, loc, scale)


def actor_terms(
    actor_params: Params,
    agent: Agent,
    state: AgentState,
    start: Latent,
    start_discount: jax.Array,
    noise: Noise,
) -> tuple[jax.Array, tuple[Imagined, dict[str, jax.Array]]]:
    """Actor loss over one imagined rollout, and what the critic learns from (Eq. 7, 8).

    Args:
        actor_params: differentiated; all else is data.
        state: of the agent: its world model, its critic and the slow copy.
        start: posterior states, ``[N, ...]``, detached.
        start_discount: 1 - terminal of the start states, ``[N]``; used with a discount head.
        noise: see `rollout_noise`.

    Returns:
        Loss ``[H - 1, N]``, then (what the critic learns from, per-state quantities to log).
        Entropy and log-probability are those of the coordinates that the agent's simulator takes.
    """
    learning, model, world_params = agent.learning, agent.model, state.world_model
    rollout = imagine(agent, world_params, actor_params, start, noise)
    action, loc, scale = (x[..., : agent.action_size] for x in rollout[2:])
    states, last = rollout.feat, rollout.last
    reward = predict_reward(model, world_params, states)
    continuation = predict_continuation(model, world_params, states)
    if model.continuation is not None:
        # The replay knows whether the start states were terminal.
        continuation = jnp.concatenate([start_discount[None], continuation[1:]])
    gamma = learning.discount * continuation
    value, last_value = (agent.critic.apply(state.slow_critic, x) for x in (states, last))
    next_value = jnp.concatenate([value[1:], last_value[None]])
    lambda_return = returns.lambda_return(reward, gamma, next_value, learning.lambda_)
    weight = returns.discount_weights(gamma)
    entropy = jnp.sum(distributions.truncated_normal_entropy(loc, scale), axis=-1)
    log_prob, baseline = jnp.zeros_like(lambda_return), jnp.zeros_like(lambda_return)
    if learning.dynamics_share < 1.0:
        log_prob = jnp.sum(
            distributions.truncated_normal_log_prob(jax.lax.stop_gradient(action), loc, scale),
            axis=-1,
        )
        baseline = agent.critic.apply(state.critic, jax.lax.stop_gradient(states))
    loss = losses.actor_loss(
        lambda_return,
        log_prob,
        baseline,
        entropy,
        weight,
        dynamics_share=learning.dynamics_share,
        entropy_scale=learning.entropy_scale,
    )
    imagined = jax.lax.stop_gradient(Imagined(states, lambda_return, weight))
    logged = {"entropy": entropy, "imagined_reward": reward, "return": lambda_return}
    return loss, (imagined, logged)


def critic_terms(
    critic_params: Params, agent: Agent, imagined: Imagined
) -> tuple[jax.Array, jax.Array]:
    """Regression loss and value of the critic at the imagined states, both ``[H - 1, N]``."""
    value = agent.critic.apply(critic_params, imagined.feat)
    return losses.critic_loss(value, imagined.lambda_return, imagined.weight), value


def update_slow_critic(
    slow_critic: Params, critic: Params, behavior_updates: jax.Array, every: int
) -> Params:
    """``critic`` when ``behavior_updates`` is a multiple of ``every``, else ``slow_critic``.

    CoWorld's agents copy before the update that has that number, so that the first update already
    uses the critic itself; DreamerV2 of 2021 copies after it.
    """
    due = behavior_updates % every == 0
    return jax.tree.map(lambda slow, fast: jnp.where(due, fast, slow), slow_critic, critic)
