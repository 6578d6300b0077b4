"""One scan of updates: sample, update, count. It wraps the state of any method.

The update is a pure function ``(state, batches, key, count) -> (state, metrics)``. A scan runs it
``updates`` times inside one program, and samples its batches on the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from coworld_jax.method import TARGET, Clock, State, TrainState, Update
from coworld_jax.store import EpisodeStore, draw_rows, read_rows
from coworld_jax.types import Batch, Metrics


class Shape(NamedTuple):
    """What a compiled scan is for."""

    updates: int
    length: int  # T, rows of a chunk
    batch: int  # B, over all devices
    before: int = 0  # see `method.Method`


class _Inputs(NamedTuple):
    """What one update of a scan reads."""

    feed: dict[str, Batch]  # of the domains that are not resident
    rows: dict[str, jax.Array]  # of each resident domain, [T, B]
    key: jax.Array  # of the update itself
    done: jax.Array  # updates made in this phase before it, int32 []


def update_keys(clock: Clock, reads: tuple[str, ...]) -> tuple[dict[str, jax.Array], jax.Array]:
    """Keys of one update: one for the sampling of each domain, one for the update itself.

    A pure function of the root key and the count, which is all that a resumed run, another host or
    a streamed feed needs to repeat a batch.
    """
    split = jax.random.split(jax.random.fold_in(clock.key, clock.updates), 3)
    key_source, key_target, key_update = split
    sources = [domain for domain in reads if domain != TARGET]
    keys = {} if TARGET not in reads else {TARGET: key_target}
    if len(sources) == 1:
        return keys | {sources[0]: key_source}, key_update
    apart = jax.random.split(key_source, max(len(sources), 1))
    return keys | dict(zip(sources, apart)), key_update


def run_updates(
    update: Update,
    state: TrainState,
    resident: Mapping[str, EpisodeStore],
    streamed: Mapping[str, Batch],
    count: jax.Array,
    *,
    shape: tuple[int, ...],
    axis_name: str | None = None,
) -> tuple[TrainState, Metrics]:
    """``updates`` updates in one scan.

    Args:
        update: of a method.
        state: donated by callers that jit this.
        resident: episodes of a domain on the device.
        streamed: batches of the domains that are not resident, ``[updates, T, B, ...]``.
        count: updates made in this phase before, int32 ``[]``.
        shape: see `Shape`.
        axis_name: mapped axis: every device takes its share of the same batch. Streamed batches
            are already sharded per device.

    Returns:
        The new state, and each metric for every update, ``[updates]``.
    """
    updates, length, batch, before = Shape(*shape)
    reads = (*resident, *streamed)
    clock = state.clock

    @jax.named_scope("sample")
    def draw(number: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        keys, key_update = update_keys(clock._replace(updates=number), reads)
        rows = {
            domain: draw_rows(store, keys[domain], length, batch, before)
            for domain, store in resident.items()
        }
        return rows, key_update

    # Keys and rows do not depend on what is learnt. On a CPU each draw is a small loop of its own,
    # so those of all updates are made together.
    numbers = jnp.arange(updates, dtype=jnp.int32)
    rows, keys = jax.vmap(draw)(clock.updates + numbers)

    def step(learnt: State, inputs: _Inputs) -> tuple[State, Metrics]:
        read = {
            domain: read_rows(store, inputs.rows[domain], axis_name)
            for domain, store in resident.items()
        }
        return update(learnt, inputs.feed | read, inputs.key, inputs.done, axis_name)

    inputs = _Inputs(dict(streamed), rows, keys, count + numbers)
    learnt, metrics = jax.lax.scan(step, state.learnt, inputs)
    return TrainState(learnt, clock._replace(updates=clock.updates + updates)), metrics
