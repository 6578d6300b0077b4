"""Settings of an Offline DV2 agent, and their values at each size."""

from __future__ import annotations

from dataclasses import dataclass

from coworld_jax.fields import count, period, positive, share


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the networks: categorical latents, a layer-norm GRU, ELU, float32."""

    heads: int = count(7)  # K, priors on one recurrent state
    groups: int = count(32)  # categoricals
    classes: int = count(32)  # of each categorical
    deter: int = count(200)  # recurrent state
    hidden: int = count(200)  # hidden layers of the RSSM
    depth: int = count(48)  # channels of the first convolution; embedding = 32 * depth
    units: int = count(400)  # hidden layers of all heads
    reward_layers: int = count(4)
    critic_layers: int = count(4)
    actor_layers: int = count(4)


@dataclass(frozen=True)
class LearningConfig:
    """Optimisation and objective."""

    batch: int = count(64)  # chunks per update
    length: int = count(50)  # rows per chunk
    horizon: int = count(5)  # imagined states per rollout, the start not included
    model_lr: float = 3e-4
    actor_lr: float = 8e-5
    critic_lr: float = 8e-5
    adam_eps: float = positive(1e-5)  # in Keras' Adam, see `agents.optimizers`
    clip: float = positive(100.0)  # global gradient norm, for each optimiser; 1e9 for none
    weight_decay: float = share(1e-6)  # share of each parameter removed per update
    kl_balance: float = share(0.8)  # share of the KL that trains the prior
    free_nats: float = 1.0
    discount: float = share(0.99)
    lambda_: float = share(0.95)
    entropy_scale: float = 1e-4
    slow_critic_every: int = period(100)  # behaviour updates between copies

    def check(self) -> None:
        """The policy of a state is paired with the return of the next one.

        Raises:
            ValueError: there is no next one.
        """
        if self.horizon < 2:
            raise ValueError(f"learning.horizon is {self.horizon}: it must be at least 2.")


_SMALL_NETWORK = NetworkConfig(
    groups=12,
    classes=12,
    deter=128,
    hidden=128,
    depth=12,
    units=128,
    reward_layers=2,
    critic_layers=2,
    actor_layers=2,
)
_PLANAR_NETWORK = NetworkConfig(
    groups=8,
    classes=8,
    deter=64,
    hidden=64,
    depth=6,
    units=64,
    reward_layers=2,
    critic_layers=2,
    actor_layers=2,
)
_SMALL = LearningConfig(batch=16, length=16, model_lr=6e-4, actor_lr=2e-4, critic_lr=2e-4)

NETWORKS = {
    "paper": NetworkConfig(),
    "released": NetworkConfig(),
    "small": _SMALL_NETWORK,
    "planar": _PLANAR_NETWORK,
    "quickstart": _SMALL_NETWORK,
}
"""Networks by size."""

LEARNING = {
    "paper": LearningConfig(),
    "released": LearningConfig(),
    "small": _SMALL,
    "planar": LearningConfig(
        batch=16,
        length=12,
        model_lr=1e-3,
        actor_lr=3e-4,
        critic_lr=1e-3,
        free_nats=0.0,
        discount=0.95,
        entropy_scale=1e-2,
    ),
    "quickstart": _SMALL,
}
"""Objective and optimisers by size."""
