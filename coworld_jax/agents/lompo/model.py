"""LOMPO's world model: its loss, and the steps that it imagines for the agent's buffer."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from coworld_jax import losses
from coworld_jax.agents.dreamer.world_model import (
    Observation,
    decoder_loss,
    features,
    without_stats,
)
from coworld_jax.agents.ensemble import disagreement, imagine_step, observe
from coworld_jax.agents.gradient import Params
from coworld_jax.networks import MLP, Decoder, Encoder, EnsembleRSSM, FeatureActor
from coworld_jax.types import Latent, Metrics


class LatentModel(NamedTuple):
    """Networks of the model, static: ReLU convolutions, a Gaussian ensemble, a reward head."""

    encoder: Encoder
    rssm: EnsembleRSSM
    decoder: Decoder
    reward: MLP
    penalty: str = "log_prob"  # kind of `ensemble.disagreement`
    penalty_scale: float = 5.0  # λ
    noise_scale: float = 0.2  # σ of the noise on imagined actions


class ModelDraws(NamedTuple):
    """Random numbers of one pass over a batch."""

    heads: jax.Array  # int, whose prior each step predicts with, [T]
    noise: jax.Array  # standard normal, of the posteriors, [T, B, S]


class StepDraws(NamedTuple):
    """Random numbers of imagined transitions."""

    heads: jax.Array  # int, one for each step, [H]
    # The official sampler shares one vector among all N.
    latent: jax.Array  # standard normal, [H, N, S]
    action: jax.Array  # standard normal, [H, N, A]


class ImaginedSteps(NamedTuple):
    """Imagined transitions of features, ``[H, N, ...]``."""

    obs: jax.Array  # [H, N, F]
    action: jax.Array  # [H, N, A]
    reward: jax.Array  # of the next state, less the penalty, [H, N]
    next_obs: jax.Array  # [H, N, F]
    plain_reward: jax.Array  # [H, N]
    penalty: jax.Array  # u, [H, N]


def encode(model: LatentModel, params: Params, image: jax.Array) -> jax.Array:
    """Embeddings of scaled images, ``[T, B, 64, 64, 3] -> [T, B, E]``."""
    flat = model.encoder.apply(params["encoder"], image.reshape(-1, *image.shape[2:]))
    return flat.reshape(*image.shape[:2], -1)


def model_terms(
    params: Params,
    model: LatentModel,
    image: jax.Array,
    action: jax.Array,
    reward: jax.Array,
    draws: ModelDraws,
) -> tuple[Metrics, tuple[Observation, jax.Array]]:
    """``KL(q || p_k) - log p(o | s) - log p(r | s)``, without balance and free nats.

    Args:
        params: differentiated: ``encoder``, ``rssm``, ``decoder``, ``reward``.
        image: in [-0.5, 0.5], ``[T, B, 64, 64, 3]``.
        action: that led to each image, ``[T, B, A]``; the first one counts too.
        reward: ``[T, B]``.

    Returns:
        The terms ``kl``, ``image`` and ``reward``, nats, ``[T, B]``; then the states, and the means
        of the rewards. **Gradient:** to all parameters.

    Reference: LOMPO, Rafailov et al. (2021), and its code.
    """
    embed = encode(model, params, image)
    first = jnp.zeros(reward.shape, bool)
    seen = observe(model.rssm, params["rssm"], embed, action, first, draws.heads, draws.noise)
    predicted = model.reward.apply(params["reward"], seen.feat)
    terms = {
        "kl": losses.latent_kl(seen.post.stats, seen.prior),
        "image": decoder_loss(model.decoder, params["decoder"], seen.feat, image),
        "reward": losses.reward_loss(predicted, reward),
    }
    return terms, (seen, predicted)


def add_noise(model: LatentModel, action: jax.Array, noise: jax.Array) -> jax.Array:
    """``clip(a + σ ε, ±1)`` for standard normal ``noise``; all ``[..., A]``."""
    return jnp.clip(action + model.noise_scale * noise, -1.0, 1.0)


def imagine_steps(
    model: LatentModel,
    params: Params,
    actor: FeatureActor,
    actor_params: Params,
    start: Latent,
    draws: StepDraws,
) -> ImaginedSteps:
    """Roll the actor out from states of the data.

    ``a = clip(π(s) + σ ε, ±1)``; the reward of a step is the head's at the next state less λ times
    the disagreement there.

    Args:
        start: ``[N, ...]``.

    Reference: LOMPO, Rafailov et al. (2021), and its code.
    """

    def step(
        latent: Latent, inputs: tuple[jax.Array, ...]
    ) -> tuple[Latent, tuple[jax.Array, jax.Array, Latent]]:
        head, noise, explore = inputs
        obs = features(latent)
        action = add_noise(model, actor.apply(actor_params, obs), explore)
        following = imagine_step(model.rssm, params["rssm"], latent, action, head, noise)
        following = without_stats(following)
        return following, (obs, action, following)

    _, (obs, action, following) = jax.lax.scan(step, without_stats(start), tuple(draws))
    next_obs = features(following)
    plain = model.reward.apply(params["reward"], next_obs)
    deter, stoch = following.deter, following.stoch
    unsure = disagreement(model.penalty, model.rssm, params["rssm"], deter, stoch)
    reward = plain - model.penalty_scale * unsure
    return ImaginedSteps(obs, action, reward, next_obs, plain, unsure)
