"""One update of each pixel agent at official sizes, in units of a large matrix product.

    python -m experiments.benchmarks.pixels --agents=drq_bc,cql,curl --repeats=5

Batch 256 of 84x84x9 frames (CURL: 100x100x9, crops included, with actor and temperature step),
trunk 50, hidden layers 1024, 4 actions. Prints one JSON line per agent; ``product_gflop`` is the
update's seconds times the GFLOP/s of 4096x4096 products that take turns with it. The official
PyTorch code, on one thread, was measured at 304 (DrQ+BC), 608 (CQL) and 707 (CURL).
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from absl import app, flags

from coworld_jax.agents.model_free import (
    CandidateDraws,
    CurlAgent,
    CurlDraws,
    Draws,
    PixelAgent,
    Transitions,
    init_curl,
    init_pixel_agent,
    update_cql,
    update_curl,
    update_drq_bc,
)
from coworld_jax.networks import PixelActor, PixelEncoder, TwinCritic
from coworld_jax.training import runtime
from experiments.benchmarks.timing import alternate, reference_product, reference_rate, where

_AGENTS = flags.DEFINE_list("agents", ["drq_bc", "cql", "curl"], "Which agents to measure.")
_REPEATS = flags.DEFINE_integer("repeats", 5, "Measurements of each.")
_BATCH = flags.DEFINE_integer("batch", 256, "Transitions of an update.")

OFFICIAL_GFLOP = {"drq_bc": 304.0, "cql": 608.0, "curl": 707.0}
Prepared = tuple[Any, Any, Callable[..., Any]]  # state, data, (state, data) -> (state, losses)
_ACTIONS, _CHANNELS, _TRUNK, _HIDDEN = 4, 9, 50, 1024


def prepare(name: str, batch: int) -> Callable[[], Any]:
    """One update as a call, compiled and run once; each call goes on from the last one's state."""
    rng = np.random.default_rng(0)
    make = {"drq_bc": _drq_bc, "cql": _cql, "curl": _curl}[name]
    state, data, update = make(rng, batch)
    step = jax.jit(update, donate_argnums=0)

    def call() -> Any:
        nonlocal state
        state, losses = step(state, data)
        return losses

    jax.block_until_ready(call())
    return call


def measure(name: str, batch: int, repeats: int) -> dict[str, Any]:
    """Figures of one agent; keys as in the JSON line."""
    updates, products = alternate([prepare(name, batch), reference_product("float32")], repeats)
    seconds, rate = statistics.median(updates), reference_rate(products)
    product = seconds * rate / 1e9
    return {
        "agent": name,
        "seconds": seconds,
        "seconds_min": min(updates),
        "matmul_gflop_per_second": rate / 1e9,
        "product_gflop": product,
        "official_over_ours": OFFICIAL_GFLOP[name] / product,
        **where(),
    }


def _transitions(rng: np.random.Generator, batch: int, size: int) -> Transitions:
    shape = (batch, size, size, _CHANNELS)
    return Transitions(
        obs=jnp.asarray(rng.integers(0, 256, shape, np.uint8)),
        action=jnp.asarray(rng.uniform(-1, 1, (batch, _ACTIONS)), jnp.float32),
        reward=jnp.asarray(rng.normal(size=batch), jnp.float32),
        discount=jnp.full(batch, 0.99),
        next_obs=jnp.asarray(rng.integers(0, 256, shape, np.uint8)),
    )


def _normal(rng: np.random.Generator, *shape: int) -> jax.Array:
    return jnp.asarray(rng.normal(size=shape), jnp.float32)


def _pixel_agent(rng: np.random.Generator, batch: int) -> tuple[PixelAgent, Transitions, Draws]:
    agent = PixelAgent(
        PixelEncoder(),
        PixelActor(_TRUNK, _HIDDEN, _ACTIONS),
        TwinCritic(_TRUNK, _HIDDEN),
        optax.adam(3e-4),
    )
    shifts = (jnp.asarray(rng.integers(0, 9, (batch, 2)), jnp.int32) for _ in range(2))
    noise = (_normal(rng, batch, _ACTIONS) for _ in range(2))
    return agent, _transitions(rng, batch, 84), Draws(*shifts, *noise)


def _drq_bc(rng: np.random.Generator, batch: int) -> Prepared:
    agent, data, draws = _pixel_agent(rng, batch)

    def update(state: Any, given: tuple[Transitions, Draws]) -> Any:
        state, trace = update_drq_bc(agent, state, *given, std=jnp.asarray(0.5), cloning_weight=2.5)
        return state, _losses(trace.values)

    state = init_pixel_agent(agent, jax.random.key(0), (84, 84, _CHANNELS), _ACTIONS)
    return state, (data, draws), update


def _cql(rng: np.random.Generator, batch: int) -> Prepared:
    agent, data, draws = _pixel_agent(rng, batch)
    candidates = CandidateDraws(*(_normal(rng, batch, 10, _ACTIONS) for _ in range(3)))

    def update(state: Any, given: tuple[Transitions, Draws, CandidateDraws]) -> Any:
        std, weight = jnp.asarray(0.5), 10.0
        state, trace = update_cql(agent, state, *given, std=std, conservative_weight=weight)
        return state, _losses(trace.values)

    state = init_pixel_agent(agent, jax.random.key(0), (84, 84, _CHANNELS), _ACTIONS)
    return state, (data, draws, candidates), update


def _curl(rng: np.random.Generator, batch: int) -> Prepared:
    agent = CurlAgent(
        PixelEncoder(delta=True),
        PixelActor(_TRUNK, _HIDDEN, 2 * _ACTIONS, squash=False),
        TwinCritic(_TRUNK, _HIDDEN, squash=False),
        optax.adam(1e-3),
        optax.adam(1e-4, b1=0.5),
        crop=84,
        target_entropy=-float(_ACTIONS),
    )
    data = _transitions(rng, batch, 100)
    crops = (jnp.asarray(rng.integers(0, 16, (batch, 2)), jnp.int32) for _ in range(3))
    noise = (_normal(rng, batch, _ACTIONS) for _ in range(2))
    draws = CurlDraws(*crops, *noise)

    def update(state: Any, data: Any) -> Any:
        state, trace = update_curl(agent, state, *data)
        return state, _losses(trace.values)

    state = init_curl(agent, jax.random.key(0), _CHANNELS, _ACTIONS)
    return state, (data, draws, jnp.asarray(True)), update


def _losses(values: dict[str, jax.Array]) -> dict[str, jax.Array]:
    """What a training loop would keep of a trace."""
    return {name: jnp.mean(value) for name, value in values.items() if name.endswith("_loss")}


def main(arguments: Sequence[str]) -> None:
    """Measure the flags' agents."""
    if len(arguments) > 1:
        raise app.UsageError(f"{arguments[1]!r} is no flag.")
    runtime.configure()
    for name in _AGENTS.value:
        if name not in OFFICIAL_GFLOP:
            raise app.UsageError(f"--agents: {name!r} is none of {', '.join(OFFICIAL_GFLOP)}.")
        print(json.dumps(measure(name, _BATCH.value, _REPEATS.value)), flush=True)


if __name__ == "__main__":
    app.run(main)
