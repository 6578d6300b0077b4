"""The scanned phase: ``updates`` updates inside one `jax.lax.scan` that samples from the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import jax

from coworld_jax.coworld import SOURCE, TARGET, CoWorldState, Update
from coworld_jax.store import EpisodeStore, sample
from coworld_jax.types import Batch, Metrics


def update_keys(key: jax.Array, updates: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
    """Keys of one update: one for each domain's sampling, one for the update itself.

    A pure function of the root key and the count, which is all that a resumed run, another host or
    a streamed feed needs to repeat a batch.
    """
    key_source, key_target, key_update = jax.random.split(jax.random.fold_in(key, updates), 3)
    return {SOURCE: key_source, TARGET: key_target}, key_update


def run_phase(
    update: Update,
    state: CoWorldState,
    resident: Mapping[str, EpisodeStore],
    streamed: Mapping[str, Batch],
    *,
    updates: int,
    length: int,
    batch: int,
    axis_name: str | None = None,
) -> tuple[CoWorldState, Metrics]:
    """``updates`` updates in one scan: sample, update, count.

    Args:
        update: from `make_update`.
        state: donated by callers that jit this.
        resident: episodes of a domain (``"source"``, ``"target"``) on the device.
        streamed: batches of the domains that are not resident, ``[updates, T, B, ...]``.
        length: T.
        batch: B, over all devices.
        axis_name: mapped axis: every device takes its share of the same batch. Streamed batches
            come divided already.

    Returns:
        The new state, and each metric for every update, ``[updates]``.
    """

    def step(state: CoWorldState, feed: dict[str, Batch]) -> tuple[CoWorldState, Metrics]:
        key_sample, key_update = update_keys(state.key, state.updates)
        batches = feed | {
            domain: sample(store, key_sample[domain], length, batch, axis_name)
            for domain, store in resident.items()
        }
        state, metrics = update(state, batches, key_update, axis_name)
        return replace(state, updates=state.updates + 1), metrics

    return jax.lax.scan(step, state, dict(streamed), length=updates)
