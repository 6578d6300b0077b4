"""The world model: encoding, filtering (observe), open-loop prediction (imagine), loss terms.

`WorldModel` is a record of stateless networks; parameters are a plain dictionary that every
function takes as an argument.

An agent reads images, or the simulator's state vector, scaled by `scaling`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from coworld_jax import distributions, losses
from coworld_jax.agents.dreamer import scaling
from coworld_jax.agents.gradient import Params
from coworld_jax.agents.noise import example_noise
from coworld_jax.networks import (
    MLP,
    OBSERVING,
    RSSM,
    Decoder,
    Encoder,
    EnsembleRSSM,
    StateDecoder,
    StateEncoder,
    recurrence,
)
from coworld_jax.types import Batch, Latent


class WorldModel(NamedTuple):
    """The networks of one world model; ``continuation`` is None without a discount head."""

    encoder: Encoder | StateEncoder
    rssm: RSSM | EnsembleRSSM
    decoder: Decoder | StateDecoder
    reward: MLP
    continuation: MLP | None
    action_size: int
    unroll: int = 1  # see `recurrence.unrolled`
    state_size: int = 0  # N of the state vector that it reads; 0 if it reads images
    bridge: Encoder | None = None  # of images into the embedding of states, where it reads these

    @property
    def reads(self) -> str:
        """The field of `types.Batch` that it encodes and decodes: ``image`` or ``state``."""
        return "state" if self.state_size else "image"


class Observation(NamedTuple):
    """What filtering a batch gives."""

    post: Latent  # [T, B, ...]
    prior: dict[str, jax.Array]  # statistics of the one-step prediction, [T, B, ...]
    embed: jax.Array  # [T, B, E]

    @property
    def feat(self) -> jax.Array:
        """Features of the posterior, ``[T, B, F]``."""
        return features(self.post)


class Chunks(NamedTuple):
    """What filtering a batch of chunks takes."""

    embed: jax.Array  # [T, B, E]
    action: jax.Array  # action[t] led to embed[t], [T, B, A]
    noise: jax.Array | None  # from `latent_noise`, or None to step with modes


class Prediction(NamedTuple):
    """What the heads say about a batch."""

    reward: jax.Array  # mean, [T, B]
    continue_logits: jax.Array | None  # [T, B]


def init_world_model(model: WorldModel, key: jax.Array) -> Params:
    """Fresh parameters: a dictionary with one entry per network, float32."""
    keys = jax.random.split(key, 5 if model.bridge is None else 6)
    key_encoder, key_rssm, key_decoder, key_reward, key_continue = keys[:5]
    stoch, deter = jnp.zeros((1, model.rssm.stoch)), jnp.zeros((1, model.rssm.deter))
    action, embed = jnp.zeros((1, model.action_size)), jnp.zeros((1, model.rssm.embed))
    feat = jnp.concatenate([stoch, deter], axis=-1)
    image = jnp.zeros((1, 64, 64, 3))
    state = jnp.zeros((1, model.state_size))
    params = {
        "encoder": model.encoder.init(key_encoder, state if model.state_size else image),
        "rssm": model.rssm.init(key_rssm, stoch, deter, action, embed),
        "decoder": model.decoder.init(key_decoder, feat),
        "reward": model.reward.init(key_reward, feat),
    }
    if model.continuation is not None:
        params["continuation"] = model.continuation.init(key_continue, feat)
    if model.bridge is not None:
        params["bridge"] = model.bridge.init(keys[5], image)
    if model.state_size:
        params["scaling"] = scaling.no_scaling(model.state_size)
    return params


def normalise_image(image: jax.Array) -> jax.Array:
    """uint8 ``[...]`` to float32 in [-0.5, 0.5]."""
    return image.astype(jnp.float32) / 255.0 - 0.5


def normalise(model: WorldModel, params: Params, raw: jax.Array) -> jax.Array:
    """What the encoder takes of raw observations: images in [-0.5, 0.5], or scaled states."""
    if model.state_size:
        # Measured and not learnt.
        return scaling.scale_state(jax.lax.stop_gradient(params["scaling"]), raw)
    return normalise_image(raw)


def features(latent: Latent) -> jax.Array:
    """``(stoch, deter)`` along the last axis, ``[..., F]``."""
    return jnp.concatenate([latent.stoch, latent.deter.astype(latent.stoch.dtype)], axis=-1)


def without_stats(latent: Latent) -> Latent:
    """The part of a latent that the next step needs: what a scan carries."""
    return latent._replace(stats={})


def encode(model: WorldModel, params: Params, observation: jax.Array) -> jax.Array:
    """Embeddings of normalised images or states, float32.

    ``[..., 64, 64, 3] -> [..., E]`` or ``[..., N] -> [..., E]``.
    """
    axes = 1 if model.state_size else 3
    leading, single = observation.shape[:-axes], observation.shape[-axes:]
    flat = model.encoder.apply(params["encoder"], observation.reshape(-1, *single))
    return flat.reshape(*leading, -1).astype(jnp.float32)  # for exact sums


def encode_image(model: WorldModel, params: Params, image: jax.Array) -> jax.Array:
    """Embeddings of normalised images, by the bridge where the encoder itself reads states.

    ``[..., 64, 64, 3] -> [..., E]``, float32. It also encodes images from elsewhere.
    """
    if model.bridge is None:
        return encode(model, params, image)
    seeing = model._replace(encoder=model.bridge, state_size=0)
    return encode(seeing, {"encoder": params["bridge"]}, image)


def decode(model: WorldModel, params: Params, feat: jax.Array) -> jax.Array:
    """Means of normalised observations, float32.

    ``[..., F] -> [..., 64, 64, 3]``, about [-0.5, 0.5], or ``[..., N]``, scaled.
    """
    flat = model.decoder.apply(params["decoder"], feat.reshape(-1, feat.shape[-1]))
    return flat.reshape(*feat.shape[:-1], *flat.shape[1:]).astype(jnp.float32)


def predict_reward(model: WorldModel, params: Params, feat: jax.Array) -> jax.Array:
    """Mean reward in raw reward units: ``[..., F] -> [...]``."""
    return model.reward.apply(params["reward"], feat)


def predict_continuation(model: WorldModel, params: Params, feat: jax.Array) -> jax.Array:
    """Probability that the episode goes on, 1 without a discount head: ``[..., F] -> [...]``."""
    if model.continuation is None:
        return jnp.ones(feat.shape[:-1], jnp.float32)
    return jax.nn.sigmoid(model.continuation.apply(params["continuation"], feat))


def initial_latent(model: WorldModel, batch: int) -> Latent:
    """The state before a chunk: zeros ``[B, ...]``, without statistics."""
    deter, stoch = jnp.zeros((batch, model.rssm.deter)), jnp.zeros((batch, model.rssm.stoch))
    return Latent(deter, stoch, {})


def prior_stats(model: WorldModel, params: Params, deter: jax.Array) -> dict[str, jax.Array]:
    """Statistics of ``p(z | h)``: ``[..., D]`` to the fields of `types.Latent`."""
    return model.rssm.apply(params["rssm"], deter, method="prior")


def draw(stats: dict[str, jax.Array], noise: jax.Array | None) -> jax.Array:
    """A flat stochastic state from its statistics: a sample for ``noise``, the mode for None.

    Args:
        stats: as in `types.Latent`.
        noise: standard normal ``[..., S]`` (Gaussian) or uniform on [0, 1) ``[..., groups]``
            (categorical), see `latent_noise`.

    Returns:
        ``[..., S]``. **Gradient:** through the sample (straight-through for categoricals).
    """
    if "mean" in stats:
        if noise is None:
            return stats["mean"]
        return distributions.normal_sample(stats["mean"], stats["std"], noise)
    logits = stats["logits"]
    if noise is None:
        one_hot = distributions.categorical_mode(logits)
    else:
        one_hot = distributions.categorical_sample(logits, noise)
    return one_hot.reshape(*logits.shape[:-2], -1)


def latent_noise(
    model: WorldModel,
    key: jax.Array,
    time: int,
    batch: int,
    axis_name: str | None = None,
) -> jax.Array:
    """Noise for `draw`, ``[T, B, groups]``, that each example draws from a key of its own."""
    sampler = jax.random.uniform if model.rssm.latent == "categorical" else jax.random.normal
    return example_noise(sampler, key, (time,), batch, (model.rssm.groups,), axis_name)


def observe_step(
    model: WorldModel,
    params: Params,
    latent: Latent,
    action: jax.Array,
    projected: jax.Array,
    noise: jax.Array | None,
) -> Latent:
    """The posterior after one action and one (projected) embedding, ``[B, ...]``."""
    rssm, variables = model.rssm, params["rssm"]
    deter = rssm.apply(variables, latent.stoch, latent.deter, action, method="recur")
    stats = rssm.apply(variables, deter, projected, method="posterior")
    return Latent(deter, draw(stats, noise), stats)


def observe(
    model: WorldModel,
    params: Params,
    embed: jax.Array,
    action: jax.Array,
    noise: jax.Array | None,
) -> Observation:
    """Filter a batch of chunks, from zeros.

    Args:
        embed: ``[T, B, E]``.
        action: ``[T, B, A]``; ``action[t]`` led to ``embed[t]``.
        noise: from `latent_noise`, or None to step with modes.

    Returns:
        Posteriors, priors and embeddings, ``[T, B, ...]``.
    """
    (observation,) = observe_each(model, params, [Chunks(embed, action, noise)])
    return observation


@jax.named_scope("observe")
def observe_each(
    model: WorldModel, params: Params, batches: Sequence[Chunks]
) -> tuple[Observation, ...]:
    """Filter several batches of chunks side by side, from zeros: one loop over time for all.

    Args:
        batches: of one length T; the number B of chunks may differ.

    Returns:
        `observe` of each batch.
    """
    embed, action, noise = jax.tree.map(lambda *each: jnp.concatenate(each, axis=1), *batches)
    projected = model.rssm.apply(params["rssm"], embed, method="project")

    slots = recurrence.slots_of(params["rssm"], OBSERVING, projected)

    def step(latent: Latent, inputs: tuple[Any, ...]) -> tuple[Latent, Latent]:
        slots, *given = inputs
        latent = observe_step(model, {"rssm": params["rssm"] | slots}, latent, *given)
        return without_stats(latent), latent

    start = initial_latent(model, embed.shape[1])
    _, post = recurrence.scan(step, start, (slots, action, projected, noise), unroll=model.unroll)
    sizes = [batch.embed.shape[1] for batch in batches]
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    posts = [
        jax.tree.map(lambda x, end=end, size=size: x[:, end - size : end], post)
        for end, size in zip(ends, sizes, strict=True)
    ]
    return tuple(
        Observation(post, prior_stats(model, params, post.deter), batch.embed)
        for post, batch in zip(posts, batches, strict=True)
    )


def imagine_step(
    model: WorldModel, params: Params, latent: Latent, action: jax.Array, noise: jax.Array | None
) -> Latent:
    """The prior's prediction after one action, ``[B, ...]``."""
    deter = model.rssm.apply(params["rssm"], latent.stoch, latent.deter, action, method="recur")
    stats = prior_stats(model, params, deter)
    return Latent(deter, draw(stats, noise), stats)


def replay_actions(
    model: WorldModel, params: Params, start: Latent, action: jax.Array, noise: jax.Array | None
) -> Latent:
    """Open-loop prediction under given actions: ``[T, B, A]`` to latents ``[T, B, ...]``."""

    def step(latent: Latent, inputs: tuple[Any, ...]) -> tuple[Latent, Latent]:
        latent = imagine_step(model, params, latent, *inputs)
        return without_stats(latent), latent

    return recurrence.scan(step, without_stats(start), (action, noise))[1]


def predict(model: WorldModel, params: Params, seen: Observation) -> Prediction:
    """The heads at the posterior features of a batch; ``params`` is differentiated."""
    feat = seen.feat
    return Prediction(
        reward=predict_reward(model, params, feat),
        continue_logits=None
        if model.continuation is None
        else model.continuation.apply(params["continuation"], feat),
    )


def observation_loss(
    model: WorldModel, params: Params, feat: jax.Array, observation: jax.Array
) -> jax.Array:
    """``-log p(o | s)`` at features, unreduced; ``params`` is differentiated.

    Args:
        feat: ``[T, B, F]``.
        observation: normalised images or states, ``[T, B, ...]``.

    Returns:
        ``[T, B]``, nats: `losses.image_loss` or `losses.state_loss` of what `decode` gives.
    """
    if model.state_size:
        return losses.state_loss(decode(model, params, feat), observation, scaling.STATE_STD)
    return decoder_loss(model.decoder, params["decoder"], feat, observation)


def decoder_loss(decoder: Decoder, params: Params, feat: jax.Array, image: jax.Array) -> jax.Array:
    """`losses.image_loss` of what a decoder makes of features, by `Decoder.squared_errors`.

    ``[T, B, F], [T, B, 64, 64, 3] -> [T, B]``, nats. **Gradient:** to ``params`` and ``feat``.
    """
    flat, pixels = feat.reshape(-1, feat.shape[-1]), image.shape[2:]
    squares = decoder.apply(params, flat, image.reshape(-1, *pixels), method="squared_errors")
    return losses.unit_normal_loss(squares.reshape(feat.shape[:2]), math.prod(pixels))


def likelihood_losses(
    model: WorldModel,
    params: Params,
    seen: Observation,
    prediction: Prediction,
    batch: Batch,
    observation: jax.Array,
) -> dict[str, jax.Array]:
    """Likelihood terms of Eq. 3, unreduced.

    Args:
        params: differentiated.
        prediction: heads at the posterior features, differentiated.
        batch: ``[T, B, ...]``.
        observation: the batch's images or states, normalised, ``[T, B, ...]``.

    Returns:
        ``{"image" or "state", "reward"[, "continue"]}``, each ``[T, B]``, nats.
    """
    terms = {
        model.reads: observation_loss(model, params, seen.feat, observation),
        "reward": losses.reward_loss(prediction.reward, batch.reward),
    }
    if prediction.continue_logits is not None:
        terms["continue"] = losses.continue_loss(prediction.continue_logits, batch.discount)
    return terms


def balanced_kl(
    seen: Observation, balance: float, free_nats: float, axis_name: str | None = None
) -> jax.Array:
    """KL balancing: ``b max(f, KL[sg(q) || p]) + (1 - b) max(f, KL[q || sg(p)])``.

    Args:
        seen: posterior and prior statistics.
        balance: ``b``, share that trains the prior, in [0, 1].
        free_nats: ``f``, clamp on the batch mean, nats.
        axis_name: mapped axis over which the batch is split.

    Returns:
        ``[]``, nats: the clamp belongs to the batch mean, so this term alone comes reduced.

    Reference: DreamerV2, Algorithm 2 (balance 0.8); golden values of the authors' network code.
    """
    stop = jax.lax.stop_gradient
    train_prior = losses.latent_kl(stop(seen.post.stats), seen.prior)
    train_post = losses.latent_kl(seen.post.stats, stop(seen.prior))
    return balance * losses.free_nats_mean(train_prior, free_nats, axis_name) + (
        1.0 - balance
    ) * losses.free_nats_mean(train_post, free_nats, axis_name)
