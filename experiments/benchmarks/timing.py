"""What every measurement shares: a synchronised clock, the reference rate, random data."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax.store import EpisodeStore

MATRIX = 4096  # rows and columns of the reference matrix product
_REPEATS = {"cpu": 1, "gpu": 50, "tpu": 50}  # per call, so that the work outweighs the call
_EPISODES, _ROWS = 4, 501


def seconds(call: Callable[[], Any]) -> float:
    """Wall time of ``call`` until its result is there."""
    began = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - began


def alternate(calls: Sequence[Callable[[], Any]], repeats: int) -> list[list[float]]:
    """Seconds of each call, ``repeats`` times each, taking turns.

    A machine that slows down for a while then slows all of them. Call each once before.
    """
    rounds = [[seconds(call) for call in calls] for _ in range(repeats)]
    return [list(times) for times in zip(*rounds, strict=True)]


def repeats_per_call() -> int:
    """How often a measured operation is repeated in one call on the default device."""
    return _REPEATS[jax.default_backend()]


def repeated(operation: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    """A program that applies ``operation`` to its own result, `repeats_per_call` times."""
    count = repeats_per_call()
    return jax.jit(lambda x: jax.lax.fori_loop(0, count, lambda _, x: operation(x), x))


def reference_product(dtype: str) -> Callable[[], jax.Array]:
    """Large matrix products, compiled and run once; `reference_rate` makes a rate of their time."""
    matrix = jax.random.normal(jax.random.key(2), (MATRIX, MATRIX)) / MATRIX**0.5
    matrix = matrix.astype(dtype)  # a product with it has the size of its other factor
    product = repeated(lambda x: x @ matrix)
    jax.block_until_ready(product(matrix))
    return lambda: product(matrix)


def reference_rate(times: Sequence[float]) -> float:
    """FLOP/s of the reference products."""
    return repeats_per_call() * 2 * MATRIX**3 / statistics.median(times)


def random_store(seed: int, action_size: int, length: int, state_size: int = 0) -> EpisodeStore:
    """Random episodes, long enough for chunks of ``length`` rows.

    Zeros would be faster than real frames on some hardware.
    """
    each = max(_ROWS, length)
    rng, rows = np.random.default_rng(seed), _EPISODES * each
    return EpisodeStore(
        image=jnp.asarray(rng.integers(0, 256, (rows, 64, 64, 3), np.uint8)),
        action=jnp.asarray(rng.uniform(-1, 1, (rows, action_size)).astype(np.float32)),
        reward=jnp.asarray(rng.normal(size=rows).astype(np.float32)),
        discount=jnp.ones((rows,), jnp.float32),
        state=jnp.asarray(rng.normal(size=(rows, state_size)), jnp.float32),
        starts=jnp.arange(_EPISODES, dtype=jnp.int32) * each,
        lengths=jnp.full((_EPISODES,), each, jnp.int32),
        episodes=jnp.asarray(_EPISODES, jnp.int32),
    )


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The lines of a file that are objects of JSON; none where there is no file.

    A line that was cut off, or is something else, is left out.
    """
    lines = []
    for text in file.read_text().splitlines() if file.exists() else ():
        with contextlib.suppress(json.JSONDecodeError):
            lines.append(json.loads(text))
    return [line for line in lines if isinstance(line, dict)]


def where() -> dict[str, Any]:
    """The machine and the versions that figures belong to."""
    versions = {name: metadata.version(name) for name in ("jax", "flax", "optax")}
    return {
        "device": jax.local_devices()[0].device_kind,
        "devices": jax.local_device_count(),
        "cpu_count": os.cpu_count(),
        "versions": versions,
    }
