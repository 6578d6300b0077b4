"""CQL from pixels: conservative Q-learning on stacked frames.

A baseline of CoWorld (arXiv 2305.15260, section 4.1; Tables 2 and 3). It is the method of Kumar et
al., "Conservative Q-Learning for Offline Reinforcement Learning" (NeurIPS 2020), in the form of
V-D4RL (Lu et al., TMLR 2023), whose networks and image shifts are those of DrQ+BC. The update is
`coworld_jax.agents.model_free.update_cql`; `experiments.check_parity` holds it to values of the
official code.

* **Observation**: three frames, scaled to [-0.5, 0.5]. Each stack is moved by up to four pixels in
  both directions, s and s' independently.
* **Critic**: two heads regress to the n-step return with the lower slow critic. To that comes
  ``w (log Σ_c exp Q(s, a_c) - Q(s, a))`` for each head. The 31 candidates are 10 random actions,
  the data's action, 10 samples of the policy for s' and 10 for s. **All are judged at s**, so the
  encoder gets gradient through each of them. There are no importance weights and no Lagrange
  multiplier.
* **Actor**: ``-min Q(s, π(s))``. There is no cloning term.
* **Noise**: σ falls from 1.0 to 0.1 in 125,000 updates. The official 250,000 are agent steps, of
  which every second pays for an update. The candidates have this noise too.

What the paper leaves open, and what was chosen:

* The weight w: V-D4RL's command has 10 (its code's default is 1; others searched 0.5 to 20).
* The number of steps: n = 1, the code's default; n = 3 is passed for DrQ+BC alone.
* Lengths: "300k iterations" are read as those of V-D4RL's loop, one update per two of them: the
  preset ``paper`` has 150,000 updates. V-D4RL's own runs have 550,000. ``updates`` may grow in the
  same workdir.
* The size of the frames: 64 pixels by default, as in the data. ``frames.image_size = 84`` enlarges
  them by the bicubic kernel of V-D4RL's converter; the preset ``paper`` has it.

Learning rate 3e-4, batch 256 and γ 0.99 are V-D4RL's for offline data.

What differs from the official code:

* An episode is drawn first, then a chunk in it. The official buffer draws among all rows, which is
  the same where all episodes are equally long.
* Shifts are whole pixels, which differ from the official bilinear sampler by at most 0.0023 grey
  levels of 255.
* An exploring player has the schedule's final noise, as it does not know the count of updates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import jax

from coworld_jax.agents.model_free import PixelAgent, PixelState, Trace, Transitions, update_cql
from coworld_jax.agents.model_free.data import draw, draw_candidates
from coworld_jax.fields import count as whole
from coworld_jax.method import TARGET, Domain, Method
from coworld_jax.methods.parts.pixels import PixelSettings, pixel_method

LOGGED = {
    "critic/loss": "critic_loss",
    "critic/conservative": "conservative_loss",
    "critic/value": "q",
    "critic/target": "target",
    "actor/loss": "actor_loss",
}


@dataclass(frozen=True)
class CqlSettings(PixelSettings):
    """Everything that the method depends on besides its domain."""

    conservative_weight: float = 10.0
    candidates: int = whole(10)  # actions of each of the three kinds


def cql_domains(settings: CqlSettings) -> tuple[str, ...]:
    """The target."""
    return (TARGET,)


def make_cql(settings: CqlSettings, domains: Mapping[str, Domain]) -> Method:
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
        size = steps.action.shape[0]
        key_draws, key_candidates = jax.random.split(key)
        return update_cql(
            agent,
            state,
            steps,
            draw(key_draws, size, action_size, axis_name),
            draw_candidates(key_candidates, size, settings.candidates, action_size, axis_name),
            std,
            settings.conservative_weight,
            axis_name,
        )

    return pixel_method(settings, action_size, update, LOGGED)
