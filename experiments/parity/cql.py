"""Golden values of V-D4RL's conservative Q-learning: three updates."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from coworld_jax.agents.model_free import (
    CandidateDraws,
    Draws,
    PixelState,
    Trace,
    Transitions,
    update_cql,
)
from experiments.parity import pixels
from experiments.parity.compare import Claim
from experiments.parity.fixture import Arrays, required, setting


def recognise(arrays: Arrays) -> bool:
    """Pixel agents with a weight of the conservative term."""
    return "cfg/min_q_weight" in arrays and "in/obs" in arrays


def claims(arrays: Arrays) -> dict[str, Claim]:
    """Everything that the file states.

    Raises:
        FixtureError: something is missing, or fits no network of ours.
    """
    official = pixels.read(arrays)
    run = jax.jit(update_cql, static_argnums=(0, 6))
    weight = setting(arrays, "min_q_weight")
    more: dict[str, Any] = {}

    def update(
        state: PixelState, batch: Transitions, draws: Draws, std: jax.Array, index: int
    ) -> tuple[PixelState, Trace]:
        candidates = CandidateDraws(
            *(required(arrays, f"noise/cql_{name}")[index] for name in ("random", "curr", "next"))
        )
        state, trace = run(official.agent, state, batch, draws, candidates, std, weight)
        terms = weight * jnp.mean(trace.values["conservative_loss"], axis=1)
        more.update({f"out/u{index}/cql_term{head + 1}": terms[head] for head in range(2)})
        if index == 0:
            count = candidates.random.shape[1]
            more.update({f"out/u0/{k}": v for k, v in _candidates(trace, count).items()})
        return state, trace

    found = pixels.claims(arrays, official, update)
    return found | {
        name: Claim(value, found[f"{name.rsplit('/', 1)[0]}/actor_loss"].tolerance)
        for name, value in more.items()
    }


def _candidates(trace: Trace, count: int) -> dict[str, jax.Array]:
    """Candidate actions and their values; ours lie random, data, next, current."""
    actions, q = trace.values["candidates"], trace.values["candidate_q"]
    parts = {
        "random": slice(0, count),
        "next": slice(count + 1, 2 * count + 1),
        "curr": slice(2 * count + 1, None),
    }
    found = {
        f"cql_q{head + 1}_{name}": q[head][:, part]
        for name, part in parts.items()
        for head in range(2)
    }
    return found | {f"cql_{name}_actions": actions[:, parts[name]] for name in ("next", "curr")}
