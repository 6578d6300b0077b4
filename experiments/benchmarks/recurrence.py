"""Filtering and imagining, forwards and backwards, with the loop over time in each form.

    python -m experiments.benchmarks.recurrence

Filtering has the gradient of the world model, imagining that of the actor.
"""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp

from coworld_jax.agents.dreamer import behavior, world_model
from coworld_jax.agents.dreamer.agent import Agent, AgentState, init_agent, make_agent
from coworld_jax.networks import recurrence
from coworld_jax.training import runtime
from experiments.benchmark import show
from experiments.benchmarks.timing import alternate
from experiments.benchmarks.update import ACTION_SIZE
from experiments.configs.sizes import sized_config

# preset, rows of a step, steps
FILTERED = (
    ("planar", 8, 12),
    ("small", 16, 16),
    ("small", 32, 16),
    ("released", 16, 16),
    ("released", 50, 50),
    ("released", 100, 50),
)
IMAGINED = (
    ("planar", 48, 9),
    ("planar", 96, 9),
    ("small", 128, 14),
    ("small", 256, 14),
    ("released", 128, 14),
    ("released", 256, 14),
)
_REPEATS = 15

Call = tuple[Callable[..., Any], tuple[Any, ...]]  # a function and its arguments

FORMS = {
    "inside": recurrence.PLAIN._replace(most_rows_deferred=0),
    "after": recurrence.PLAIN._replace(most_rows_deferred=math.inf),
    "recomputed": recurrence.FORMS["gpu"]._replace(unroll=1),
    "as on a GPU": recurrence.FORMS["gpu"],
}
"""Weight gradients inside the loop; after it; after it with less that is kept; and unrolled too."""


def measure(prepare: Callable[..., Call], *size: Any) -> dict[str, tuple[float, float]]:
    """Median milliseconds and temporary megabytes of each of `FORMS`, measured in turns.

    Args:
        prepare: `filtering` or `imagining`.
        size: its arguments.
    """
    calls, memory = [], []
    for form in FORMS.values():
        with mock.patch.object(recurrence, "form", lambda form=form: form):
            call, size_in_bytes = _compile(*prepare(*size))
        calls.append(call)
        memory.append(size_in_bytes / 1e6)
    medians = [1000 * statistics.median(times) for times in alternate(calls, _REPEATS)]
    return dict(zip(FORMS, zip(medians, memory, strict=True), strict=True))


def _compile(function: Callable[..., Any], arguments: tuple[Any, ...]) -> tuple[Any, int]:
    """A call of the compiled function, run once; the bytes of its temporary arrays."""
    run = jax.jit(function).lower(*arguments).compile()
    jax.block_until_ready(run(*arguments))
    memory = run.memory_analysis()
    assert memory is not None
    return lambda: run(*arguments), memory.temp_size_in_bytes


@functools.cache
def _agent(preset: str) -> tuple[Agent, AgentState]:
    settings = sized_config("coworld", preset).settings
    agent = make_agent(settings.network, settings.learning, ACTION_SIZE)
    return agent, runtime.jit_once(functools.partial(init_agent, agent))(jax.random.key(0))


def filtering(preset: str, batch: int, time: int) -> Call:
    """Filtering B chunks of T rows, with the gradients of the world model and the embeddings."""
    agent, state = _agent(preset)
    model, keys = agent.model, jax.random.split(jax.random.key(1), 3)
    embed = jax.random.normal(keys[0], (time, batch, model.rssm.embed))
    action = jax.random.normal(keys[1], (time, batch, ACTION_SIZE))
    noise = world_model.latent_noise(model, keys[2], time, batch)

    def loss(params: Any, embed: jax.Array) -> jax.Array:
        seen = world_model.observe(model, params, embed, action, noise)
        priors = sum(jnp.sum(jnp.square(leaf)) for leaf in seen.prior.values())
        return jnp.sum(jnp.square(seen.feat)) + priors

    return jax.grad(loss, argnums=(0, 1)), (state.world_model, embed)


def imagining(preset: str, starts: int, steps: int) -> Call:
    """Rolling the actor out from N states, with its gradient."""
    agent, state = _agent(preset)
    start = world_model.initial_latent(agent.model, starts)
    keys = jax.random.split(jax.random.key(2))
    noise = behavior.rollout_noise(agent.model, keys, steps, (1, starts))

    def loss(actor: Any, world: Any) -> jax.Array:
        rollout = behavior.imagine(agent, world, actor, start, noise)
        return jnp.stack([jnp.sum(jnp.square(leaf)) for leaf in rollout]).sum()

    return jax.grad(loss), (state.actor, state.world_model)


def main() -> None:
    """Print a table."""
    rows = [["size", *FORMS, *FORMS]]
    for prepare, sizes in ((filtering, FILTERED), (imagining, IMAGINED)):
        for preset, batch, time in sizes:
            found = measure(prepare, preset, batch, time).values()
            rows.append(
                [
                    f"{prepare.__name__} {preset} {batch}x{time}",
                    *(f"{milliseconds:.2f} ms" for milliseconds, _ in found),
                    *(f"{megabytes:.1f} MB" for _, megabytes in found),
                ]
            )
    show(rows)


if __name__ == "__main__":
    runtime.restart_with_huge_pages()
    main()
