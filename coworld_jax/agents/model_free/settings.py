"""Settings of agents without a world model, and the networks that are made from them."""

from __future__ import annotations

from dataclasses import dataclass

import optax

from coworld_jax.agents.model_free.actor_critic import PixelAgent
from coworld_jax.fields import count, share
from coworld_jax.networks import PixelActor, PixelEncoder, TwinCritic

DATA_SIZE = 64  # pixels of the frames of datasets and simulators


@dataclass(frozen=True)
class FramesConfig:
    """What one observation is made of."""

    stack: int = count(3)  # frames
    image_size: int = DATA_SIZE  # pixels; the data's frames are enlarged if it is more

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a stack."""
        return self.image_size, self.image_size, 3 * self.stack

    def check(self) -> None:
        """Frames are never made smaller.

        Raises:
            ValueError: they would be.
        """
        if self.image_size < DATA_SIZE:
            raise ValueError(
                f"frames.image_size is {self.image_size}: it must be at least {DATA_SIZE}, the "
                "size of the data's frames."
            )


@dataclass(frozen=True)
class PixelNetworkConfig:
    """Sizes of encoder, actor and critics."""

    channels: int = count(32)  # of each of the four convolutions
    trunk: int = count(50)  # outputs of the layer between the encoder and a head
    hidden: int = count(1024)  # units of the two layers of a head


@dataclass(frozen=True)
class OptimisationConfig:
    """One optimiser step."""

    batch: int = count(256)  # transitions
    learning_rate: float = 3e-4  # of Adam


@dataclass(frozen=True)
class CriticConfig:
    """What the critics regress to."""

    discount: float = share(0.99)  # per env_step
    n_step: int = count(1)  # rewards before the bootstrap
    slow_rate: float = share(0.01)  # share of the critics that their slow copy takes over


@dataclass(frozen=True)
class NoiseConfig:
    """Noise of the policy's actions: its scale falls in a straight line."""

    initial: float = 1.0  # standard deviation
    final: float = 0.1
    updates: int = count(125_000)  # until ``final`` is reached
    clip: float = 0.3  # largest deviation from the mean in a loss


def make_pixel_agent(
    network: PixelNetworkConfig,
    learning: OptimisationConfig,
    noise: NoiseConfig,
    action_size: int,
    slow_rate: float = 0.0,
) -> PixelAgent:
    """Networks and optimiser of DrQ+BC, CQL and BC.

    Args:
        slow_rate: of the slow critics; unused by an agent without critics.
    """
    return PixelAgent(
        encoder=PixelEncoder(network.channels),
        actor=PixelActor(network.trunk, network.hidden, action_size),
        critic=TwinCritic(network.trunk, network.hidden),
        optimizer=optax.adam(learning.learning_rate),
        slow_rate=slow_rate,
        noise_clip=noise.clip,
    )
