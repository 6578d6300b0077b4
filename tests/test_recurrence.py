"""Each form of the loops over time gives the same values and gradients."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import close
from tiny_world_model import KINDS, B, Case, make_case

from coworld_jax.agents.dreamer import behavior, world_model
from coworld_jax.agents.dreamer.world_model import Chunks
from coworld_jax.networks import recurrence

PLAIN = recurrence.PLAIN
GPU = recurrence.FORMS["gpu"]._replace(unroll=2)  # a loop, and a step that is left over


@pytest.fixture(scope="module", params=KINDS)
def case(request: pytest.FixtureRequest) -> Case:
    return make_case(request.param)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_gradients_inside_the_loop_and_after_it_are_equal(
    case: Case, dtype: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of each weight and of the embeddings, for two batches, two seeds, and unrolled.

    Also where a loop computes again what it has not kept, as on a GPU.
    """
    model = case.agent.model
    model = model._replace(rssm=model.rssm.clone(dtype=jnp.dtype(dtype)), unroll=3)
    params = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 0.01]), case.state.world_model)
    other = Chunks(case.embed[:, :1], -case.action[:, :1], case.noise[:, :1])

    def loss(params: Any, embed: jax.Array) -> jax.Array:
        own = Chunks(embed, case.action, case.noise)
        seen = world_model.observe_each(model, params, [own, other])
        return sum(
            jnp.sum(jnp.sin(leaf.astype(jnp.float32)))
            for each in seen
            for leaf in jax.tree.leaves((each.post, each.prior))
        )

    found = []
    for form in (PLAIN, GPU, PLAIN._replace(most_rows_deferred=0)):
        monkeypatch.setattr(recurrence, "form", lambda form=form: form)
        gradient = jax.vmap(jax.grad(loss, argnums=(0, 1)), in_axes=(0, None))
        program = jax.jit(lambda *args, gradient=gradient: gradient(*args))
        (weights, embed) = program(params, case.embed)
        found.append((weights["rssm"], embed))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(found[0]))
    for each in found[1:]:
        close(found[0], each, 1e-5 if dtype == "float32" else 0.05)


def test_the_actor_learns_the_same_from_a_rollout_in_each_form(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Values and gradients of rollouts: two seeds; one seed with two starts."""
    agent, world = case.agent, case.state.world_model
    seeds = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf + 0.01]), case.state.actor)
    start = world_model.initial_latent(agent.model, B)
    noise = behavior.rollout_noise(agent.model, jax.random.split(jax.random.key(1)), 3, (1, B))
    starts = jnp.stack([start.deter + 0.1, start.deter - 0.2])

    def loss(actor: Any, deter: jax.Array) -> jax.Array:
        rollout = behavior.imagine(agent, world, actor, start._replace(deter=deter), noise)
        return sum(jnp.sum(jnp.sin(leaf)) for leaf in rollout)

    def gradients(seeds: Any, actor: Any, starts: jax.Array) -> Any:
        each = jax.vmap(jax.value_and_grad(loss, argnums=(0, 1)), (0, None))(seeds, starts[0])
        shared = jax.grad(lambda actor: jnp.sum(jax.vmap(loss, (None, 0))(actor, starts)))(actor)
        return each, shared

    found = []
    for form in (PLAIN._replace(most_rows_deferred=0), PLAIN, GPU):
        monkeypatch.setattr(recurrence, "form", lambda form=form: form)
        program = jax.jit(lambda *args: gradients(*args))  # traced anew
        found.append(program(seeds, case.state.actor, starts))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(found[0]))
    for each in found[1:]:
        close(found[0], each, 1e-5)


def test_unrolling_the_recurrence_changes_no_value(case: Case) -> None:
    unrolled = case.agent.model._replace(unroll=3)  # does not divide T
    arguments = (case.state.world_model, case.embed, case.action, case.noise)
    seen = jax.jit(partial(world_model.observe, unrolled))(*arguments)
    close(seen.post, case.observe(case.embed, case.action, case.noise).post)
