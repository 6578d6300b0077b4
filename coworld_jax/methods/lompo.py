"""LOMPO: a latent model learnt from data, and an agent that learns from its features.

A baseline of CoWorld (arXiv 2305.15260, section 4.1). The method is that of Rafailov et al.,
"Offline Reinforcement Learning from Images with Latent Space Models", L4DC 2021; its official code
is ``rmrafailov/LOMPO``, of which V-D4RL has a copy.

Four phases on the target's dataset:

1. The world model: Gaussian latents, Keras' GRU and K = 7 priors on one recurrent state, of which
   each time step uses one, drawn for the whole batch. Loss: ``KL(q || p_k) - log p(o|s) -
   log p(r|s)``, without KL balancing, free nats or discount head.
2. The real buffer: batches of chunks are encoded. Of each row the feature (stochastic, then
   recurrent state) is kept, and the action and reward that lead to the next row.
3. The buffer of imagined steps: from all states of a batch the actor is rolled out for
   ``imagination.horizon`` steps, with noise on its actions. The reward of a step is the reward
   head's at the next state less ``penalty_scale * u``. ``u`` is the deviation over heads of the
   next state's log-density (``log_prob``), the largest norm of a head's deviations
   (``largest_std``), or the mean distance of the heads' means from their mean (``mean_distance``).
4. The agent: a deterministic actor and twin critics on features, in each update on 256 steps of
   each buffer. The actor's loss takes the critics from before their step. After every 200 updates
   a batch is encoded into the real buffer, and rolled out from into the other.

The model stays as it is after phase 1.

What CoWorld's paper leaves open, and what was chosen: it gives 100k iterations, which is the
official number of updates of the agent (V-D4RL's copy makes 150k), here after 25,000 of the model.
Frames are CoWorld's 64 pixels, not LOMPO's 128, and rewards are the tasks' dense ones.

As in the official code, the end of an episode is ignored: the discount of every step is γ, also
where the data have 0.

What differs from the official code:

* **Noise.** There each draw of a Gaussian latent has one noise vector for the whole batch: all
  chunks of a time step, and all rollouts of an imagined step, share it. Here each row has its own.
  ``imagination.shared_noise`` gives the official behaviour.
* **Size of the buffers.** There both hold as many steps as the dataset, and with fewer than 50,000
  of them the official loop never ends. A method here does not know the dataset's size, so both are
  settings (``buffers.real_steps``, ``buffers.imagined_steps``; 100,000 steps is the size of
  V-D4RL's datasets), and imagined steps are never more than their buffer holds. At the default
  sizes the two take 300 MB of the device's memory and of each checkpoint.
* **What is encoded.** There whole episodes, each once and in order; here random chunks of
  ``learning.length`` rows, filtered from zeros, until the buffer is full. A small dataset is
  therefore encoded more than once. At a refresh it is one episode there, one batch of chunks here.
* Chunks may hold an episode's last row; there they never do.
* The first action of a chunk enters the model as there (its cause lies before the chunk).

The slow critics are initialised independently of the critics, as in the official code, where
they are copied before their variables exist. Its conservative term has weight 0 and is left out.
Golden values of the official code hold for all pieces (`experiments.check_parity`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import jax

from coworld_jax.agents.ensemble.playing import make_player
from coworld_jax.agents.lompo import (
    BuffersConfig,
    ImaginationConfig,
    LearningConfig,
    NetworkConfig,
    init_lompo,
    make_acting,
    make_lompo_agent,
    pick,
)
from coworld_jax.method import TARGET, Domain, Method
from coworld_jax.methods.parts.lompo import lompo_phases, lompo_updates


@dataclass(frozen=True)
class LompoSettings:
    """Everything that the method depends on besides its domain."""

    model_updates: int = 25_000  # of the world model, alone
    updates: int = 100_000  # of the agent
    network: NetworkConfig = field(default_factory=NetworkConfig)
    learning: LearningConfig = field(default_factory=LearningConfig)
    imagination: ImaginationConfig = field(default_factory=ImaginationConfig)
    buffers: BuffersConfig = field(default_factory=BuffersConfig)


def lompo_domains(settings: LompoSettings) -> tuple[str, ...]:
    """The dataset's."""
    return (TARGET,)


def make_lompo(settings: LompoSettings, domains: Mapping[str, Domain]) -> Method:
    """The method for its domain, see `method.Entry`."""
    size = domains[TARGET].action_size
    lompo = make_lompo_agent(
        settings.network, settings.learning, settings.imagination, settings.buffers, size, size
    )
    return Method(
        init=lambda key: init_lompo(lompo, jax.random.split(key)[1]),
        updates=lompo_updates(lompo, TARGET, lambda state: state, lambda _, new: new),
        plan=lompo_phases(lompo, TARGET, settings.model_updates, settings.updates, scored=True),
        players={TARGET: make_player(make_acting(lompo), pick)},
        length=settings.learning.length,
        batch=settings.learning.batch,
        shares=math.gcd(settings.learning.batch, settings.learning.agent_batch),
        ignores_ends=True,
    )
