"""Behaviour cloning from pixels: the policy repeats the dataset's actions.

A baseline of V-D4RL (Lu et al., TMLR 2023), whose encoder, actor and noise are those of DrQ+BC.
CoWorld (arXiv 2305.15260) has no row of it. It is here because every claim of an offline method
rests on doing better than this. The update is `coworld_jax.agents.model_free.update_bc`;
`experiments.check_parity` holds it to values of the official code.

* **Observation**: three frames, scaled to [-0.5, 0.5], moved by up to four pixels.
* **Loss**: ``(π(s) - a)²`` with a **noisy** action of the policy: its mean, plus normal noise that
  is clipped at ±0.3. The loss trains encoder and actor together.
* **Noise**: σ falls from 1.0 to 0.1 in 125,000 updates. The official 250,000 are agent steps, of
  which every second pays for an update.

What CoWorld's paper leaves open, and what was chosen:

* Lengths: the same as for DrQ+BC, 150,000 updates in the preset ``paper``: 300,000 iterations of
  V-D4RL's loop, one update per two of them. V-D4RL's own runs have 550,000. ``updates`` may grow in
  the same workdir.
* The size of the frames: 64 pixels by default, as in the data. ``frames.image_size = 84`` enlarges
  them by the bicubic kernel of V-D4RL's converter; the preset ``paper`` has it.

Learning rate 3e-4 and batch 256 are V-D4RL's for offline data.

What differs from the official code:

* An episode is drawn first, then a row. The official buffer draws among all rows, which is the same
  where all episodes are equally long.
* Shifts are whole pixels, which differ from the official bilinear sampler by at most 0.0023 grey
  levels of 255.
* An exploring player has the schedule's final noise, as it does not know the count of updates.

The dataset's actions may lie outside [-1, 1] and are not clipped, as in the official code.
There is no critic, so the player has no values, and rewards are not read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import jax

from coworld_jax.agents.model_free import CloningState, exploration_std, init_cloning, update_bc
from coworld_jax.agents.model_free.acting import make_player, pixel_policy
from coworld_jax.agents.model_free.data import chunk_length, draw, transitions
from coworld_jax.agents.model_free.settings import (
    FramesConfig,
    NoiseConfig,
    OptimisationConfig,
    PixelNetworkConfig,
    make_pixel_agent,
)
from coworld_jax.fields import count as whole
from coworld_jax.method import TARGET, Domain, Method
from coworld_jax.methods.parts.offline import offline_method, summary
from coworld_jax.types import Batch, Metrics

LOGGED = {"actor/loss": "cloning_loss"}


@dataclass(frozen=True)
class BcSettings:
    """Everything that the method depends on besides its domain."""

    updates: int = whole(150_000)
    frames: FramesConfig = field(default_factory=FramesConfig)
    network: PixelNetworkConfig = field(default_factory=PixelNetworkConfig)
    learning: OptimisationConfig = field(default_factory=OptimisationConfig)
    noise: NoiseConfig = field(default_factory=NoiseConfig)


def bc_domains(settings: BcSettings) -> tuple[str, ...]:
    """The target."""
    return (TARGET,)


def make_bc(settings: BcSettings, domains: Mapping[str, Domain]) -> Method:
    """The method for its domain, see `method.Entry`."""
    frames, noise = settings.frames, settings.noise
    action_size = domains[TARGET].action_size
    agent = make_pixel_agent(settings.network, settings.learning, noise, action_size)

    def init(key: jax.Array) -> CloningState:
        return init_cloning(agent, key, frames.shape)

    def step(
        state: CloningState,
        batch: Batch,
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None,
    ) -> tuple[CloningState, Metrics]:
        steps = transitions(batch, frames)
        draws = draw(key, steps.action.shape[0], action_size, axis_name)
        std = exploration_std(count, noise.initial, noise.final, noise.updates)
        state, trace = update_bc(agent, state, steps, draws, std, axis_name)
        return state, summary(trace, LOGGED) | {"actor/noise": std}

    return offline_method(
        init,
        step,
        make_player(frames, lambda state: (state.encoder, state.actor), pixel_policy(agent, noise)),
        updates=settings.updates,
        length=chunk_length(frames),
        batch=settings.learning.batch,
        before=settings.frames.stack - 1,
    )
