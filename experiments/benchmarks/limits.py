"""What bounds an update on a machine: its matrix products, its memory, its sequential steps."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from coworld_jax.config import Config
from coworld_jax.networks.recurrence import unrolled
from experiments.benchmarks.flops import feature_size, update_flops
from experiments.benchmarks.timing import (
    reference_product,
    reference_rate,
    repeated,
    repeats_per_call,
    seconds,
)

_STEPS = 2000  # of the empty loop
_FLOATS = 2**26  # of the array that is copied, 256 MiB
_REPEATS = 5
_IMAGE_BYTES = 64 * 64 * 3
_HEADS = 4  # that read the imagined features: reward, critic, its slow copy, its source's


class Rates(NamedTuple):
    """What a machine does at best."""

    flops: dict[str, float]  # of matrix products, FLOP/s, by type
    bytes: float  # read or written, bytes/s
    step: float  # one turn of an empty loop, s


class Limits(NamedTuple):
    """The time of an update by each bound alone, s; the arithmetic is that of the reference."""

    arithmetic: float
    memory: float
    steps: float

    @property
    def largest(self) -> float:
        """What bounds the update."""
        return max(self)


def measure_rates(dtypes: tuple[str, ...]) -> Rates:
    """Rates of the default device; medians."""
    flops = {}
    for dtype in dtypes:
        product = reference_product(dtype)
        flops[dtype] = reference_rate([seconds(product) for _ in range(_REPEATS)])
    array = jnp.zeros(_FLOATS, jnp.float32)
    add = repeated(lambda x: x + 1.0)
    loop = jax.jit(lambda x: jax.lax.scan(lambda x, _: (x + 1.0, None), x, length=_STEPS)[0])
    add_seconds = _median(lambda: add(array)) / repeats_per_call()
    return Rates(flops, 2 * array.nbytes / add_seconds, _median(lambda: loop(array[:8])) / _STEPS)


def _median(call: Callable[[], Any]) -> float:
    """Seconds of a compiled call."""
    seconds(call)
    return statistics.median(seconds(call) for _ in range(_REPEATS))


def limits(
    config: Config, phase: str, action_size: int, agent_bytes: int, rates: Rates, seeds: int = 1
) -> Limits:
    """The bounds of one update of each of ``seeds`` seeds together.

    Args:
        agent_bytes: of the parameters and moments of the agent that learns. They are read and
            written once; the images of the batch are read once; the imagined features are written
            once and read by each head.
    """
    network, learning = config.settings.network, config.settings.learning
    size = jnp.dtype(network.dtype).itemsize
    rows, imagines = learning.batch * learning.length, phase != "world_model"
    features = rows * (learning.horizon - 1) * feature_size(network) * size if imagines else 0
    moved = 2 * agent_bytes + rows * _IMAGE_BYTES + (1 + _HEADS) * features
    arithmetic = update_flops(phase, network, learning, action_size)
    return Limits(
        seeds * arithmetic / rates.flops[network.dtype],
        seeds * moved / rates.bytes,
        sequential_steps(config, phase) * rates.step,
    )


def sequential_steps(config: Config, phase: str) -> int:
    """Turns of the loops over time, forwards and backwards.

    `tests/test_coworld.py` counts the same in programs that are compiled for a CPU.
    """
    learning, unroll = config.settings.learning, unrolled(config.settings.network.unroll)
    imagined = 0 if phase == "world_model" else learning.horizon - 1
    return 2 * (math.ceil(learning.length / unroll) + math.ceil(imagined / unroll))
