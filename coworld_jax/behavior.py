"""Learning behaviour in imagination: rollouts of the actor, its loss, the critic's loss.

Index 0 of a rollout is a posterior state of the batch, so H imagined states hold H - 1 actions.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from coworld_jax import distributions, losses, returns
from coworld_jax.networks import MLP, ActorHead
from coworld_jax.types import Latent
from coworld_jax.world_model import (
    Params,
    WorldModel,
    features,
    imagine_step,
    predict_continuation,
    predict_reward,
    without_stats,
)


class Rollout(NamedTuple):
    """Imagined states ``[H, N, ...]`` and the policy at the first H - 1 of them."""

    feat: jax.Array  # [H, N, F]
    action: jax.Array  # [H - 1, N, A]
    loc: jax.Array  # [H - 1, N, A]
    scale: jax.Array  # [H - 1, N, A]


class Imagined(NamedTuple):
    """States and returns that the critic learns from; no gradient flows back from here."""

    feat: jax.Array  # [H - 1, N, F]
    lambda_return: jax.Array  # [H - 1, N]
    weight: jax.Array  # cumulative discounts, [H - 1, N]


@jax.named_scope("imagine")
def imagine(
    model: WorldModel,
    world_params: Params,
    actor: ActorHead,
    actor_params: Params,
    start: Latent,
    latent_noise: jax.Array,
    action_noise: jax.Array,
    action_size: int,
) -> Rollout:
    """Roll the actor out in the world model.

    Args:
        actor_params: differentiated; ``world_params`` and ``start`` are data.
        start: ``[N, ...]``, detached by the caller.
        latent_noise: ``[H - 1, N, groups]``, see `world_model.latent_noise`.
        action_noise: uniform on [0, 1), ``[H - 1, N, A]``.
        action_size: coordinates that the agent's own simulator takes, at most A. The others are
            zero, as in its episodes: the world model has never learnt what they would do.

    **Gradient:** from each state to the actions before it (dynamics backpropagation); the actor's
    input is stopped, so a state does not reach the actor through a later action.
    """

    taken = jnp.arange(action_noise.shape[-1])[None] < action_size

    def step(
        latent: Latent, noise: tuple[jax.Array, jax.Array]
    ) -> tuple[Latent, tuple[jax.Array, ...]]:
        feat = features(latent)
        loc, scale = actor.apply(actor_params, jax.lax.stop_gradient(feat))
        action = distributions.truncated_normal_sample(loc, scale, noise[1])
        action = jnp.where(taken, action, 0.0)
        following = imagine_step(model, world_params, latent, action, noise[0])
        return without_stats(following), (features(following), action, loc, scale)

    noise = (latent_noise, action_noise)
    _, (feat, action, loc, scale) = jax.lax.scan(
        step, without_stats(start), noise, unroll=model.unroll
    )
    return Rollout(jnp.concatenate([features(start)[None], feat]), action, loc, scale)


def actor_terms(
    actor_params: Params,
    *,
    actor: ActorHead,
    critic: MLP,
    critic_params: Params,
    slow_critic_params: Params,
    model: WorldModel,
    world_params: Params,
    start: Latent,
    start_discount: jax.Array,
    latent_noise: jax.Array,
    action_noise: jax.Array,
    action_size: int,
    discount: float,
    lambda_: float,
    dynamics_share: float,
    entropy_scale: float,
) -> tuple[jax.Array, tuple[Imagined, dict[str, jax.Array]]]:
    """Actor loss over one imagined rollout, and the critic's imagined (Eq. 7, 8).

    Args:
        actor_params: differentiated; all else is data.
        start: posterior states, ``[N, ...]``, detached.
        start_discount: 1 - terminal of the start states, ``[N]``; used with a discount head.
        action_size: see `imagine`; entropy and log-probability are those of these coordinates.
        discount: ``γ`` in [0, 1].
        lambda_: ``λ`` in [0, 1].
        dynamics_share: ``ρ``, see `losses.actor_loss`.
        entropy_scale: ``β``.

    Returns:
        Loss ``[H - 1, N]``, then (critic imagined, per-state quantities to log).
    """
    rollout = imagine(
        model, world_params, actor, actor_params, start, latent_noise, action_noise, action_size
    )
    action, loc, scale = (x[..., :action_size] for x in rollout[1:])
    states = rollout.feat[:-1]
    reward = predict_reward(model, world_params, states)
    continuation = predict_continuation(model, world_params, states)
    if model.continuation is not None:
        # The replay knows whether the start states were terminal.
        continuation = jnp.concatenate([start_discount[None], continuation[1:]])
    gamma = discount * continuation
    slow_value = critic.apply(slow_critic_params, rollout.feat[1:])
    lambda_return = returns.lambda_return(reward, gamma, slow_value, lambda_)
    weight = returns.discount_weights(gamma)
    entropy = jnp.sum(distributions.truncated_normal_entropy(loc, scale), axis=-1)
    log_prob, baseline = jnp.zeros_like(lambda_return), jnp.zeros_like(lambda_return)
    if dynamics_share < 1.0:
        log_prob = jnp.sum(
            distributions.truncated_normal_log_prob(jax.lax.stop_gradient(action), loc, scale),
            axis=-1,
        )
        baseline = critic.apply(critic_params, jax.lax.stop_gradient(states))
    loss = losses.actor_loss(
        lambda_return,
        log_prob,
        baseline,
        entropy,
        weight,
        dynamics_share=dynamics_share,
        entropy_scale=entropy_scale,
    )
    imagined = jax.lax.stop_gradient(Imagined(states, lambda_return, weight))
    return loss, (
        imagined,
        {"entropy": entropy, "imagined_reward": reward, "return": lambda_return},
    )


def critic_terms(
    critic_params: Params, *, critic: MLP, imagined: Imagined
) -> tuple[jax.Array, jax.Array]:
    """Regression loss and value of the critic at the imagined states, both ``[H - 1, N]``."""
    value = critic.apply(critic_params, imagined.feat)
    return losses.critic_loss(value, imagined.lambda_return, imagined.weight), value


def update_slow_critic(
    slow_critic: Params, critic: Params, behavior_updates: jax.Array, every: int
) -> Params:
    """``critic`` when ``behavior_updates`` is a multiple of ``every``, else ``slow_critic``.

    The copy is made before the update that has that number, so the first update already uses the
    critic itself.
    """
    due = behavior_updates % every == 0
    return jax.tree.map(lambda slow, fast: jnp.where(due, fast, slow), slow_critic, critic)
