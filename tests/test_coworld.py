"""One contract for every update of every phase, and the laws of the scanned phase."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from coworld_jax import coworld, parallel, phases
from coworld_jax import learner as learner_module
from coworld_jax.records.checkpoint import state_digest
from coworld_jax.coworld import (
    SOURCE,
    TARGET,
    nearest_source,
    source_reward_weight,
)
from coworld_jax.learner import Learner
from coworld_jax.phases import make_update, update_keys
from coworld_jax.schedule import Phase
from coworld_jax.stopwatch import Stopwatch
from coworld_jax.store import sample

# Kind of phase, whether it has coupling B, size of the state that the source reads (0: images).
KINDS = {
    "pretrain": ("source", False, 0),
    "co-train source": ("source", True, 0),
    "warm-up": ("world_model", False, 0),
    "target": ("target", False, 0),
    "co-train state source": ("source", True, 5),
}


# No two weights are alike.
WEIGHTED = replace(
    tiny.CONFIG,
    coupling=replace(
        tiny.CONFIG.coupling, alignment_scale=1.7, value_constraint_scale=0.6, reward_mix=0.3
    ),
    learning=replace(tiny.CONFIG.learning, reward_scale=2.0, kl_scale=1.3),
)


def copied(tree):
    return jax.tree.map(lambda leaf: leaf if is_key(leaf) else np.array(leaf), tree)


def is_key(leaf):
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def counted(update):
    """``update`` jitted, and a list that grows whenever it is traced."""
    traces = []

    def run(*args):
        traces.append(1)
        return update(*args)

    return jax.jit(run), traces


@pytest.fixture(scope="module")
def applied():
    """Every kind of update, compiled once: its function, its input and its output."""
    results = {}
    for name, (kind, aligned, state_size) in KINDS.items():
        batches = {SOURCE: tiny.batch(1, state_size), TARGET: tiny.batch(2)}
        method, state = tiny.make(WEIGHTED, state_size=state_size)
        run, traces = counted(make_update(method, kind, 0, aligned))
        before = copied(state)
        after, metrics = run(state, batches, jax.random.key(3))
        results[name] = (run, state, before, batches, after, metrics, traces)
    return results


@pytest.mark.parametrize("name", KINDS)
def test_update_keeps_its_contract(applied, name):
    run, state, before, batches, after, metrics, traces = applied[name]
    # Deterministic, traced once, input untouched.
    again, _ = run(state, batches, jax.random.key(3))
    assert state_digest(again) == state_digest(after)
    assert len(traces) == 1
    assert state_digest(state) == state_digest(before)
    # Another key gives another result.
    other, _ = run(state, batches, jax.random.key(4))
    assert state_digest(other) != state_digest(after)
    # Structure, shapes and dtypes are kept; everything is finite.
    assert jax.tree.structure(after) == jax.tree.structure(state)
    for new, old in zip(jax.tree.leaves(after), jax.tree.leaves(state)):
        assert (new.shape, new.dtype) == (old.shape, old.dtype)
        assert is_key(new) or np.isfinite(new).all()
    assert metrics
    for metric, value in metrics.items():
        assert value.shape == () and np.isfinite(value), metric


@pytest.mark.parametrize("name", KINDS)
def test_update_changes_one_domain_only(applied, name):
    _, _, before, _, after, metrics, _ = applied[name]
    learner, other = ("sources", "target") if KINDS[name][0] == "source" else ("target", "sources")
    assert state_digest(getattr(after, other)) == state_digest(getattr(before, other))
    assert state_digest(getattr(after, learner)) != state_digest(getattr(before, learner))
    assert all(
        metric.startswith("source/" if learner == "sources" else "target/") for metric in metrics
    )
    assert int(after.updates) == int(before.updates)  # run_phase counts


def test_warm_up_leaves_behaviour_alone(applied):
    _, _, before, _, after, _, _ = applied["warm-up"]
    for part in ("actor", "critic", "slow_critic", "actor_opt", "critic_opt", "behavior_updates"):
        assert state_digest(getattr(after.target, part)) == state_digest(
            getattr(before.target, part)
        )
    assert state_digest(after.target.world_model) != state_digest(before.target.world_model)


def test_only_coupling_b_counts_aligned_updates(applied):
    counts = {name: int(result[4].sources[0].aligned_updates) for name, result in applied.items()}
    assert counts == {name: int("co-train" in name) for name in KINDS}


def test_couplings_leave_their_metrics(applied):
    metrics = {name: set(result[5]) for name, result in applied.items()}
    assert "target/model/alignment" in metrics["warm-up"]
    assert {"target/model/alignment", "target/critic/constraint"} <= metrics["target"]
    assert "source/model/source_reward_weight" in metrics["co-train source"]
    assert "source/model/source_reward_weight" not in metrics["pretrain"]
    assert {
        "source/model/state", "source/model/bridge", "source/model/bridge_explained"
    } <= metrics["co-train state source"]  # fmt: skip
    assert not {"source/model/state", "source/model/bridge"} & metrics["co-train source"]


@pytest.mark.parametrize("name", KINDS)
def test_losses_are_weighed_as_configured(applied, name):
    metrics = {key.partition("/")[2]: float(value) for key, value in applied[name][5].items()}
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
    mixes, loss = [], coworld.losses.reward_alignment_loss

    def spy(*args, reward_mix, **others):
        mixes.append(reward_mix)
        return loss(*args, reward_mix=reward_mix, **others)

    monkeypatch.setattr(coworld.losses, "reward_alignment_loss", spy)
    batches = {SOURCE: tiny.batch(1), TARGET: tiny.batch(2)}
    jax.eval_shape(make_update(method, "source", 0, True), state, batches, jax.random.key(0))
    assert set(mixes) == {0.3}


def test_a_phase_reads_and_writes_the_source_that_it_is_of(monkeypatch):
    """With what the updates do left out: which of two sources learns, which the target follows."""
    method, state = tiny.make(sources=2)
    seen = []

    def learnt(method, learner, *others, **flags):
        seen.append((method.source.action_size, method.target.action_size, learner, *others))
        return replace(learner, behavior_updates=learner.behavior_updates + 1), {}

    monkeypatch.setattr(phases, "source_update", learnt)
    monkeypatch.setattr(phases, "target_update", learnt)
    distances = jnp.asarray([2.0, 1.0])
    monkeypatch.setattr(phases, "nearest_source", lambda *args: (state.sources[1], distances))
    batches = {SOURCE: tiny.batch(1), TARGET: tiny.batch(2)}
    after, _ = make_update(method, "source", 1, False, 2)(state, batches, jax.random.key(0))
    assert after.sources[0] is state.sources[0] and after.target is state.target
    assert int(after.sources[1].behavior_updates) == 1
    assert seen[0][:2] == (2, 3) and seen[0][2] is state.sources[1] and seen[0][4] is None
    after, _ = make_update(method, "target", 0, False, 1)(state, batches, jax.random.key(0))
    assert after.sources == state.sources and int(after.target.behavior_updates) == 1
    assert seen[1][:2] == (3, 1) and seen[1][3] is state.sources[1]


def test_a_learner_gives_each_phase_the_actions_of_its_domain(monkeypatch):
    method, state = tiny.make(sources=2)
    sizes = {"source0": 1, "source1": 2, "target": 3}
    learner = Learner(method, tiny.CONFIG, sizes, None, None, Stopwatch(), print)
    asked = []

    def spy(*args):
        asked.append(args[1:])
        raise KeyboardInterrupt

    monkeypatch.setattr(learner_module, "make_update", spy)
    for kind, source in (("source", 0), ("source", 1), ("world_model", 0), ("target", 0)):
        phase = Phase("x", kind, source, 1, 0, False)
        with pytest.raises(KeyboardInterrupt):
            learner._compile(phase, 1, state, {}, {})
    assert asked == [
        ("source", 0, False, 1), ("source", 1, False, 2),
        ("world_model", 0, False, 3), ("target", 0, False, 3),
    ]  # fmt: skip


def test_switches_take_the_couplings_away():
    coupling = replace(tiny.CONFIG.coupling, state_alignment=False, value_constraint=False)
    method, state = tiny.make(replace(tiny.CONFIG, coupling=coupling))
    update = make_update(method, "target", 0, False)
    _, metrics = jax.eval_shape(update, state, {TARGET: tiny.batch(2)}, jax.random.key(0))
    assert "target/model/alignment" not in metrics
    assert "target/critic/constraint" not in metrics
    assert "target/critic/above_source" in metrics  # measured all the same


def test_first_update_copies_the_critic_and_later_ones_wait(applied):
    run, _, before, batches, after, _, _ = applied["target"]
    # The copy is made before update 0, so it equals the critic as it was then.
    assert state_digest(after.target.slow_critic) == state_digest(before.target.critic)
    third, _ = run(run(after, batches, jax.random.key(1))[0], batches, jax.random.key(2))
    assert state_digest(third.target.slow_critic) == state_digest(before.target.critic)
    assert int(third.target.behavior_updates) == 3


def test_eta_goes_from_one_to_a_tenth():
    coupling = tiny.CONFIG.coupling
    etas = [float(source_reward_weight(coupling, jnp.int32(i), 4)) for i in range(6)]
    # 1 - 0.9 * i / 4, then constant.
    np.testing.assert_allclose(etas, [1.0, 0.775, 0.55, 0.325, 0.1, 0.1], rtol=1e-6)
    constant = replace(coupling, source_reward_weight_start=0.975, source_reward_weight_end=0.975)
    assert float(source_reward_weight(constant, jnp.int32(3), 4)) == pytest.approx(0.975)


def test_nearest_source_is_the_one_with_the_targets_encoder():
    method, state = tiny.make(sources=3)
    twin = state.sources[1].replace(world_model=state.target.world_model)
    sources = (state.sources[0], twin, state.sources[2])
    chosen, distances = nearest_source(method, state.target, sources, tiny.batch(2))
    assert int(jnp.argmin(distances)) == 1
    assert float(distances[1]) == pytest.approx(0.0, abs=1e-6)
    assert state_digest(chosen) == state_digest(twin)
    assert float(distances[0]) > 1e-3


@pytest.mark.slow
def test_the_nearest_of_sources_that_read_states_has_the_nearest_bridge():
    method, state = tiny.make(sources=2, state_size=5)
    twin = state.sources[1].world_model | {"bridge": state.target.world_model["encoder"]}
    sources = (state.sources[0], state.sources[1].replace(world_model=twin))
    _, distances = nearest_source(method, state.target, sources, tiny.batch(2))
    assert float(distances[1]) == pytest.approx(0.0, abs=1e-6) and float(distances[0]) > 1e-3


@pytest.fixture(scope="module")
def phase():
    """Three updates of the target phase in one scan: its result and how it was made."""
    method, state = tiny.make()
    update = make_update(method, "target", 0, False)
    run = parallel.compile_phase(update, updates=3, length=tiny.TIME, batch=tiny.BATCH, mesh=None)
    return update, run(state, {TARGET: tiny.store(2)}, {})


def test_a_scanned_phase_equals_a_python_loop(phase):
    update, (wanted, metrics) = phase
    _, state = tiny.make()
    step = jax.jit(update)
    for i in range(3):
        keys, key_update = update_keys(state.key, jnp.int32(i))
        chunks = sample(tiny.store(2), keys[TARGET], tiny.TIME, tiny.BATCH)
        state, single = step(state, {TARGET: chunks}, key_update)
        for name, value in single.items():
            np.testing.assert_allclose(metrics[name][i], value, rtol=1e-4, atol=1e-5, err_msg=name)
    for got, want in zip(jax.tree.leaves(state.target), jax.tree.leaves(wanted.target)):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    assert int(wanted.updates) == 3


def test_chunks_of_one_equal_a_chunk_of_three(phase):
    update, (wanted, _) = phase
    _, state = tiny.make()
    run = parallel.compile_phase(update, updates=1, length=tiny.TIME, batch=tiny.BATCH, mesh=None)
    for _ in range(3):
        state, _ = run(state, {TARGET: tiny.store(2)}, {})
    assert int(state.updates) == 3
    for got, want in zip(jax.tree.leaves(state.target), jax.tree.leaves(wanted.target)):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


def test_a_phase_donates_its_state(phase):
    _, state = tiny.make()
    update, _ = phase
    run = parallel.compile_phase(update, updates=3, length=tiny.TIME, batch=tiny.BATCH, mesh=None)
    run(state, {TARGET: tiny.store(2)}, {})
    assert jax.tree.leaves(state.target)[0].is_deleted()


def test_the_source_sees_its_own_replay_and_the_targets_data(applied):
    """Swapping the two batches of an aligned update changes the result: each has its role."""
    run, state, _, batches, after, _, _ = applied["co-train source"]
    swapped = {SOURCE: batches[TARGET], TARGET: batches[SOURCE]}
    other, _ = run(state, swapped, jax.random.key(3))
    assert state_digest(other.sources) != state_digest(after.sources)
