"""CoWorld's updates: who learns, which couplings act, how a source is chosen.

What every method's updates have in common is in test_contract.py. Their scan is in
test_coworld_scan.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from loops import loops_over_time, products_of_steps, transposes_of_steps

from coworld_jax.agents.dreamer import world_model
from coworld_jax.agents.dreamer.agent import make_agent
from coworld_jax.method import SOURCE, TARGET, Domain
from coworld_jax.methods.coworld import couplings, make_coworld
from coworld_jax.methods.coworld.couplings import source_reward_weight
from coworld_jax.methods.coworld.state import CoWorldState
from coworld_jax.networks import recurrence
from coworld_jax.records.leaves import state_digest
from coworld_jax.types import Batch

# Phase to its update, and the size of the state that the source reads (0: images).
KINDS = {
    "pretrain": ("source", 0),
    "co-train source": ("source aligned", 0),
    "warm-up": ("target model", 0),
    "target": ("target", 0),
    "co-train state source": ("source aligned", 5),
}
# `pretrain` is part of `co-train source`; the state source differs only in its inputs.
EACH = tiny.cases(KINDS, quick=("warm-up", "co-train source", "target"))

# No two weights are alike.
WEIGHTED = tiny.with_settings(
    coupling={"alignment_scale": 1.7, "value_constraint_scale": 0.6, "reward_mix": 0.3},
    learning={"reward_scale": 2.0, "kl_scale": 1.3},
)
COUNT = jnp.int32(0)


class Applied(NamedTuple):
    """One kind of update: its compiled program, its input and its output."""

    run: Callable[..., Any]
    state: Any
    before: Any  # the state, copied before the update saw it
    batches: dict[str, Batch]
    after: Any
    metrics: dict[str, jax.Array]


@functools.cache
def applied(name: str) -> Applied:
    update, state_size = KINDS[name]
    batches = {SOURCE: tiny.batch(1, state_size), TARGET: tiny.batch(2)}
    method, state = tiny.make(WEIGHTED, state_size=state_size)
    given = (state, batches, jax.random.key(3), COUNT)
    run = jax.jit(method.updates[update]).lower(*given).compile()
    before = tiny.copied(state)
    after, metrics = run(*given)
    return Applied(run, state, before, batches, after, metrics)


@pytest.mark.parametrize("name", EACH)
def test_update_changes_one_domain_only(name):
    _, _, before, _, after, metrics = applied(name)
    learner, other = ("sources", "target") if "source" in KINDS[name][0] else ("target", "sources")
    assert state_digest(getattr(after, other)) == state_digest(getattr(before, other))
    assert state_digest(getattr(after, learner)) != state_digest(getattr(before, learner))
    assert all(
        metric.startswith("source/" if learner == "sources" else "target/") for metric in metrics
    )


@pytest.mark.parametrize("name", EACH)
def test_an_update_takes_the_fewest_steps_one_after_another(name):
    """One loop over the chunk and one over the imagined rollout, forwards and backwards.

    A GPU is bound by the number of these steps. In particular coupling B filters both batches in
    one loop, and no loop is made of what could be computed for all steps at once.
    """
    loops = {("observe", tiny.TIME): 2}
    if name != "warm-up":
        loops["imagine", tiny.LEARNING.horizon - 1] = 2
    assert loops_over_time(applied(name).run.as_text()) == loops


@pytest.mark.parametrize("deferred", [True, False])
@pytest.mark.parametrize("name", KINDS)
def test_a_step_computes_nothing_that_could_be_computed_for_all_steps_at_once(
    name, deferred, monkeypatch
):
    """Embeddings, priors, transposed kernels and, if deferred, gradients of weights."""
    form = recurrence.PLAIN._replace(most_rows_deferred=64 if deferred else 0)
    monkeypatch.setattr(recurrence, "form", lambda: form)
    update, state_size = KINDS[name]
    batches = {SOURCE: tiny.batch(1, state_size), TARGET: tiny.batch(2)}
    method, state = tiny.make(WEIGHTED, state_size=state_size)
    traced = jax.make_jaxpr(method.updates[update])(state, batches, jax.random.key(3), COUNT)
    # The filter: input, gates and two layers of the posterior; backwards the gradients of their
    # inputs and, if not deferred, of their weights.
    wanted = [4, 4 if deferred else 8]
    if name != "warm-up":
        # The rollout: input, gates, two layers of the prior and of the actor; backwards the inputs'
        # gradients of the former and, if not deferred, three of the actor, whose input is data.
        wanted += [4 + 2, 4 if deferred else 4 + 3]
    assert sorted(products_of_steps(traced.jaxpr)) == sorted(wanted)
    assert not any(transposes_of_steps(traced.jaxpr))


def test_warm_up_leaves_behaviour_alone():
    _, _, before, _, after, _ = applied("warm-up")
    for part in ("actor", "critic", "slow_critic", "actor_opt", "critic_opt", "behavior_updates"):
        assert state_digest(getattr(after.target, part)) == state_digest(
            getattr(before.target, part)
        )
    assert state_digest(after.target.world_model) != state_digest(before.target.world_model)


@pytest.mark.parametrize("name", EACH)
def test_only_coupling_b_counts_aligned_updates(name):
    assert int(applied(name).after.sources[0].aligned_updates) == int("co-train" in name)


# Which of the couplings' metrics each kind of update has.
ALIGNMENT, CONSTRAINT = "target/model/alignment", "target/critic/constraint"
WEIGHT = "source/model/source_reward_weight"
STATE = {"source/model/state", "source/model/bridge", "source/model/bridge_explained"}
LOGGED = {
    "pretrain": set(),
    "co-train source": {WEIGHT},
    "warm-up": {ALIGNMENT},
    "target": {ALIGNMENT, CONSTRAINT},
    "co-train state source": {WEIGHT, *STATE},
}


@pytest.mark.parametrize("name", EACH)
def test_couplings_leave_their_metrics(name):
    found = set(applied(name).metrics)
    assert found & {ALIGNMENT, CONSTRAINT, WEIGHT, *STATE} == LOGGED[name]
    # A single source is no choice.
    assert not any("chosen" in metric or "distance" in metric for metric in found)


@pytest.mark.parametrize("name", EACH)
def test_losses_are_weighed_as_configured(name):
    metrics = {key.partition("/")[2]: float(value) for key, value in applied(name).metrics.items()}
    weights = {
        "image": 1.0, "state": 1.0, "reward": 2.0, "kl": 1.3, "alignment": 1.7, "bridge": 1.0
    }  # fmt: skip
    terms = {key: metrics[f"model/{key}"] for key in weights if f"model/{key}" in metrics}
    total = sum(weights[key] * value for key, value in terms.items())
    assert metrics["model/loss"] == pytest.approx(total, rel=1e-5)
    if "critic/constraint" in metrics:
        total = metrics["critic/regression"] + 0.6 * metrics["critic/constraint"]
        assert metrics["critic/loss"] == pytest.approx(total, rel=1e-5)


def test_coupling_b_mixes_rewards_as_configured(monkeypatch):
    method, state = tiny.make(WEIGHTED)
    mixes, loss = [], couplings.losses.reward_alignment_loss

    def spy(*args, reward_mix, **others):
        mixes.append(reward_mix)
        return loss(*args, reward_mix=reward_mix, **others)

    monkeypatch.setattr(couplings.losses, "reward_alignment_loss", spy)
    batches = {SOURCE: tiny.batch(1), TARGET: tiny.batch(2)}
    jax.eval_shape(method.updates["source aligned"], state, batches, jax.random.key(0), COUNT)
    assert set(mixes) == {0.3}


def spied(monkeypatch, sizes):
    """A method whose agents do not learn; what its two agents' updates are called with."""
    seen = []

    def of_model(agent, state, batch, key, extra, axis_name=None):
        seen.append(("model", agent.action_size, state, batch))
        counted = replace(state, behavior_updates=state.behavior_updates + 1)
        image = world_model.normalise_image(batch.image)
        embed = world_model.encode(agent.model, state.world_model, image)
        noise = world_model.latent_noise(agent.model, key, *batch.reward.shape, axis_name)
        observed = world_model.observe(agent.model, state.world_model, embed, batch.action, noise)
        logged = extra.terms(
            state.world_model,
            observed,
            world_model.predict(agent.model, state.world_model, observed),
            [observed] * len(extra.beside),
        ).logged
        return counted, observed, {f"model/{name}": jnp.mean(x) for name, x in logged.items()}

    def of_behavior(agent, state, post, discount, key, extra, axis_name=None):
        seen.append(("behavior", agent.action_size, state, extra))
        return state, {}

    monkeypatch.setattr(couplings, "update_world_model", of_model)
    monkeypatch.setattr(couplings, "update_behavior", of_behavior)
    method = make_coworld(
        tiny.SETTINGS, {name: Domain(size, 0, 10) for name, size in sizes.items()}
    )
    return method, jax.jit(method.init)(jax.random.key(7)), seen


def test_a_phase_reads_and_writes_the_source_that_it_is_of(monkeypatch):
    """With what the agents' updates do left out: which of two sources learns, and from what."""
    sizes = {"source0": 1, "source1": 2, TARGET: 3}
    method, state, seen = spied(monkeypatch, sizes)
    batches = {"source0": tiny.batch(0), "source1": tiny.batch(1), TARGET: tiny.batch(2)}
    for index, name in enumerate(("source0", "source1")):

        @jax.jit
        def counts(name=name, index=index):
            after, _ = method.updates[name](state, batches, jax.random.key(0), COUNT)
            assert after.target is state.target
            assert after.sources[1 - index] is state.sources[1 - index]
            return [source.behavior_updates for source in after.sources]

        seen.clear()
        assert [int(count) for count in counts()] == [int(i == index) for i in range(2)]
        # Each agent acts in imagination with the coordinates of its own simulator.
        assert [call[:2] for call in seen] == [("model", index + 1), ("behavior", index + 1)]
        assert seen[0][2] is state.sources[index] and seen[0][3] is batches[name]


def test_the_target_follows_the_nearest_source_alone(monkeypatch):
    sizes = {"source0": 1, "source1": 2, TARGET: 3}
    method, state, seen = spied(monkeypatch, sizes)
    twin = replace(state.sources[1], world_model=state.target.world_model)
    state = replace(state, sources=(state.sources[0], twin))
    batches = {TARGET: tiny.batch(2)}
    after, metrics = method.updates["target"](state, batches, jax.random.key(0), COUNT)
    assert after.sources is state.sources and int(after.target.behavior_updates) == 1
    assert [call[:2] for call in seen] == [("model", 3), ("behavior", 3)]
    assert float(metrics["target/model/distance_source1"]) == pytest.approx(0.0, abs=1e-6)
    assert float(metrics["target/model/distance_source0"]) > 1e-3
    # A twin of the target's encoder has its entropy as well.
    entropy = [float(metrics[f"target/model/entropy_{n}"]) for n in ("source0", "source1", TARGET)]
    assert entropy[1] == pytest.approx(entropy[2], rel=1e-5) and entropy[0] != entropy[2]
    chosen = {name: float(value) for name, value in metrics.items() if "chosen" in name}
    assert chosen == {"target/chosen/source0": 0.0, "target/chosen/source1": 1.0}
    # Coupling C compares with the critic of the chosen source.
    imagined = couplings.Imagined(
        feat=jnp.ones((2, 5, 11)), lambda_return=jnp.zeros((2, 5)), weight=jnp.ones((2, 5))
    )
    value = seen[1][3].critic_terms({}, imagined, jnp.zeros((2, 5))).logged["source_value"]
    critic = make_agent(tiny.NETWORK, tiny.LEARNING, tiny.ACTION).critic
    values = [critic.apply(source.critic, imagined.feat) for source in state.sources]
    np.testing.assert_allclose(value, values[1], rtol=1e-6)
    assert np.any(values[0] != values[1])


def test_each_source_encoder_runs_once_in_an_update_of_the_target(monkeypatch):
    method, state = tiny.make(sources=3)
    runs, encode = [], world_model.encode_image

    def spy(*args):
        runs.append(1)
        return encode(*args)

    monkeypatch.setattr(world_model, "encode_image", spy)
    batches = {TARGET: tiny.batch(2)}
    jax.eval_shape(method.updates["target"], state, batches, jax.random.key(0), COUNT)
    assert len(runs) == 3


def test_switches_take_the_couplings_away():
    off = {"state_alignment": False, "value_constraint": False}
    method, state = tiny.make(tiny.with_settings(coupling=off))
    batches = {TARGET: tiny.batch(2)}
    _, metrics = jax.eval_shape(
        method.updates["target"], state, batches, jax.random.key(0), COUNT
    )  # fmt: skip
    assert "target/critic/constraint" not in metrics
    # Measured all the same.
    assert {"target/model/alignment", "target/critic/above_source"} <= set(metrics)


def test_coupling_a_is_measured_without_it_and_is_no_term_of_the_loss(monkeypatch):
    extras = []

    def of_model(agent, state, batch, key, extra, axis_name=None):
        extras.append(extra)
        return state, None, {}

    monkeypatch.setattr(couplings, "update_world_model", of_model)
    seen = couplings.Observation(*[None] * len(couplings.Observation._fields))
    batch = tiny.batch(2)._replace(embed=jnp.log(jnp.array([0.5, 0.5])).reshape(1, 1, 1, 2))
    seen = seen._replace(embed=jnp.log(jnp.array([0.25, 0.75])).reshape(1, 1, 2))
    for aligned in (True, False):
        settings = tiny.with_settings(coupling={"state_alignment": aligned}).settings
        method = make_coworld(settings, {name: Domain(3, 0, 10) for name in (SOURCE, TARGET)})
        state = CoWorldState(None, ())
        method.updates["target model"](state, {TARGET: batch}, jax.random.key(0), COUNT)
        found = extras[-1].terms({}, seen)
        # Σ q log (q / p), q the source's: 0.5 log 2 + 0.5 log (2 / 3) = 0.143841.
        measured = (found.added if aligned else found.logged)["alignment"]
        np.testing.assert_allclose(measured, [[0.143841]], rtol=1e-5)
        assert ("alignment" in found.added) == ("alignment" in extras[-1].weights) == aligned


def test_first_update_copies_the_critic_and_later_ones_wait():
    run, _, before, batches, after, _ = applied("target")
    # The copy is made before update 0, so it equals the critic as it was then.
    assert state_digest(after.target.slow_critic) == state_digest(before.target.critic)
    second, _ = run(after, batches, jax.random.key(1), COUNT)
    third, _ = run(second, batches, jax.random.key(2), COUNT)
    assert state_digest(third.target.slow_critic) == state_digest(before.target.critic)
    assert int(third.target.behavior_updates) == 3


def test_eta_goes_from_one_to_a_tenth():
    coupling = tiny.SETTINGS.coupling
    etas = [float(source_reward_weight(coupling, jnp.int32(i), 4)) for i in range(6)]
    # 1 - 0.9 * i / 4, then constant.
    np.testing.assert_allclose(etas, [1.0, 0.775, 0.55, 0.325, 0.1, 0.1], rtol=1e-6)
    constant = replace(coupling, source_reward_weight_start=0.975, source_reward_weight_end=0.975)
    assert float(source_reward_weight(constant, jnp.int32(3), 4)) == pytest.approx(0.975)


BY_PHASE = tiny.with_settings(coupling={"selection": "phase"})


def test_nearest_source_is_the_one_with_the_targets_encoder():
    method, state = tiny.make(BY_PHASE, sources=3)
    twin = replace(state.sources[1], world_model=state.target.world_model)
    state = replace(state, sources=(state.sources[0], twin, state.sources[2]))
    select = jax.jit(method.updates["select"])
    after, metrics = select(state, {TARGET: tiny.batch(2)}, jax.random.key(0), COUNT)
    assert int(jnp.argmin(after.distances)) == 1
    assert float(after.distances[1]) == pytest.approx(0.0, abs=1e-6)
    assert min(float(after.distances[0]), float(after.distances[2])) > 1e-3
    logged = [float(metrics[f"target/model/distance_source{index}"]) for index in range(3)]
    np.testing.assert_allclose(after.distances, logged, rtol=1e-6)
    # A mean over the batches of this phase; what an earlier phase found is forgotten.
    stale = replace(after, distances=jnp.full(3, 1e6))
    fresh, _ = select(stale, {TARGET: tiny.batch(2)}, jax.random.key(0), COUNT)
    np.testing.assert_array_equal(fresh.distances, after.distances)
    other, _ = select(after, {TARGET: tiny.batch(3)}, jax.random.key(0), COUNT)
    both, _ = select(after, {TARGET: tiny.batch(3)}, jax.random.key(0), jnp.int32(1))
    np.testing.assert_allclose(
        both.distances, (after.distances + other.distances) / 2.0, rtol=1e-5, atol=1e-6
    )
    assert state_digest(replace(both, distances=None)) == state_digest(
        replace(state, distances=None)
    )


@pytest.mark.slow
def test_a_source_chosen_for_a_phase_couples_whatever_the_batch_says():
    method, state = tiny.make(BY_PHASE, sources=2)
    batches = {TARGET: tiny.batch(2)}
    run = jax.jit(method.updates["target"])
    states = [replace(state, distances=jnp.asarray(far)) for far in ([0.0, 1.0], [1.0, 0.0])]
    metrics = [run(state, batches, jax.random.key(0), COUNT)[1] for state in states]
    measured = jax.jit(method.updates["select"])(state, batches, jax.random.key(0), COUNT)[1]
    for index, found in enumerate(metrics):
        assert float(found[f"target/chosen/source{index}"]) == 1.0
        # Only the chosen source is looked at; the distances were measured before.
        assert not any("distance" in name for name in found)
        distance = measured[f"target/model/distance_source{index}"]
        np.testing.assert_allclose(found["target/model/alignment"], distance, rtol=1e-5)
    one, other = (float(found["target/model/alignment"]) for found in metrics)
    assert one != other


@pytest.mark.slow
def test_the_nearest_of_sources_that_read_states_has_the_nearest_bridge():
    method, state = tiny.make(BY_PHASE, sources=2, state_size=5)
    twin = state.sources[1].world_model | {"bridge": state.target.world_model["encoder"]}
    state = replace(state, sources=(state.sources[0], replace(state.sources[1], world_model=twin)))
    after, _ = method.updates["select"](
        state, {TARGET: tiny.batch(2)}, jax.random.key(0), COUNT
    )  # fmt: skip
    assert float(after.distances[1]) == pytest.approx(0.0, abs=1e-6)
    assert float(after.distances[0]) > 1e-3


def test_the_source_sees_its_own_replay_and_the_targets_data():
    """Swapping the two batches of an aligned update changes the result: each has its role."""
    run, state, _, batches, after, _ = applied("co-train source")
    swapped = {SOURCE: batches[TARGET], TARGET: batches[SOURCE]}
    other, _ = run(state, swapped, jax.random.key(3), COUNT)
    assert state_digest(other.sources) != state_digest(after.sources)
