"""The scanned phases that train the agents in turns.

The update of a phase is a pure function ``(state, batches, key) -> (state, metrics)``; a phase runs
it ``updates`` times inside one `jax.lax.scan` that samples its batches from the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

import jax
import jax.numpy as jnp

from coworld_jax.coworld import (
    SOURCE,
    TARGET,
    CoWorld,
    CoWorldState,
    nearest_source,
    source_name,
    source_update,
    target_update,
    with_source,
)
from coworld_jax.store import EpisodeStore, sample
from coworld_jax.types import Batch, Metrics


class Update(Protocol):
    """One update of one phase."""

    def __call__(
        self,
        state: CoWorldState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[CoWorldState, Metrics]: ...


def make_update(
    method: CoWorld, kind: str, source: int, aligned: bool, action_size: int | None = None
) -> Update:
    """The update of a phase (see `schedule.Phase`) on the whole state.

    Other agents than the one that learns come back bit-identical.

    Args:
        kind, source, aligned: see `schedule.Phase`.
        action_size: coordinates that the simulator of the learning agent takes; None for all that
            the networks have.
    """
    if action_size is not None:
        method = method.with_action_size(SOURCE if kind == "source" else TARGET, action_size)

    def update_source(
        state: CoWorldState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[CoWorldState, Metrics]:
        agent_state, metrics = source_update(
            method,
            state.sources[source],
            batches[SOURCE],
            batches[TARGET] if aligned else None,
            key,
            axis_name,
        )
        name = source_name(source, state.sources)
        return with_source(state, source, agent_state), _prefixed(name, metrics)

    def update_target(
        state: CoWorldState,
        batches: Mapping[str, Batch],
        key: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[CoWorldState, Metrics]:
        batch, chosen, selection = batches[TARGET], state.sources[0], {}
        if len(state.sources) > 1:
            chosen, distances = nearest_source(
                method, state.target, state.sources, batch, axis_name
            )
            selection = {"model/source_chosen": jnp.argmin(distances).astype(jnp.float32)}
        agent_state, metrics = target_update(
            method, state.target, chosen, batch, key, axis_name, behavior=kind == "target"
        )
        return replace(state, target=agent_state), _prefixed(TARGET, metrics | selection)

    return {"source": update_source, "world_model": update_target, "target": update_target}[kind]


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


def _prefixed(domain: str, metrics: Metrics) -> Metrics:
    return {f"{domain}/{name}": value for name, value in metrics.items()}
