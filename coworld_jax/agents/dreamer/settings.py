"""Settings of a DreamerV2 agent, and their values at each size."""

from __future__ import annotations

from dataclasses import dataclass, replace

from coworld_jax.fields import choice, count, period, positive, share


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes and kinds of the networks of one agent; all agents of a run share them."""

    latent: str = choice("gaussian", "categorical")
    groups: int = count(50)  # Gaussian dimensions, or number of categoricals
    classes: int = count(1)  # classes per categorical; 1 for Gaussian latents
    deter: int = count(200)  # recurrent state
    hidden: int = count(200)  # hidden layers of the RSSM
    cell: str = choice("plain", "layer_norm")  # of the GRU
    depth: int = count(32)  # channels of the first convolution; embedding = 32 * depth
    units: int = count(400)  # hidden layers of all heads
    reward_layers: int = count(2)
    critic_layers: int = count(3)
    actor_layers: int = count(4)
    continue_layers: int = count(2)
    state_layers: int = count(3)  # of encoder and decoder where an agent reads states
    discount_head: bool = False
    initializer: str = choice("glorot", "torch")
    dtype: str = choice("float32", "bfloat16")  # compute; parameters and losses stay float32
    unroll: int = count(1)  # of loops over time, steps per iteration; 1: the platform's choice

    def check(self) -> None:
        """Latents and their classes fit together.

        Raises:
            ValueError: they do not.
        """
        if (self.latent == "categorical") != (self.classes > 1):
            raise ValueError(
                f"network.classes is {self.classes}: categorical latents need at least 2, "
                "Gaussian ones 1."
            )


@dataclass(frozen=True)
class LearningConfig:
    """Optimisation and objective of one agent."""

    batch: int = count(50)  # chunks per update
    length: int = count(50)  # rows per chunk
    horizon: int = count(15)  # imagined states per rollout, the start included
    model_lr: float = 3e-4
    actor_lr: float = 8e-5
    critic_lr: float = 8e-5
    adam_eps: float = positive(1e-5)
    clip: float = positive(100.0)  # global gradient norm, for each optimiser; 1e9 for none
    weight_decay: float = share(0.0)  # share of each parameter removed per update
    kl_scale: float = 1.0
    kl_balance: float = share(0.8)  # share of the KL that trains the prior
    free_nats: float = 1.0
    reward_scale: float = 1.0
    continue_scale: float = 1.0
    discount: float = share(0.99)
    lambda_: float = share(0.95)
    dynamics_share: float = share(1.0, shapes=True)  # rho: 1 dynamics backpropagation, 0 REINFORCE
    entropy_scale: float = 1e-4
    slow_critic_every: int = period(100)  # behaviour updates between copies

    def check(self) -> None:
        """A rollout has at least one step.

        Raises:
            ValueError: it does not.
        """
        if self.horizon < 2:
            raise ValueError(f"learning.horizon is {self.horizon}: it must be at least 2.")


NETWORKS = {
    "paper": NetworkConfig(  # Table 8
        latent="categorical",
        groups=32,
        classes=32,
        deter=600,
        hidden=600,
        cell="layer_norm",
        depth=48,
        reward_layers=4,
        critic_layers=4,
        actor_layers=4,
        continue_layers=4,
        discount_head=True,
    ),
    "released": NetworkConfig(cell="layer_norm", initializer="torch"),  # the authors' code
    "small": NetworkConfig(
        groups=24,
        deter=128,
        hidden=128,
        cell="layer_norm",
        depth=12,
        units=128,
        critic_layers=2,
        actor_layers=2,
    ),
    "planar": NetworkConfig(
        groups=16,
        deter=64,
        hidden=64,
        cell="layer_norm",
        depth=4,
        units=64,
        critic_layers=2,
        actor_layers=2,
    ),
}
"""Networks by size."""

_SMALL = LearningConfig(batch=16, length=16, model_lr=6e-4, actor_lr=2e-4, critic_lr=2e-4)

LEARNING = {
    "paper": LearningConfig(model_lr=2e-4, actor_lr=4e-5, critic_lr=1e-4, discount=0.995),
    "released": LearningConfig(batch=150, reward_scale=2.0),
    "small": _SMALL,
    "quickstart": replace(_SMALL, model_lr=1.5e-3),  # the world model learns faster
    # The KL of a small motion is less than a nat: a clamp would leave the prior without a reason to
    # learn what actions do. The rates are high, and the slow critic follows soon, for a run has few
    # updates.
    "planar": LearningConfig(
        batch=8,
        length=12,
        horizon=10,
        model_lr=2e-3,
        actor_lr=1e-3,
        critic_lr=1e-3,
        free_nats=0.0,
        discount=0.95,
        entropy_scale=1e-2,
        slow_critic_every=20,
    ),
}
"""Objective and optimisers by size."""

NETWORKS["quickstart"] = NETWORKS["small"]
