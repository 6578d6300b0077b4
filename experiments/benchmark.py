"""Speed, measured: one line of JSON that anyone can make again.

    python -m experiments.benchmark update --preset=small
    python -m experiments.benchmark update --preset=released --batch=50 --length=50

``update`` runs phases of ``--chunk`` updates in one jitted call on random data, alternating with
single bare updates (one jitted call each, on a batch that is there already) and with the matrix
product that the utilisation refers to, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from coworld_jax import parallel, runtime
from coworld_jax.config import PRESETS, Config
from coworld_jax.coworld import SOURCE, TARGET, init_coworld, make_coworld, make_update
from coworld_jax.flops import update_flops
from coworld_jax.store import EpisodeStore, sample

_PRESET = flags.DEFINE_enum("preset", "small", list(PRESETS), "Sizes of networks and batches.")
_BATCH = flags.DEFINE_integer("batch", None, "Chunks per update; the preset's if not given.")
_LENGTH = flags.DEFINE_integer("length", None, "Rows per chunk; the preset's if not given.")
_PHASE = flags.DEFINE_enum("phase", "target", ["target", "source", "world_model"], "Which update.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of the networks.")
_CHUNK = flags.DEFINE_integer("chunk", 10, "Updates per jitted call.", lower_bound=1)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Measurements of each kind.", lower_bound=1)

_ACTION_SIZE = 6
_MATRIX = 4096  # rows and columns of the matrix product
_EPISODES, _ROWS = 4, 501


def random_store(seed: int) -> EpisodeStore:
    """Random episodes: zeros would be faster than real frames on some hardware."""
    rng, rows = np.random.default_rng(seed), _EPISODES * _ROWS
    return EpisodeStore(
        image=jnp.asarray(rng.integers(0, 256, (rows, 64, 64, 3), np.uint8)),
        action=jnp.asarray(rng.uniform(-1, 1, (rows, _ACTION_SIZE)).astype(np.float32)),
        reward=jnp.asarray(rng.normal(size=rows).astype(np.float32)),
        discount=jnp.ones((rows,), jnp.float32),
        starts=jnp.arange(_EPISODES, dtype=jnp.int32) * _ROWS,
        lengths=jnp.full((_EPISODES,), _ROWS, jnp.int32),
        episodes=jnp.asarray(_EPISODES, jnp.int32),
    )


def seconds(call: Callable[[], Any]) -> float:
    """Wall time of ``call`` until its result is there."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def measure_update(config: Config, phase: str, chunk: int, repeats: int) -> dict[str, Any]:
    """The figures of one kind of update; keys as in the JSON line."""
    learning = config.learning
    method = make_coworld(config, _ACTION_SIZE, 1)
    update = make_update(method, phase, 0, aligned=phase == "source")
    domains = (SOURCE, TARGET) if phase == "source" else (TARGET,)
    stores = {domain: random_store(seed) for seed, domain in enumerate(domains)}
    state = init_coworld(method, 1, jax.random.key(0))
    batches = {
        domain: sample(store, jax.random.key(1), learning.length, learning.batch)
        for domain, store in stores.items()
    }
    run_chunk = parallel.compile_phase(
        update, updates=chunk, length=learning.length, batch=learning.batch, mesh=None
    )
    run_bare = jax.jit(update, donate_argnums=0)
    matrix = jax.random.normal(jax.random.key(2), (_MATRIX, _MATRIX)).astype(config.network.dtype)
    product = jax.jit(jnp.matmul)

    def one_chunk() -> Any:
        nonlocal state
        state, metrics = run_chunk(state, stores, {})
        return metrics

    def one_bare() -> Any:
        nonlocal state
        state, metrics = run_bare(state, batches, jax.random.key(3))
        return metrics

    first = seconds(one_chunk)
    seconds(one_bare), seconds(lambda: product(matrix, matrix))
    chunks, bare, products = [], [], []
    for _ in range(repeats):
        chunks.append(seconds(one_chunk) / chunk)
        bare += [seconds(one_bare) for _ in range(min(chunk, 10))]
        products.append(seconds(lambda: product(matrix, matrix)))
    median, rate = statistics.median(chunks), 2 * _MATRIX**3 / statistics.median(products)
    flops = update_flops(phase, config.network, learning, _ACTION_SIZE)
    return {
        "seconds": median,
        "seconds_min": min(chunks),
        "seconds_max": max(chunks),
        "bare_seconds": statistics.median(bare),
        "chunk_over_bare": median / statistics.median(bare),
        "compile_seconds": max(first - chunk * median, 0.0),
        "updates_per_second": 1 / median,
        "transitions_per_second": learning.batch * learning.length / median,
        "flops": flops,
        "matmul_flops_per_second": rate,
        "utilisation": flops / median / rate,
        "peak_bytes": runtime.peak_bytes(),
    }


def main(arguments: Sequence[str]) -> None:
    """Measure what the first argument names."""
    if arguments[1:] != ["update"]:
        raise app.UsageError("Say what to measure: update.")
    runtime.configure(cache=False)  # or compile_seconds would be the time of a file
    config = PRESETS[_PRESET.value]()
    sizes = {"batch": _BATCH.value, "length": _LENGTH.value}
    config = replace(
        config,
        learning=replace(config.learning, **{k: v for k, v in sizes.items() if v is not None}),
        network=replace(config.network, dtype=_DTYPE.value),
    )
    setting = {
        "preset": _PRESET.value,
        "phase": _PHASE.value,
        "batch": config.learning.batch,
        "length": config.learning.length,
        "dtype": _DTYPE.value,
        "chunk": _CHUNK.value,
    }
    print(f"Measuring {setting} ...", file=sys.stderr)
    figures = measure_update(config, _PHASE.value, _CHUNK.value, _REPEATS.value)
    width = max(map(len, figures))
    for name, value in figures.items():
        print(f"{name:<{width}}  {value:.6g}")
    device = jax.local_devices()[0]
    versions = {name: metadata.version(name) for name in ("jax", "flax", "optax")}
    print(json.dumps(setting | figures | {"device": device.device_kind, "versions": versions}))


if __name__ == "__main__":
    app.run(main)
