"""DrQ+BC: an actor-critic on stacked frames, held near the data by behaviour cloning.

A baseline of CoWorld (arXiv 2305.15260, section 4.1; Tables 2 and 3). It is the method of Lu et
al., "Challenges and Opportunities in Offline Reinforcement Learning from Visual Observations"
(V-D4RL, TMLR 2023): DrQ-v2 (Yarats et al., 2021) with the term of TD3+BC (Fujimoto & Gu, 2021).
The update is `coworld_jax.agents.model_free.update_drq_bc`; `experiments.check_parity` holds it to
values of the official code.

* **Observation**: three frames, scaled to [-0.5, 0.5]. Each stack is moved by up to four pixels in
  both directions, s and s' independently.
* **Critic**: two heads regress to the n-step return with the lower slow critic. It trains the
  encoder.
* **Actor**: ``-λ min Q(s, π(s)) + (π(s) - a)²`` with ``λ = cloning_weight / mean |min Q|``. It sees
  the encoder's features from before the critic's step.
* **Noise**: σ of the policy falls from 1.0 to 0.1. The official schedule takes 250,000 agent steps,
  of which every second pays for an update: 125,000 updates.

What the paper leaves open, and what was chosen:

* The code that was used, and its version: V-D4RL's, at its own settings for offline data. These are
  learning rate 3e-4 (not the base file's 1e-4), batch 256, γ 0.99 and, for this method alone, n = 3
  (its README; the code's default is 1).
* "300k iterations": V-D4RL's loop makes one update per two iterations, so the preset ``paper`` has
  150,000 updates. V-D4RL's own runs have 550,000. ``updates`` may grow in the same workdir.
* The size of the frames: CoWorld's are 64 pixels wide. V-D4RL's converter enlarges such data to 84
  by OpenCV's bicubic kernel. ``frames.image_size = 84`` does the same at every update; the preset
  ``paper`` has it. The default is 64, without enlargement.

What differs from the official code:

* An episode is drawn first, then a chunk in it. The official buffer draws among all rows, which is
  the same where all episodes are equally long, as CoWorld's are.
* Shifts are whole pixels. The official bilinear sampler, called at whole pixels, differs by at most
  0.0023 grey levels of 255.
* An exploring player has the schedule's final noise, as it does not know the count of updates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import jax

from coworld_jax.agents.model_free import PixelAgent, PixelState, Trace, Transitions, update_drq_bc
from coworld_jax.agents.model_free.data import draw
from coworld_jax.agents.model_free.settings import CriticConfig
from coworld_jax.method import TARGET, Domain, Method
from coworld_jax.methods.parts.pixels import PixelSettings, pixel_method

LOGGED = {
    "critic/loss": "critic_loss",
    "critic/value": "q",
    "critic/target": "target",
    "actor/loss": "actor_loss",
    "actor/cloning": "cloning_loss",
    "actor/value_scale": "value_scale",
}


@dataclass(frozen=True)
class DrqBcSettings(PixelSettings):
    """Everything that the method depends on besides its domain."""

    cloning_weight: float = 2.5  # larger values trust the critic more
    critic: CriticConfig = field(default_factory=lambda: CriticConfig(n_step=3))


def drq_bc_domains(settings: DrqBcSettings) -> tuple[str, ...]:
    """The target."""
    return (TARGET,)


def make_drq_bc(settings: DrqBcSettings, domains: Mapping[str, Domain]) -> Method:
    """The method for its domain, see `method.Entry`."""
    action_size = domains[TARGET].action_size

    def update(
        agent: PixelAgent,
        state: PixelState,
        steps: Transitions,
        key: jax.Array,
        std: jax.Array,
        axis_name: str | None,
    ) -> tuple[PixelState, Trace]:
        draws = draw(key, steps.action.shape[0], action_size, axis_name)
        weight = settings.cloning_weight
        return update_drq_bc(agent, state, steps, draws, std, weight, axis_name)

    return pixel_method(settings, action_size, update, LOGGED)
