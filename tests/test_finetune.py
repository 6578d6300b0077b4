"""DV2 Finetune and EWC: the Fisher information, the anchor, the moments."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from coworld_jax import fields, losses
from coworld_jax.agents.dreamer.fisher import gradients, squared_gradients
from coworld_jax.method import TARGET
from coworld_jax.methods import METHODS
from coworld_jax.methods.finetune import FinetuneSettings

SETTINGS: FinetuneSettings = tiny.OTHERS["finetune"]


def make(settings=SETTINGS):
    """The method and a fresh state."""
    method = METHODS["finetune"].make(settings, tiny.domains())
    return method, jax.jit(method.init)(jax.random.key(3))


def moved(before, after):
    """The largest change of any leaf."""
    changes = jax.tree.map(lambda a, b: np.max(np.abs(np.asarray(a) - b)), before, after)
    return float(max(jax.tree.leaves(changes)))


def test_the_elastic_penalty_is_that_of_a_loop():
    rng = np.random.default_rng(0)
    shapes = {"kernel": (3, 2), "bias": (4,)}
    params, anchor = ({k: rng.normal(size=s) for k, s in shapes.items()} for _ in range(2))
    fisher = {k: rng.uniform(size=s) for k, s in shapes.items()}
    wanted = 0.0
    for name in shapes:
        for p, a, f in zip(params[name].flat, anchor[name].flat, fisher[name].flat, strict=True):
            wanted += 0.5 * f * (p - a) ** 2
    trees = [jax.tree.map(jnp.float32, tree) for tree in (params, anchor, fisher)]
    np.testing.assert_allclose(losses.elastic_penalty(*trees), wanted, rtol=1e-5)
    grads = jax.grad(losses.elastic_penalty, argnums=(0, 1, 2))(*trees)
    slope = fisher["bias"] * (params["bias"] - anchor["bias"])
    np.testing.assert_allclose(grads[0]["bias"], slope, rtol=1e-5)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(grads[1:]))


@pytest.fixture(scope="module")
def measured():
    """Fisher information of every module on one batch, and the gradients it is made of."""
    _, state = make()
    agent = method_agent()
    batch, key = tiny.batch(0), jax.random.key(5)
    modules = ("world_model", "actor", "critic")
    found = jax.jit(lambda s, b, k: squared_gradients(agent, s, b, k, modules))(
        state.agent, batch, key
    )
    single = jax.jit(lambda s, b, k: gradients(agent, s, b, k, modules))
    each = []
    for index in range(tiny.BATCH):
        sequence = jax.tree.map(lambda leaf, i=index: leaf[:, i : i + 1], batch)
        each.append(single(state.agent, sequence, jax.random.fold_in(key, index)))
    return found, each


def method_agent():
    """The networks of the tiny agent."""
    from coworld_jax.agents.dreamer.agent import make_agent

    return make_agent(SETTINGS.network, SETTINGS.learning, tiny.ACTION)


@pytest.mark.parametrize("module", ["world_model", "actor", "critic"])
def test_fisher_information_is_the_mean_of_squares_of_single_sequences(measured, module):
    found, each = measured
    squares = [jax.tree.map(np.square, grads[module]) for grads in each]
    wanted = jax.tree.map(lambda *leaves: np.mean(leaves, axis=0), *squares)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-9), found[module], wanted
    )
    batch_mean = jax.tree.map(lambda *leaves: np.square(np.mean(leaves, axis=0)), *[
        grads[module] for grads in each
    ])  # fmt: skip
    total = sum(float(np.sum(leaf)) for leaf in jax.tree.leaves(found[module]))
    below = sum(float(np.sum(leaf)) for leaf in jax.tree.leaves(batch_mean))
    assert below < 0.9 * total, "squares of the batch's mean gradient underestimate it"


def test_the_fisher_phase_averages_over_its_batches_and_sets_the_anchor():
    method, state = make()
    update = jax.jit(method.updates["fisher"])
    one, _ = update(state, {"source": tiny.batch(0)}, jax.random.key(0), jnp.int32(0))
    other, _ = update(state, {"source": tiny.batch(1)}, jax.random.key(1), jnp.int32(0))
    both, _ = update(one, {"source": tiny.batch(1)}, jax.random.key(1), jnp.int32(1))
    jax.tree.map(
        lambda a, b, c: np.testing.assert_allclose(c, np.add(a, b) / 2, rtol=1e-3, atol=1e-9),
        one.fisher,
        other.fisher,
        both.fisher,
    )
    assert moved(both.anchor["actor"], state.agent.actor) == 0.0
    assert moved(both.agent.world_model, state.agent.world_model) == 0.0


@pytest.mark.slow
def test_a_strong_penalty_holds_the_named_modules_alone():
    settings = replace(SETTINGS, ewc_scale=1e9, ewc_modules=("critic",))
    method, state = make(settings)
    state = replace(
        state,
        anchor={"critic": jax.tree.map(lambda leaf: leaf + 1.0, state.agent.critic)},
        fisher=jax.tree.map(jnp.ones_like, state.fisher),
    )
    update = jax.jit(method.updates["target"])
    new, metrics = update(state, {TARGET: tiny.batch(0)}, jax.random.key(0), jnp.int32(0))
    kernel = lambda tree: np.asarray(jax.tree.leaves(tree)[-1])  # noqa: E731
    pulled = kernel(new.agent.critic) - kernel(state.agent.critic)
    assert np.all(pulled > 0), "towards the anchor"
    assert "target/critic/ewc" in metrics and "target/model/ewc" not in metrics
    assert moved(new.agent.world_model, state.agent.world_model) > 0


@pytest.mark.slow
def test_moments_are_renewed_or_kept():
    method, state = make()
    trained, _ = jax.jit(method.updates["source"])(
        state, {"source": tiny.batch(0)}, jax.random.key(0), jnp.int32(0)
    )
    renewed, metrics = jax.jit(method.updates["renew"])(
        trained, {}, jax.random.key(0), jnp.int32(0)
    )
    assert metrics == {} and moved(renewed.agent.actor, trained.agent.actor) == 0.0
    assert moved(renewed.agent.world_model_opt, state.agent.world_model_opt) == 0.0
    assert moved(trained.agent.world_model_opt, state.agent.world_model_opt) > 0.0
    kept, _ = make(replace(SETTINGS, moments="kept"))
    assert "renew" in [phase.update for phase in method.plan]
    assert "renew" not in [phase.update for phase in kept.plan]


def test_without_ewc_there_is_no_fisher_phase_and_no_anchor():
    method, state = make(replace(SETTINGS, ewc_scale=0.0))
    assert [phase.update for phase in method.plan] == ["", "source", "renew", "model", "target"]
    assert state.anchor is None and state.fisher is None


def test_an_unknown_module_is_refused():
    with pytest.raises(ValueError, match="ewc_modules is .*decoder.*: name some of world_model"):
        fields.check(replace(SETTINGS, ewc_modules=("decoder",)))


def test_several_sources_are_refused():
    with pytest.raises(ValueError, match="source names 2 tasks, but DV2 Finetune takes one"):
        METHODS["finetune"].make(SETTINGS, tiny.domains(sources=2))
