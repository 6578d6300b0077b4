"""LOMPO on the data of one domain: its phases, and its updates by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

from coworld_jax.agents.gradient import prefixed
from coworld_jax.agents.lompo.agent import Lompo, LompoState
from coworld_jax.agents.lompo.updates import (
    update_agent,
    update_imagined,
    update_model,
    update_real,
)
from coworld_jax.method import Phase, State, Update
from coworld_jax.types import Batch, Metrics

# How a method's state holds LOMPO's: read it, and put a new one in its place.
Pick = Callable[[State], LompoState]
Put = Callable[[State, LompoState], State]


def lompo_phases(
    lompo: Lompo, domain: str, model_updates: int, updates: int, *, scored: bool
) -> tuple[Phase, ...]:
    """Model, real buffer, buffer of imagined steps, agent: those that have any updates.

    Args:
        domain: whose data they read; it stands before the name of each update.
        scored: whether evaluations play in it while the agent learns.
    """
    parts = (
        ("world model", "model", model_updates),
        ("real buffer", "encode", lompo.real_blocks),
        ("imagined buffer", "imagine", lompo.first_blocks),
        ("agent", "agent", updates),
    )
    return tuple(
        Phase(
            f"{domain}: {name}",
            f"{domain} {update}",
            count,
            reads=(domain,),
            scores=(domain,) if scored and update == "agent" else (),
        )
        for name, update, count in parts
        if count
    )


def lompo_updates(lompo: Lompo, domain: str, pick: Pick, put: Put) -> dict[str, Update]:
    """The updates that `lompo_phases` names."""

    def named(make: Callable[..., tuple[LompoState, Metrics]], *, counts: bool) -> Update:
        def update(
            state: State,
            batches: Mapping[str, Batch],
            key: jax.Array,
            count: jax.Array,
            axis_name: str | None = None,
        ) -> tuple[State, Metrics]:
            clock: dict[str, Any] = {"count": count} if counts else {}
            learnt, metrics = make(
                lompo, pick(state), batches[domain], key, axis_name=axis_name, **clock
            )
            return put(state, learnt), prefixed(domain, metrics)

        return update

    return {
        f"{domain} model": named(update_model, counts=False),
        f"{domain} encode": named(update_real, counts=False),
        f"{domain} imagine": named(update_imagined, counts=False),
        f"{domain} agent": named(update_agent, counts=True),
    }
