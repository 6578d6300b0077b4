"""Settings of a LOMPO agent, and their values at each size."""

from __future__ import annotations

from dataclasses import dataclass

from coworld_jax.fields import choice, count, positive, share


@dataclass(frozen=True)
class NetworkConfig:
    """Sizes of the networks: Gaussian latents, Keras' GRU, ReLU convolutions, ELU elsewhere."""

    heads: int = count(7)  # K, priors on one recurrent state
    stoch: int = count(64)  # Gaussian dimensions
    deter: int = count(256)  # recurrent state
    hidden: int = count(256)  # hidden layers of the RSSM
    depth: int = count(32)  # channels of the first convolution; embedding = 32 * depth
    units: int = count(256)  # hidden layers of all heads
    reward_layers: int = count(2)
    critic_layers: int = count(3)
    actor_layers: int = count(4)


@dataclass(frozen=True)
class LearningConfig:
    """Optimisation and objective of model and agent."""

    batch: int = count(64)  # chunks per update of the model, and per encoding
    length: int = count(50)  # rows per chunk
    agent_batch: int = count(256)  # steps of each buffer per update of the agent
    model_lr: float = 6e-4
    actor_lr: float = 3e-4
    critic_lr: float = 3e-4
    adam_eps: float = positive(1e-7)  # in Keras' Adam, see `agents.optimizers`
    clip: float = positive(100.0)  # global gradient norm, for each optimiser; 1e9 for none
    discount: float = share(0.99)
    slow_rate: float = share(0.005)  # share of the critics that their slow copies take over

    def check(self) -> None:
        """A chunk holds at least one step from a row to the next.

        Raises:
            ValueError: it does not.
        """
        if self.length < 2:
            raise ValueError(f"learning.length is {self.length}: it must be at least 2.")


@dataclass(frozen=True)
class ImaginationConfig:
    """How steps are imagined, and what they pay."""

    horizon: int = count(5)  # steps of a rollout
    penalty: str = choice("log_prob", "largest_std", "mean_distance", "none")
    penalty_scale: float = 5.0  # lambda
    noise_scale: float = 0.2  # of the normal noise on the actor's actions
    shared_noise: bool = False  # one noise vector per draw for all rows, as in the official code


@dataclass(frozen=True)
class BuffersConfig:
    """Sizes of the two buffers in steps, rounded up to whole batches of them."""

    real_steps: int = count(100_000)  # of encoded chunks of the dataset
    imagined_steps: int = count(100_000)  # in the buffer; the oldest are overwritten
    first_steps: int = count(50_000)  # imagined before the agent learns
    refresh_every: int = count(200)  # updates of the agent between new batches for both buffers


_SMALL_NETWORK = NetworkConfig(
    stoch=24, deter=128, hidden=128, depth=12, units=128, critic_layers=2, actor_layers=2
)
_PLANAR_NETWORK = NetworkConfig(
    stoch=16, deter=64, hidden=64, depth=6, units=64, critic_layers=2, actor_layers=2
)
_SMALL_LEARNING = LearningConfig(batch=16, length=16)
_SMALL_BUFFERS = BuffersConfig(real_steps=20_000, imagined_steps=20_000, first_steps=10_000)

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
    "small": _SMALL_LEARNING,
    "planar": LearningConfig(batch=16, length=12, model_lr=1e-3, discount=0.95),
    "quickstart": _SMALL_LEARNING,
}
"""Objective and optimisers by size."""

BUFFERS = {
    "paper": BuffersConfig(),
    "released": BuffersConfig(),
    "small": _SMALL_BUFFERS,
    "planar": _SMALL_BUFFERS,
    "quickstart": _SMALL_BUFFERS,
}
"""Buffers by size."""
