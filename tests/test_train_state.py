"""A whole run whose source reads states and whose target sees: trained, resumed, played."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from coworld_jax.data import save_episode
from coworld_jax.envs import EnvironmentPool, RandomPolicy, episode_seed
from coworld_jax.loop import _Run, train
from coworld_jax.records.metrics import read_metrics
from coworld_jax.scaling import measure_scaling
from coworld_jax.workdir import load_policy, read_tasks, restore_run
from experiments.collecting.played import trained_policy


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Every phase once, with all couplings, on short really rendered episodes."""
    directory = tmp_path_factory.mktemp("data")
    with EnvironmentPool("dmc/walker_downhill", profile="fast", episode_steps=10) as pool:
        seeds = [episode_seed(0, "test", index) for index in range(2)]
        for index, episode in enumerate(pool.map(seeds, RandomPolicy(6))):
            save_episode(directory, episode, name=f"{index:06d}")
    schedule = replace(tiny.CONFIG.schedule, pretrain_updates=2, rounds=1)
    return replace(tiny.CONFIG, source_observation="state", data=str(directory), schedule=schedule)


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """Stopped in the middle, then resumed: its workdir and summary."""
    workdir = tmp_path_factory.mktemp("run") / "x"
    asked = []

    def later(returns):
        asked.append(dict(returns))
        return len(asked) > 2  # after pretraining and warm-up

    assert train(config, workdir, later) is None
    summary = train(config, workdir)
    assert summary is not None
    return workdir, summary


@pytest.mark.slow
def test_every_phase_runs_and_the_run_resumes(finished):
    workdir, summary = finished
    assert summary["updates"] == 8
    means = {}
    for record in read_metrics(workdir / "metrics.jsonl"):
        means |= record
    assert {
        "source/model/state", "source/model/bridge", "source/model/source_reward_weight",
        "target/model/image", "target/model/alignment", "target/critic/constraint",
    } <= means.keys()  # fmt: skip
    assert "source/model/image" not in means and "target/model/bridge" not in means
    for domain, names in (
        ("source", ("rollout.gif", "open_loop.png", "value_bias.png")),
        ("target", ("rollout.gif", "open_loop.gif", "open_loop.png", "value_bias.png")),
    ):
        assert np.isfinite(summary["evaluations"][domain]["value_bias"])
        assert all((workdir / "pictures" / f"{domain}_{name}").exists() for name in names)
    assert not (workdir / "pictures" / "source_open_loop.gif").exists()
    assert json.loads((workdir / "config.json").read_text())["source_observation"] == "state"
    assert {name: spec.state_size for name, spec in read_tasks(workdir).items()} == {
        "source": 24, "target": 24
    }  # fmt: skip


@pytest.mark.slow
def test_the_scaling_is_that_of_the_random_episodes(finished, config):
    workdir, _ = finished
    *_, state, host = restore_run(workdir)
    files = [entry["file"] for entry in host["sources"][0]["replay"]]
    random = files[: config.schedule.prefill_episodes]
    states = [np.load(workdir / "replay" / "source" / file)["state"] for file in random]
    found = state.sources[0].world_model["scaling"]
    np.testing.assert_allclose(found["mean"], np.concatenate(states).mean(axis=0), atol=1e-5)
    assert np.any(np.asarray(found["std"]) > 1.0)  # velocities
    assert "scaling" not in state.target.world_model and "bridge" not in state.target.world_model


def test_each_of_two_sources_is_measured_on_its_own_episodes(config, tmp_path):
    tasks = ("dmc/walker_walk", "dmc/walker_uphill")
    both = replace(
        config, source=tasks, schedule=replace(config.schedule, warmup_rounds=0, rounds=0)
    )
    with ExitStack() as resources:
        run = _Run(both, tmp_path / "x", resources)
        run.resume()
        for phase in run.phases[:2]:
            run._prefill(phase)
        for source, collector in zip(run.state.sources, run.collectors, strict=True):
            wanted = measure_scaling(jnp.asarray(collector.replay.states()))
            for name, value in source.world_model["scaling"].items():
                np.testing.assert_allclose(value, wanted[name], rtol=1e-6)
    first, second = (source.world_model["scaling"]["mean"] for source in run.state.sources)
    assert np.any(first != second)


@pytest.mark.slow
def test_a_loaded_policy_of_the_source_acts_on_a_state(finished):
    workdir, _ = finished
    act = load_policy(workdir, domain="source").episode(seed=1)
    state = np.random.default_rng(0).normal(size=24).astype(np.float32)
    action = act(state)
    assert action.shape == (6,) and action.dtype == np.float32 and (np.abs(action) < 1).all()
    frame = np.zeros((64, 64, 3), np.uint8)
    assert load_policy(workdir, domain="target").episode(seed=1)(frame).shape == (6,)


@pytest.mark.slow
def test_its_policy_plays_no_environment_with_another_state(finished):
    workdir, _ = finished
    spec = read_tasks(workdir)["source"]
    cheetah = spec._replace(task="dmc/cheetah_run", state_size=17)
    with pytest.raises(
        ValueError, match="reads states of 24 numbers, but dmc/cheetah_run gives 17"
    ):
        trained_policy(workdir, cheetah, domain="source", explore=True)


def test_sources_without_states_are_refused_before_anything_is_written(config, tmp_path):
    blind = replace(config, source=("dmc/walker_walk", "dmc/cheetah_run"))
    with pytest.raises(ValueError, match="states of different sizes"):
        train(blind, tmp_path / "x")
    assert not (tmp_path / "x" / "config.json").exists()


@pytest.mark.slow
def test_a_resumed_run_ends_as_an_uninterrupted_one(finished, config, tmp_path):
    summary = train(config, tmp_path / "x")
    assert summary is not None
    assert summary["state_digest"] == finished[1]["state_digest"]
