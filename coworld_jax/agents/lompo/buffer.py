"""Rings of feature sequences in fixed-size arrays: what LOMPO's agent learns from.

A sequence holds L + 1 features and the L actions and rewards between them, so that no feature is
stored twice.
"""

from __future__ import annotations

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from coworld_jax.agents.model_free import Transitions


class Sequences(NamedTuple):
    """N sequences; ``action[:, l]`` and ``reward[:, l]`` lead from feature l to l + 1."""

    feat: jax.Array  # [N, L + 1, F]
    action: jax.Array  # [N, L, A]
    reward: jax.Array  # [N, L]


class Ring(NamedTuple):
    """The latest sequences; the oldest are overwritten."""

    rows: Sequences  # of as many sequences as it can hold, C
    position: jax.Array  # int32 [], where the next ones go
    filled: jax.Array  # int32 [], sequences that it holds


def init_ring(sequences: int, length: int, feature_size: int, action_size: int) -> Ring:
    """An empty ring of C ``sequences`` of L = ``length`` steps."""
    rows = Sequences(
        jnp.zeros((sequences, length + 1, feature_size)),
        jnp.zeros((sequences, length, action_size)),
        jnp.zeros((sequences, length)),
    )
    return Ring(rows, jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32))


def write(ring: Ring, new: Sequences) -> Ring:
    """``ring`` with N new sequences, where C is a multiple of N: they never wrap around."""
    capacity, count = ring.rows.reward.shape[0], new.reward.shape[0]
    chex.assert_is_divisible(capacity, count)
    rows = jax.tree.map(
        lambda old, some: jax.lax.dynamic_update_slice_in_dim(old, some, ring.position, 0),
        ring.rows,
        new,
    )
    return Ring(
        rows,
        (ring.position + count) % capacity,
        jnp.minimum(ring.filled + count, capacity),
    )


def sample(
    ring: Ring, key: jax.Array, count: int, discount: float, axis_name: str | None = None
) -> Transitions:
    """``count`` steps, each uniformly among all steps of the ring.

    Args:
        key: consumed.
        discount: γ, of every step.
        axis_name: mapped axis; each device gets its share of the same steps.

    Raises:
        ValueError: the devices cannot share them equally.
    """
    key_sequence, key_step = jax.random.split(key)
    length = ring.rows.reward.shape[1]
    sequence = jax.random.randint(key_sequence, (count,), 0, jnp.maximum(ring.filled, 1))
    step = jax.random.randint(key_step, (count,), 0, length)
    if axis_name is not None:
        devices = jax.lax.axis_size(axis_name)
        if count % devices:
            raise ValueError(
                f"learning.agent_batch is {count}, which {devices} devices cannot share equally: "
                f"use a multiple of {devices}."
            )
        share = count // devices
        first = jax.lax.axis_index(axis_name) * share
        sequence, step = (
            jax.lax.dynamic_slice_in_dim(index, first, share) for index in (sequence, step)
        )
    rows = ring.rows
    reward = rows.reward[sequence, step]
    return Transitions(
        obs=rows.feat[sequence, step],
        action=rows.action[sequence, step],
        reward=reward,
        discount=jnp.full_like(reward, discount),
        next_obs=rows.feat[sequence, step + 1],
    )
