"""Losses as pure functions of arrays; every one returns its unreduced values.

They import only jax and chex, know no configuration, and can be used as they are elsewhere.
"""

from coworld_jax.losses.actor_critic import actor_loss, critic_loss
from coworld_jax.losses.couplings import (
    alignment_loss,
    bridge_loss,
    mixed_reward,
    reward_alignment_loss,
    value_constraint_loss,
)
from coworld_jax.losses.regularization import elastic_penalty
from coworld_jax.losses.world_model import (
    continue_loss,
    free_nats_mean,
    image_loss,
    latent_kl,
    reward_loss,
    state_loss,
)

__all__ = [
    "actor_loss",
    "alignment_loss",
    "bridge_loss",
    "continue_loss",
    "critic_loss",
    "elastic_penalty",
    "free_nats_mean",
    "image_loss",
    "latent_kl",
    "mixed_reward",
    "reward_alignment_loss",
    "reward_loss",
    "state_loss",
    "value_constraint_loss",
]
