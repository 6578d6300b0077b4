"""One update: chunks of them in one call, single ones, and the matrix product they refer to."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax

from coworld_jax import parallel, runtime
from coworld_jax.config import Config
from coworld_jax.coworld import (
    SOURCE,
    TARGET,
    CoWorldState,
    init_coworld,
    make_coworld,
)
from coworld_jax.flops import update_flops
from coworld_jax.phases import make_update
from coworld_jax.store import EpisodeStore, sample
from experiments.benchmarks.timing import (
    alternate,
    random_store,
    reference_product,
    reference_rate,
)

ACTION_SIZE = 6
_STATE_SIZE = 24  # of a source that reads states: dmc's walker
# Kinds of update, and whose batches each of them reads.
PHASES = {
    "pretrain": (SOURCE,),
    "world_model": (TARGET,),
    "source": (SOURCE, TARGET),
    "target": (TARGET,),
}
_BARE = 10  # single updates in a measurement, at most


class Program(NamedTuple):
    """Two compiled forms of one update; each call learns from the state that the last one left."""

    run_chunk: Callable[[], Any]  # `run.chunk` updates in one call, sampling included
    run_bare: Callable[[], Any]  # a few single ones on a batch that is there; first compiles it
    bare: int
    compile_seconds: float  # of the chunk, tracing included
    hlo: str  # the chunk as it was compiled


def prepare(config: Config, phase: str) -> Program:
    """Compile a chunk of one of `PHASES`, and run it once.

    ``source`` has coupling B and ``pretrain`` has not; ``world_model`` is the target's warm-up.
    """
    learning, chunk = config.learning, config.run.chunk
    state_size = _state_size(config)
    method = make_coworld(config, ACTION_SIZE, 1, state_size)
    kind = "source" if phase == "pretrain" else phase
    update = make_update(method, kind, 0, aligned=phase == "source")
    stores: dict[str, EpisodeStore] = {
        domain: random_store(
            seed, ACTION_SIZE, learning.length, state_size if domain == SOURCE else 0
        )
        for seed, domain in enumerate(PHASES[phase])
    }
    init = jax.jit(init_coworld, static_argnums=(0, 1))
    key_init, *keys = jax.random.split(jax.random.key(0), 1 + len(stores))
    state: CoWorldState = init(method, 1, key_init)
    batches = {
        domain: sample(store, key, learning.length, learning.batch)
        for key, (domain, store) in zip(keys, stores.items(), strict=True)
    }
    began = time.perf_counter()
    scan = (
        parallel.compile_phase(
            update, updates=chunk, length=learning.length, batch=learning.batch, mesh=None
        )
        .lower(state, stores, {})
        .compile()
    )
    compile_seconds = time.perf_counter() - began
    single = jax.jit(update, donate_argnums=0)
    bare = min(chunk, _BARE)

    def run_chunk() -> Any:
        nonlocal state
        state, metrics = scan(state, stores, {})
        return metrics

    def run_bare() -> Any:
        nonlocal state
        for _ in range(bare):
            state, metrics = single(state, batches, jax.random.key(1))  # noise may repeat
        return metrics

    jax.block_until_ready(run_chunk())
    return Program(run_chunk, run_bare, bare, compile_seconds, scan.as_text() or "")


def measure(configs: Sequence[Config], phase: str, repeats: int) -> list[dict[str, Any]]:
    """The figures of each configuration, taken in turns; keys as in the JSON line."""
    programs = [prepare(config, phase) for config in configs]
    for program in programs:
        jax.block_until_ready(program.run_bare())
    calls = [
        call
        for config, program in zip(configs, programs, strict=True)
        for call in (
            program.run_chunk,
            program.run_bare,
            reference_product(config.network.dtype),
        )
    ]
    times = iter(alternate(calls, repeats))
    return [
        _figures(config, phase, program, next(times), next(times), next(times))
        for config, program in zip(configs, programs, strict=True)
    ]


def _figures(
    config: Config,
    phase: str,
    program: Program,
    chunks: Sequence[float],
    bare: Sequence[float],
    products: Sequence[float],
) -> dict[str, Any]:
    learning, chunk = config.learning, config.run.chunk
    each = [time / chunk for time in chunks]
    median, rate = statistics.median(each), reference_rate(products)
    bare_median = statistics.median(bare) / program.bare
    flops = update_flops(phase, config.network, learning, ACTION_SIZE, _state_size(config))
    return {
        "seconds": median,
        "seconds_min": min(each),
        "seconds_max": max(each),
        "bare_seconds": bare_median,
        "chunk_over_bare": median / bare_median,
        "compile_seconds": program.compile_seconds,
        "updates_per_second": 1 / median,
        "transitions_per_second": learning.batch * learning.length / median,
        "flops": flops,
        "matmul_flops_per_second": rate,
        "utilisation": flops / median / rate,
        "peak_bytes": runtime.peak_bytes(),
    }


def _state_size(config: Config) -> int:
    return _STATE_SIZE if config.source_observation == "state" else 0
