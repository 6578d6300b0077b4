"""World-model updates of the model-based baselines, as multiples of the plain DreamerV2 one.

    python -m experiments.benchmarks.model_based --size=small --repeats=9

Interleaved measurements of chunks of updates on random episodes, sampling included. Prints one JSON
line per method; ``times_plain`` is the median over rounds of its time over the plain one's.
"""

from __future__ import annotations

import functools
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from absl import app, flags

from coworld_jax.config import Config
from coworld_jax.method import TARGET, Domain, init_train_state
from coworld_jax.methods import METHODS
from coworld_jax.training import runtime
from coworld_jax.training.scan import run_updates
from experiments.benchmarks.timing import alternate, random_store, where
from experiments.configs.sizes import SIZES, sized_config

_SIZE = flags.DEFINE_enum("size", "small", SIZES, "Of networks and batches.")
_REPEATS = flags.DEFINE_integer("repeats", 9, "Measurements of each.")
_CHUNK = flags.DEFINE_integer("chunk", 10, "Updates in a measurement.")

PLAIN = "dreamer"
UPDATES = {PLAIN: "model", "offline_dv2": "model", "lompo": "target model"}
_ACTIONS = 6


def _config(name: str, size: str) -> Config:
    config = sized_config(name, size)
    if name != PLAIN:
        return config
    return replace(config, settings=replace(config.settings, domain=TARGET))


def prepare(name: str, size: str, chunk: int) -> Callable[[], Any]:
    """A chunk of updates as a call, compiled and run once; each goes on from the last's state."""
    domains = {TARGET: Domain(_ACTIONS, 0, 500)}
    method = METHODS[name].make(_config(name, size).settings, domains)
    resident = {TARGET: random_store(0, _ACTIONS, method.length)}
    shape = (chunk, method.length, method.batch)
    program = functools.partial(run_updates, method.updates[UPDATES[name]], shape=shape)
    run = jax.jit(program, donate_argnums=0)
    init = functools.partial(init_train_state, method)
    state = runtime.jit_once(init)(jax.random.key(0))

    def call() -> Any:
        nonlocal state
        state, metrics = run(state, resident, {}, jnp.int32(0))
        return metrics

    jax.block_until_ready(call())
    return call


def measure(size: str, repeats: int, chunk: int) -> list[dict[str, Any]]:
    """Figures of each method; keys as in the JSON lines."""
    calls = [prepare(name, size, chunk) for name in UPDATES]
    times = dict(zip(UPDATES, alternate(calls, repeats), strict=True))
    return [
        {
            "method": name,
            "size": size,
            "seconds": statistics.median(mine) / chunk,
            "times_plain": statistics.median(
                one / plain for one, plain in zip(mine, times[PLAIN], strict=True)
            ),
            **where(),
        }
        for name, mine in times.items()
    ]


def main(arguments: Sequence[str]) -> None:
    """Measure the size that the flags name."""
    if len(arguments) > 1:
        raise app.UsageError(f"{arguments[1]!r} is no flag.")
    runtime.configure()
    for figures in measure(_SIZE.value, _REPEATS.value, _CHUNK.value):
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    app.run(main)
