"""CoWorld by programs of its own: offline data, a source that reads states, padded actions."""

from __future__ import annotations

from dataclasses import replace

import jax
import numpy as np
import pytest
import tiny

from coworld_jax.config import Config
from coworld_jax.envs import EnvironmentPool, RandomPolicy
from coworld_jax.training.loop import train
from coworld_jax.workdir import restore_run
from experiments.collecting.played import collect

TARGET = "planar/reach_desk"  # with four actions, where the source has three


def config(program: str, data: str) -> Config:
    # Without the clamp of the KL, below which Adam would make steps of the rounding of zero.
    base = tiny.with_settings(
        source_observation="state",
        learning={"free_nats": 0.0},
        schedule={"rounds": 1},
    )
    return replace(
        base,
        source=("planar/reach",),
        target=TARGET,
        data=data,
        run=replace(base.run, devices=1, program=program, checkpoint_every=100),
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("coworld") / "data"
    with EnvironmentPool(TARGET, episode_steps=10) as pool:
        policy = RandomPolicy(pool.spec.action_size)
        collect(directory, pool, policy, played_by="random", episodes=3, seed=0, command="")
    return str(directory)


@pytest.mark.slow
def test_programs_learn_what_the_host_does_and_go_on_exactly(data, tmp_path):
    host = train(config("host", data), tmp_path / "host")
    whole = train(config("device", data), tmp_path / "whole")
    assert (whole["updates"], whole["env_steps"]) == (host["updates"], host["env_steps"])
    got, want = (jax.tree.leaves(restore_run(tmp_path / name).state) for name in ("whole", "host"))
    for ours, hosts in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, hosts, rtol=1e-3, atol=1e-4)
    scores = [run["evaluations"]["target"]["return_mean"] for run in (whole, host)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-3)

    half = config("device", data)
    assert train(replace(half, run=replace(half.run, last_phase="warm-up")), tmp_path / "resumed")
    resumed = train(config("device", data), tmp_path / "resumed")
    assert resumed["state_digest"] == whole["state_digest"]
