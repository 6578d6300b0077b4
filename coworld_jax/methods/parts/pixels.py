"""What CQL and DrQ+BC share: stacked frames, an actor with scheduled noise, a twin critic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import jax

from coworld_jax.agents.model_free import (
    PixelAgent,
    PixelState,
    Trace,
    Transitions,
    exploration_std,
    init_pixel_agent,
)
from coworld_jax.agents.model_free.acting import make_player, pixel_critic, pixel_policy
from coworld_jax.agents.model_free.data import chunk_length, transitions
from coworld_jax.agents.model_free.settings import (
    CriticConfig,
    FramesConfig,
    NoiseConfig,
    OptimisationConfig,
    PixelNetworkConfig,
    make_pixel_agent,
)
from coworld_jax.fields import count as whole
from coworld_jax.method import Method
from coworld_jax.methods.parts.offline import offline_method, summary
from coworld_jax.types import Batch, Metrics

PixelUpdate = Callable[
    [PixelAgent, PixelState, Transitions, jax.Array, jax.Array, str | None],
    tuple[PixelState, Trace],
]
"""Agent, state, transitions, key, standard deviation of the noise, and mapped axis."""


@dataclass(frozen=True)
class PixelSettings:
    """The settings that both methods have."""

    updates: int = whole(150_000)
    frames: FramesConfig = field(default_factory=FramesConfig)
    network: PixelNetworkConfig = field(default_factory=PixelNetworkConfig)
    learning: OptimisationConfig = field(default_factory=OptimisationConfig)
    critic: CriticConfig = field(default_factory=CriticConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)


def pixel_method(
    settings: PixelSettings, action_size: int, update: PixelUpdate, logged: Mapping[str, str]
) -> Method:
    """The method that repeats ``update`` on the target's data.

    Args:
        settings: of the method.
        action_size: of the target.
        update: one update of critic and actor.
        logged: names in its trace, by metric, see `offline.summary`.
    """
    frames, critic, noise = settings.frames, settings.critic, settings.noise
    agent = make_pixel_agent(
        settings.network, settings.learning, noise, action_size, critic.slow_rate
    )

    def init(key: jax.Array) -> PixelState:
        return init_pixel_agent(agent, key, frames.shape, action_size)

    def step(
        state: PixelState,
        batch: Batch,
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None,
    ) -> tuple[PixelState, Metrics]:
        steps = transitions(batch, frames, critic.n_step, critic.discount)
        std = exploration_std(count, noise.initial, noise.final, noise.updates)
        state, trace = update(agent, state, steps, key, std, axis_name)
        return state, summary(trace, logged) | {"actor/noise": std}

    player = make_player(
        frames,
        lambda state: (state.encoder, state.actor),
        pixel_policy(agent, noise),
        pixel_critic(agent, critic.discount),
    )
    return offline_method(
        init,
        step,
        player,
        updates=settings.updates,
        length=chunk_length(frames, critic.n_step),
        batch=settings.learning.batch,
        before=frames.stack - 1,
    )
