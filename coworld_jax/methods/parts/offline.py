"""What the methods without a world model share: one update, repeated on the target's dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from coworld_jax.agents.gradient import averaged, prefixed
from coworld_jax.agents.model_free.actor_critic import Trace
from coworld_jax.method import TARGET, Method, Phase, Player, State, Update
from coworld_jax.types import Batch, Metrics

Step = Callable[[State, Batch, jax.Array, jax.Array, str | None], tuple[State, Metrics]]
"""State, batch of the target, key, count and mapped axis to a new state and metrics."""


def offline_method(
    init: Callable[[jax.Array], State],
    step: Step,
    player: Player,
    updates: int,
    length: int,
    batch: int,
    before: int = 0,
    embed: Callable[[State, jax.Array], jax.Array] | None = None,
) -> Method:
    """A method that repeats one update on the target's data and never plays while it learns.

    Args:
        init: of a key that is this method's alone.
        step: one update; its metrics are averaged over the mapped axis here.
        player: in the target.
        updates: of the one phase.
        length: rows of a chunk.
        batch: chunks of an update.
        before: see `method.Method`.
        embed: of images, where a step may find it in ``batch.embed``; see `method.Phase`.
    """

    def update(
        state: State,
        batches: Mapping[str, Batch],
        key: jax.Array,
        count: jax.Array,
        axis_name: str | None = None,
    ) -> tuple[State, Metrics]:
        state, metrics = step(state, batches[TARGET], key, count, axis_name)
        return state, prefixed(TARGET, averaged(metrics, axis_name))

    named: Update = update
    learn = Phase("learn", "agent", updates, reads=(TARGET,), scores=(TARGET,))
    embeddings = {}
    if embed is not None:
        learn, embeddings = learn._replace(embeds="images"), {"images": embed}
    return Method(
        init=lambda key: init(jax.random.split(key)[1]),
        updates={"agent": named},
        plan=(learn,),
        players={TARGET: player},
        length=length,
        batch=batch,
        before=before,
        embeddings=embeddings,
    )


def summary(trace: Trace, values: Mapping[str, str]) -> Metrics:
    """Means of some values of a trace, and the norm of each gradient.

    Args:
        values: names in the trace, by metric (``critic/loss``).
    """
    means = {metric: jnp.mean(trace.values[name]) for metric, name in values.items()}
    norms = {f"{part}/grad_norm": optax.tree.norm(grads) for part, grads in trace.grads.items()}
    return means | norms
