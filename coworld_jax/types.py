"""Records that cross the floors, and the alphabet in which their shapes are written.

Sizes: ``T`` time, ``B`` batch, ``H`` imagined states per rollout, ``A`` action, ``S`` stochastic
state (flat), ``D`` deterministic state, ``F = S + D`` feature, ``E`` embedding, ``R`` rows of an
episode (steps + 1), ``N`` coordinates of a simulator's state vector. Arrays are time-major
``[T, B, ...]`` everywhere but in ``data``.

Symbols of the paper and their names here:

=========  ==========================  ====================================================
``h``      ``deter``                   recurrent state of the RSSM
``z``      ``stoch``                   stochastic state, flat (one-hot groups if categorical)
``e``      ``embed``                   output of the encoder
``β₂``     ``alignment_scale``         weight of coupling A, the state alignment
``k``      ``reward_mix``              share of the true target reward in coupling B
``η``      ``source_reward_weight``    weight of the source's own reward loss in coupling B
``α``      ``value_constraint_scale``  weight of coupling C, the value constraint
``γ``      ``discount``                discount factor, times the predicted continuation
=========  ==========================  ====================================================

The module imports no jax at run time: simulator workers, which must not load it, use ``Episode``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import jax


class Episode(NamedTuple):
    """One episode on the host, ``R = steps + 1`` rows.

    ``action[t]`` and ``reward[t]`` led to ``image[t]``; row 0 is the reset: zero action, zero
    reward, discount 1.
    """

    image: np.ndarray  # uint8 [R, 64, 64, 3]
    action: np.ndarray  # float32 [R, A], nominally in [-1, 1]
    reward: np.ndarray  # float32 [R], raw reward units, summed over the action repeat
    discount: np.ndarray  # float32 [R], 0 where the task ended, 1 elsewhere (time limits too)
    extras: Mapping[str, np.ndarray]  # further keys of the file, such as ``state``; may be empty


class Batch(NamedTuple):
    """Chunks of episodes, time-major; ``action[t]`` and ``reward[t]`` led to ``image[t]``."""

    image: jax.Array  # uint8 [T, B, 64, 64, 3]
    action: jax.Array  # float32 [T, B, A]
    reward: jax.Array  # float32 [T, B]
    discount: jax.Array  # float32 [T, B]
    state: jax.Array  # float32 [T, B, N], the simulator's own; N = 0 where nobody reads it
    embed: jax.Array | None = None  # [T, B, ...], see `method.Phase`; None where there is none


class Latent(NamedTuple):
    """State of the RSSM with the statistics that its stochastic part was drawn from.

    Statistics are ``{"mean", "std"}`` ``[..., S]`` for Gaussian latents and ``{"logits"}``
    ``[..., groups, classes]`` for categorical ones.
    """

    deter: jax.Array  # [..., D]
    stoch: jax.Array  # [..., S]
    stats: dict[str, jax.Array]


Metrics = dict[str, "jax.Array"]
