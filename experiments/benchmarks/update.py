"""One update: chunks of them in one call, single ones, and the matrix product they refer to."""

from __future__ import annotations

import functools
import os
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from coworld_jax import parallel
from coworld_jax.config import Config
from coworld_jax.method import TARGET, Domain, Method, TrainState, init_train_state, source_names
from coworld_jax.methods.coworld import make_coworld
from coworld_jax.store import EpisodeStore, draw_rows, read_rows
from coworld_jax.training import runtime
from coworld_jax.training.embeddings import embed_images
from coworld_jax.training.scan import run_updates
from coworld_jax.types import Batch
from experiments.benchmarks.flops import update_flops
from experiments.benchmarks.timing import (
    alternate,
    random_store,
    reference_product,
    reference_rate,
)

ACTION_SIZE = 6
_STATE_SIZE = 24  # of a source that reads states: dmc's walker
# Kinds of update: the method's name of each, and whose batches it reads.
PHASES = {
    "pretrain": ("{source}", ("{source}",)),
    "world_model": ("target model", (TARGET,)),
    "source": ("{source} aligned", ("{source}", TARGET)),
    "target": ("target", (TARGET,)),
}
_BARE = 10  # single updates in a measurement, at most
_ZERO = np.int32(0)  # updates made before


class Program(NamedTuple):
    """Two compiled forms of one update; each call learns from the state that the last one left."""

    run_chunk: Callable[[], Any]  # `run.chunk` updates in one call, sampling included
    run_bare: Callable[[], Any]  # a few single ones on a batch that is there; first compiles it
    bare: int
    compile_seconds: float  # of the chunk, tracing included
    hlo: str  # the chunk as it was compiled


class Traced(NamedTuple):
    """A chunk of updates that is still to be compiled, and what it is called with."""

    chunk: jax.stages.Lowered
    single: Callable[..., Any]  # one update of batches that are given, jitted
    state: TrainState
    stores: dict[str, EpisodeStore]
    batches: dict[str, Batch]  # of one update, [1, T, B, ...]
    updates: int  # of a chunk
    seconds: float  # that tracing took

    def compile(self) -> tuple[Any, float]:
        """The compiled chunk, and the seconds of it, tracing included; runs nothing."""
        began = time.perf_counter()
        return self.chunk.compile(), self.seconds + time.perf_counter() - began


def prepare(config: Config, phase: str) -> Program:
    """Compile a chunk of one of `PHASES`, and run it once; arguments as in `trace`."""
    traced = trace(config, phase)
    return started(traced, traced.compile())


def trace(
    config: Config, phase: str, seeds: int = 1, place: Callable[[Any], Any] = lambda tree: tree
) -> Traced:
    """A chunk of one of `PHASES`; devices share its batches as they do in a run.

    ``source`` has coupling B and ``pretrain`` has not; ``world_model`` is the target's warm-up.

    Args:
        seeds: that learn from the same data at once, each with a state of its own.
        place: maps the chunk's arguments to the arrays or shapes that it is lowered for, for
            example on another device.
    """
    learning, chunk = config.settings.learning, config.run.chunk
    mesh = parallel.make_mesh(config.run.devices, learning.batch)
    state_size = _state_size(config)
    domains = _domains(config)
    source = next(iter(domains))
    method = make_coworld(config.settings, domains)
    name, reads = PHASES[phase]
    update = method.updates[name.format(source=source)]
    stores: dict[str, EpisodeStore] = {
        domain: random_store(
            seed, ACTION_SIZE, learning.length, 0 if domain == TARGET else state_size
        )
        for seed, domain in enumerate(read.format(source=source) for read in reads)
    }
    key_embed, key_init, *keys = jax.random.split(jax.random.key(0), 2 + len(stores))
    if config.run.embeddings == "phase" and reads == (TARGET,):
        stores[TARGET] = _embedded(method, stores[TARGET], key_embed)
    sizes = (learning.length, learning.batch)
    batches = {
        domain: _one(read_rows(store, draw_rows(store, key, *sizes)), mesh)
        for key, (domain, store) in zip(keys, stores.items(), strict=True)
    }
    program: parallel.Program = functools.partial(run_updates, update, shape=(chunk, *sizes))
    single = parallel.spread(functools.partial(run_updates, update, shape=(1, *sizes)), mesh)
    init = functools.partial(init_train_state, method)
    if seeds > 1:
        program, init = for_each_seed(program), jax.vmap(init)
        key_init = jax.random.split(key_init, seeds)
    state = runtime.jit_once(init)(key_init)
    state, stores = parallel.replicate((state, stores), mesh)
    began = time.perf_counter()
    lowered = parallel.spread(program, mesh).lower(*place((state, stores, {}, _ZERO)))
    spent = time.perf_counter() - began
    return Traced(lowered, single, state, stores, batches, chunk, spent)


def compile_together(traced: Iterable[Traced]) -> list[Future[tuple[Any, float]]]:
    """`Traced.compile` of each, side by side: XLA keeps about two cores busy with one program.

    All are done; the result of one that failed raises its error.
    """
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2)) as pool:
        return [pool.submit(one.compile) for one in traced]


def _one(batch: Batch, mesh: parallel.Mesh | None) -> Batch:
    """A batch as a feed streams it, ``[1, T, B, ...]``."""

    def streamed(leaf: jax.Array) -> jax.Array:
        own = parallel.columns(leaf.shape[1])
        return parallel.share_columns(np.asarray(leaf)[None, :, own], mesh)

    return jax.tree.map(streamed, batch)


def _embedded(method: Method, store: EpisodeStore, key: jax.Array) -> EpisodeStore:
    """``store`` with what a phase of the target embeds of its images."""
    (embed,) = method.embeddings.values()
    learnt = runtime.jit_once(method.init)(key)
    return store._replace(embed=embed_images(jax.jit(embed), learnt, store.image, print))


def for_each_seed(program: parallel.Program) -> parallel.Program:
    """``program`` for a state with a leading axis of seeds; they share data and count."""

    def run(
        state: Any, resident: Any, streamed: Any, count: Any, *, axis_name: str | None
    ) -> tuple[Any, Any]:
        one = functools.partial(program, axis_name=axis_name)
        return jax.vmap(one, in_axes=(0, None, None, None))(state, resident, streamed, count)

    return run


def started(traced: Traced, compiled: tuple[Any, float]) -> Program:
    """Run a chunk once, which `Traced.compile` has compiled."""
    state, stores = traced.state, traced.stores
    scan, compile_seconds = compiled
    bare = min(traced.updates, _BARE)

    def run_chunk() -> Any:
        nonlocal state
        state, metrics = scan(state, stores, {}, _ZERO)
        return metrics

    def run_bare() -> Any:
        nonlocal state
        for _ in range(bare):
            state, metrics = traced.single(state, {}, traced.batches, _ZERO)
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
            reference_product(config.settings.network.dtype),
        )
    ]
    times = iter(alternate(calls, repeats))
    return [
        _figures(config, phase, program, next(times), next(times), next(times))
        for config, program in zip(configs, programs, strict=True)
    ]


def sizes(config: Config) -> dict[str, int]:
    """Bytes that devices average in an update of the target, of that agent, of the whole state."""
    method = make_coworld(config.settings, _domains(config))
    learnt = jax.eval_shape(method.init, jax.random.key(0))
    agent = learnt.target
    return {
        "gradient_bytes": _bytes((agent.world_model, agent.actor, agent.critic)),
        "agent_bytes": _bytes(agent),
        "state_bytes": _bytes(learnt),
    }


def _bytes(tree: Any) -> int:
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def _figures(
    config: Config,
    phase: str,
    program: Program,
    chunks: Sequence[float],
    bare: Sequence[float],
    products: Sequence[float],
) -> dict[str, Any]:
    learning, chunk = config.settings.learning, config.run.chunk
    each = [time / chunk for time in chunks]
    median, rate = statistics.median(each), reference_rate(products)
    bare_median = statistics.median(bare) / program.bare
    flops = update_flops(phase, config.settings.network, learning, ACTION_SIZE, _state_size(config))
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
    return _STATE_SIZE if config.settings.source_observation == "state" else 0


def _domains(config: Config) -> dict[str, Domain]:
    """As many sources as the configuration has, and a target; all like dmc's walker."""
    names = source_names(max(len(config.source), 1))
    return {name: Domain(ACTION_SIZE, _STATE_SIZE, 500) for name in (*names, TARGET)}
