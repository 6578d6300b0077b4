"""Losses as pure functions of arrays; every one returns its unreduced values.

They import only jax, chex and `coworld_jax.distributions`, know no configuration, and can be used
as they are elsewhere.
"""

from coworld_jax.losses.actor_critic import actor_loss, critic_loss
from coworld_jax.losses.contrastive import bilinear_logits, contrastive_loss
from coworld_jax.losses.couplings import (
    alignment_loss,
    bridge_loss,
    mixed_reward,
    reward_alignment_loss,
    value_constraint_loss,
)
from coworld_jax.losses.q_learning import (
    cloning_loss,
    conservative_loss,
    policy_loss,
    soft_policy_loss,
    td_target,
    temperature_loss,
    twin_td_loss,
    value_scale,
)
from coworld_jax.losses.regularization import elastic_penalty
from coworld_jax.losses.uncertainty import (
    largest_std,
    log_prob_std,
    mean_distance,
    mixture_std,
)
from coworld_jax.losses.world_model import (
    continue_loss,
    free_nats_mean,
    image_loss,
    latent_kl,
    reward_loss,
    state_loss,
    unit_normal_loss,
)

__all__ = [
    "actor_loss",
    "alignment_loss",
    "bilinear_logits",
    "bridge_loss",
    "cloning_loss",
    "conservative_loss",
    "continue_loss",
    "contrastive_loss",
    "critic_loss",
    "elastic_penalty",
    "free_nats_mean",
    "image_loss",
    "largest_std",
    "latent_kl",
    "log_prob_std",
    "mean_distance",
    "mixed_reward",
    "mixture_std",
    "policy_loss",
    "reward_alignment_loss",
    "reward_loss",
    "soft_policy_loss",
    "state_loss",
    "td_target",
    "temperature_loss",
    "twin_td_loss",
    "unit_normal_loss",
    "value_constraint_loss",
    "value_scale",
]
