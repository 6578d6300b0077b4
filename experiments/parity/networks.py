"""Parity with the authors' PyTorch networks: their weights in our networks, value by value."""

from __future__ import annotations

import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax import losses
from coworld_jax.agents.dreamer import world_model
from coworld_jax.agents.dreamer.world_model import Observation, WorldModel
from coworld_jax.agents.gradient import Params
from coworld_jax.types import Latent
from experiments.parity.compare import Claim
from experiments.parity.fixture import Arrays
from experiments.parity.torch_weights import INPUTS, Networks, networks_of, parameters_of

_QUANTITIES = (
    "embed",
    "source_embed",
    "feat",
    "image_mean",
    "image_logprob",
    "reward_mean",
    "reward_logprob",
    "value_mean",
    "actor_loc",
    "actor_scale",
    "kl_value",
    "alignment_kl_sum",
    "kl_loss_balance0.8_free0",
    "kl_loss_balance0.8_free1",
)
_KL_LOSS = re.compile(r"kl_loss_balance(\d+(?:\.\d+)?)_free(\d+(?:\.\d+)?)")
_STATS = {"gaussian": ("mean", "std"), "categorical": ("logit",)}


def recognise(arrays: Arrays) -> bool:
    """Whether this is the file format of the world model's networks, or nobody else's."""
    return "in/image" in arrays and "w/dynamics/_cell._layer.weight" in arrays


def claims(arrays: Arrays) -> dict[str, Claim]:
    """Run our networks on a fixture's weights and inputs.

    Returns:
        Name to value for each quantity that the format names or the file holds.

    Raises:
        FixtureError: the file describes networks of another architecture.
    """
    arrays = {
        name: array if name == "in/image" else array.astype(np.float32)
        for name, array in arrays.items()
    }
    networks = networks_of(arrays)
    params = parameters_of(arrays, networks)
    names = {name.removeprefix("out/") for name in arrays if name.startswith("out/")}
    names |= set(expected_quantities(networks.model.rssm.latent))
    kl_losses = tuple(sorted(name for name in names if _KL_LOSS.fullmatch(name)))
    ours = jax.jit(quantities, static_argnums=(0, 5))(
        networks, params, *(arrays[name] for name in INPUTS), kl_losses
    )
    return {f"out/{name}": Claim(value) for name, value in ours.items()}


def expected_quantities(latent: str) -> Iterator[str]:
    """Names that every fixture holds below ``out/``."""
    yield from _QUANTITIES
    for state in ("post", "prior", "imagined"):
        for field in ("stoch", "deter", *_STATS[latent]):
            yield f"{state}/{field}"


def quantities(
    networks: Networks,
    params: dict[str, Params],
    image: jax.Array,
    action: jax.Array,
    reward: jax.Array,
    kl_losses: tuple[str, ...],
) -> dict[str, jax.Array]:
    """Every quantity of the format, in the authors' layout, stepping with modes.

    Args:
        networks: static.
        params: from `parameters_of`.
        image: uint8 ``[B, T, 64, 64, 3]``.
        action: ``[B, T, A]``.
        reward: ``[B, T]``.
        kl_losses: names ``kl_loss_balance<b>_free<f>`` of the balanced KLs to compute.

    Returns:
        Name below ``out/`` to values, ``[B, T, ...]`` or scalar.
    """
    model, world = networks.model, params["model"]
    image = world_model.normalise_image(jnp.swapaxes(image, 0, 1))
    action, reward = jnp.swapaxes(action, 0, 1), jnp.swapaxes(reward, 0, 1)
    embed = world_model.encode(model, world, image)
    source_model = model._replace(encoder=networks.source_encoder)
    source_embed = world_model.encode(source_model, {"encoder": params["source_encoder"]}, image)
    seen = world_model.observe(model, world, embed, action, None)
    prior = Latent(seen.post.deter, world_model.draw(seen.prior, None), seen.prior)
    last = jax.tree.map(lambda leaf: leaf[-1], seen.post)
    imagined = world_model.replay_actions(model, world, last, action, None)
    heads = world_model.predict(model, world, seen)
    loc, scale = networks.actor.apply(params["actor"], seen.feat)
    found = {
        "embed": _channel_major(embed),
        "source_embed": _channel_major(source_embed),
        "feat": seen.feat,
        "image_mean": world_model.decode(model, world, seen.feat),
        "image_logprob": -world_model.observation_loss(model, world, seen.feat, image),
        "reward_mean": heads.reward,
        "reward_logprob": -losses.reward_loss(heads.reward, reward),
        "value_mean": networks.critic.apply(params["critic"], seen.feat),
        "actor_loc": loc,
        "actor_scale": scale,
        "kl_value": losses.latent_kl(seen.post.stats, seen.prior),
    }
    for name, latent in {"post": seen.post, "prior": prior, "imagined": imagined}.items():
        found |= {f"{name}/{field}": value for field, value in _fields(model, latent).items()}
    found = {name: jnp.swapaxes(value, 0, 1) for name, value in found.items()}
    found["alignment_kl_sum"] = jnp.sum(losses.alignment_loss(embed, source_embed))
    return found | {name: _kl_loss(name, seen) for name in kl_losses}


def _fields(model: WorldModel, latent: Latent) -> dict[str, jax.Array]:
    """A latent under the authors' names; one-hot states keep their groups."""
    if model.rssm.latent == "gaussian":
        return {"stoch": latent.stoch, "deter": latent.deter} | latent.stats
    logits = latent.stats["logits"]
    return {"stoch": latent.stoch.reshape(logits.shape), "deter": latent.deter, "logit": logits}


def _kl_loss(name: str, seen: Observation) -> jax.Array:
    match = _KL_LOSS.fullmatch(name)
    assert match is not None
    return world_model.balanced_kl(seen, float(match[1]), float(match[2]))


def _channel_major(embed: jax.Array) -> jax.Array:
    """The inverse permutation, on the last axis of embeddings."""
    leading = embed.shape[:-1]
    blocks = embed.reshape(*leading, 4, -1)
    return jnp.swapaxes(blocks, -1, -2).reshape(embed.shape)
