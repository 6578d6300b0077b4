"""A source that reads its simulator's state: it learns, its bridge learns, it acts, it resumes."""

from __future__ import annotations

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from coworld_jax import schedule
from coworld_jax.coworld import SOURCE, make_update, run_phase
from coworld_jax.data import Replay, save_episode
from coworld_jax.envs import EnvironmentPool, EnvironmentSpec, RandomPolicy
from coworld_jax.loop import train
from coworld_jax.policy import AgentPolicy
from coworld_jax.workdir import load_policy

TASK, STEPS = "dmc/walker_walk", 40
CONFIG = replace(
    tiny.CONFIG,
    source_observation="state",
    network=replace(tiny.CONFIG.network, depth=2, units=32, deter=16, hidden=16, state_layers=2),
    learning=replace(tiny.CONFIG.learning, model_lr=3e-3),
)


@pytest.fixture(scope="module")
def pool():
    with EnvironmentPool(TASK, profile="fast", episode_steps=STEPS) as opened:
        yield opened


def test_states_and_bridge_are_learnt_from_real_steps(pool, tmp_path):
    """The state's error halves, and the bridge explains a part of the embedding: 0 at the start."""
    spec = pool.spec
    replay = Replay(tmp_path, 3, STEPS + 1, 6, state_size=spec.state_size)
    for seed, episode in enumerate(pool.map(range(3), RandomPolicy(6))):
        replay.append(episode, str(seed))
    np.testing.assert_array_equal(replay.store.state[: STEPS + 1], _state_of(tmp_path / "0.npz"))
    method, state = _make(spec)
    run = functools.partial(
        run_phase, make_update(method, "source", 0, False), updates=200, length=4, batch=8
    )
    _, metrics = jax.jit(run)(state, {SOURCE: replay.store}, {})
    least = spec.state_size * 0.5 * np.log(2 * np.pi)  # of a perfect prediction
    error = np.asarray(metrics["source/model/state"]) - least
    assert error[-30:].mean() < 0.5 * error[:30].mean()
    unexplained = np.asarray(metrics["source/model/bridge_unexplained"])
    assert unexplained[:30].mean() > 0.95 and unexplained[-30:].mean() < 0.9


def _state_of(path):
    with np.load(path) as file:
        return file["state"]


def _make(spec):
    config = replace(CONFIG, learning=replace(CONFIG.learning, batch=8))
    method = tiny.make_coworld(config, spec.action_size, 1, spec.state_size)
    return method, jax.jit(tiny.init_coworld, static_argnums=(0, 1))(method, 1, jax.random.key(0))


def test_its_policy_is_shown_the_state(pool):
    """The same actions as when it is asked by hand with the states that the episode recorded."""
    method, state = _make(pool.spec)
    policy = AgentPolicy(method.source_agent, state.sources[0], action_size=6, explore=True)
    assert policy.reads == "state"
    episode = pool.submit(3, policy).result()
    choose = policy.episode(3)
    for row in range(STEPS):
        action = choose(episode.extras["state"][row])
        np.testing.assert_array_equal(action, episode.action[row + 1])


def test_sources_must_share_a_state():
    config = replace(tiny.CONFIG, source_observation="state")

    def spec(task, size):
        return EnvironmentSpec(task, 3, 1, 5, 64, "fast", {}, size)

    assert schedule.shared_state_size(config, [spec("a", 7), spec("b", 7)]) == 7
    assert schedule.shared_state_size(tiny.CONFIG, [spec("a", 7), spec("b", 8)]) == 0
    with pytest.raises(ValueError, match="'a': 7, 'b': 8.*source_observation=image"):
        schedule.shared_state_size(config, [spec("a", 7), spec("b", 8)])
    with pytest.raises(ValueError, match="'a': 0"):
        schedule.shared_state_size(config, [spec("a", 0)])


@pytest.mark.slow
def test_a_run_with_all_couplings_goes_on_where_it_stopped(pool, tmp_path):
    for seed, episode in enumerate(pool.map(range(2), RandomPolicy(6))):
        save_episode(tmp_path / "data", episode, name=str(seed))
    config = replace(CONFIG, target="dmc/walker_downhill", data=str(tmp_path / "data"))
    whole = train(config, tmp_path / "whole")
    assert train(config, tmp_path / "parts", lambda seen: len(seen[SOURCE]) >= 5) is None
    parts = train(config, tmp_path / "parts")
    assert whole["state_digest"] == parts["state_digest"]
    assert (tmp_path / "whole/pictures/source_open_loop.png").stat().st_size > 10_000
    choose = load_policy(tmp_path / "whole", domain="source").episode(seed=0)
    assert choose(np.zeros(24, np.float32)).shape == (6,)
    assert jnp.isfinite(choose(np.full(24, 50.0, np.float32))).all()
