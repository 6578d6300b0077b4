"""Filtering a batch, forwards and backwards, with the loop over time in each form.

python -m experiments.benchmarks.recurrence
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from coworld_jax.agents.dreamer import world_model
from coworld_jax.agents.dreamer.agent import init_agent, make_agent
from coworld_jax.networks import recurrence
from coworld_jax.training import runtime
from experiments.benchmark import show
from experiments.benchmarks.timing import alternate
from experiments.benchmarks.update import ACTION_SIZE
from experiments.configs.sizes import sized_config

SIZES = (  # preset, rows of a step B, steps T
    ("planar", 8, 12),
    ("small", 16, 16),
    ("small", 32, 16),
    ("released", 16, 16),
    ("released", 50, 50),
    ("released", 100, 50),
)
_REPEATS = 15


FORMS = {
    "inside": recurrence.PLAIN._replace(most_rows_deferred=0),
    "after": recurrence.PLAIN._replace(most_rows_deferred=math.inf),
    "recomputed": recurrence.FORMS["gpu"]._replace(unroll=1),
    "as on a GPU": recurrence.FORMS["gpu"],
}
"""Weight gradients inside the loop; after it; after it with less that is kept; and unrolled too."""


def measure(preset: str, batch: int, time: int) -> dict[str, tuple[float, float]]:
    """Median milliseconds and temporary megabytes of each of `FORMS`, measured in turns."""
    calls, memory = [], []
    for form in FORMS.values():
        with mock.patch.object(recurrence, "form", lambda form=form: form):
            call, size = _prepare(preset, batch, time)
        calls.append(call)
        memory.append(size / 1e6)
    medians = [1000 * statistics.median(times) for times in alternate(calls, _REPEATS)]
    return dict(zip(FORMS, zip(medians, memory, strict=True), strict=True))


def _prepare(preset: str, batch: int, time: int) -> tuple[Callable[[], Any], int]:
    """Filtering and its gradients, compiled and run once; the bytes of its temporary arrays."""
    settings = sized_config("coworld", preset).settings
    agent = make_agent(settings.network, settings.learning, ACTION_SIZE)
    model, keys = agent.model, jax.random.split(jax.random.key(0), 4)
    params = runtime.jit_once(lambda key: init_agent(agent, key).world_model)(keys[0])
    embed = jax.random.normal(keys[1], (time, batch, model.rssm.embed))
    action = jax.random.normal(keys[2], (time, batch, ACTION_SIZE))
    noise = world_model.latent_noise(model, keys[3], time, batch)

    def loss(params: Any, embed: jax.Array) -> jax.Array:
        seen = world_model.observe(model, params, embed, action, noise)
        priors = sum(jnp.sum(jnp.square(leaf)) for leaf in seen.prior.values())
        return jnp.sum(jnp.square(seen.feat)) + priors

    run = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, embed).compile()
    jax.block_until_ready(run(params, embed))
    memory = run.memory_analysis()
    assert memory is not None
    return lambda: run(params, embed), memory.temp_size_in_bytes


def main() -> None:
    """Print a table."""
    rows = [["size", *FORMS, *FORMS]]
    for preset, batch, time in SIZES:
        found = measure(preset, batch, time).values()
        rows.append(
            [
                f"{preset} {batch}x{time}",
                *(f"{milliseconds:.2f} ms" for milliseconds, _ in found),
                *(f"{megabytes:.1f} MB" for _, megabytes in found),
            ]
        )
    show(rows)


if __name__ == "__main__":
    runtime.restart_with_huge_pages()
    main()
