"""A whole run whose source reads states and whose target sees: trained, resumed, played."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import tiny

from coworld_jax.data import save_episode
from coworld_jax.envs import EnvironmentPool, RandomPolicy, episode_seed
from coworld_jax.records.files import read_tasks
from coworld_jax.records.metrics import read_metrics
from coworld_jax.training.events import learn, play_randomly
from coworld_jax.training.loop import train
from coworld_jax.training.plan import Learn, RandomPlay, agenda
from coworld_jax.training.run import open_run
from coworld_jax.workdir import load_policy, restore_run
from experiments.collecting.played import trained_policy


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Every phase once, with all couplings, on short really rendered episodes."""
    directory = tmp_path_factory.mktemp("data")
    with EnvironmentPool("dmc/walker_downhill", profile="fast", episode_steps=10) as pool:
        seeds = [episode_seed(0, "test", index) for index in range(2)]
        for index, episode in enumerate(pool.map(seeds, RandomPolicy(6))):
            save_episode(directory, episode, name=f"{index:06d}")
    config = replace(
        tiny.CONFIG, data=str(directory), run=replace(tiny.CONFIG.run, chunk=50, devices=1)
    )
    return tiny.with_settings(
        config, source_observation="state", schedule={"pretrain_updates": 2, "rounds": 1}
    )


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    """Stopped in the middle, then resumed: its workdir and summary."""
    workdir = tmp_path_factory.mktemp("run") / "x"
    asked = []

    def later(returns):
        asked.append(dict(returns))
        return len(asked) > 3  # after measuring, pretraining and warm-up

    assert train(config, workdir, later) is None
    summary = train(config, workdir)
    assert summary is not None
    return workdir, summary


@pytest.mark.slow
def test_every_phase_runs_and_the_run_resumes(finished):
    workdir, summary = finished
    assert summary["updates"] == 50 + 8
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


def states_of(folder, names):
    """The states of episodes, row after row, ``[rows, N]``."""
    return np.concatenate([np.load(folder / name)["state"] for name in names])


def assert_measured(found, states):
    """A scaling is that of the states, as far as the batches that measured it are all of them."""
    scatter = states.std(axis=0) + 0.01
    # 50 batches of 2 chunks of 4 rows, drawn from two episodes of 11 rows each.
    assert np.all(np.abs(found["mean"] - states.mean(axis=0)) < 0.3 * scatter)
    np.testing.assert_allclose(found["std"], np.maximum(states.std(axis=0), 0.01), rtol=0.3)


@pytest.mark.slow
def test_the_scaling_is_that_of_the_random_episodes(finished, config):
    workdir, _ = finished
    run = restore_run(workdir)
    files = [entry["file"] for entry in run.host["replays"]["source"]["replay"]]
    random = files[: config.settings.schedule.prefill_episodes]
    found = run.state.sources[0].world_model["scaling"]
    assert_measured(found, states_of(workdir / "replay" / "source", random))
    assert np.any(np.asarray(found["std"]) > 1.0)  # velocities
    target = run.state.target.world_model
    assert "scaling" not in target and "bridge" not in target


@pytest.mark.slow
def test_each_of_two_sources_is_measured_on_its_own_episodes(config, tmp_path):
    tasks = ("dmc/walker_walk", "dmc/walker_uphill")
    both = tiny.with_settings(
        replace(config, source=tasks), schedule={"warmup_rounds": 0, "rounds": 0}
    )
    with open_run(both, tmp_path / "x") as run:
        run.restore()
        plan = run.method.plan[:4]  # of each source: random play, measure
        for event in agenda(plan, run.rhythm):
            match event:
                case RandomPlay():
                    play_randomly(run, event)
                case Learn():
                    assert "measure" in event.phase.update
                    learn(run, event)
        scalings = [source.world_model["scaling"] for source in run.state.learnt.sources]
        names = [[entry["file"] for entry in collector.record()["replay"]]
                 for collector in run.collectors.values()]  # fmt: skip
    for index, found in enumerate(scalings):
        folder = tmp_path / "x" / "replay" / f"source{index}"
        assert_measured(found, states_of(folder, names[index]))
    assert np.any(scalings[0]["mean"] != scalings[1]["mean"])


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
