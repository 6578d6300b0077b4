"""Runs that programs carry out: the host's runs, seed by seed; exact when they go on."""

from __future__ import annotations

import functools
import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny

from coworld_jax import parallel
from coworld_jax.config import Config
from coworld_jax.records.files import read_failures, seed_directories
from coworld_jax.records.metrics import read_metrics
from coworld_jax.training import fleet, runtime, seeds, together
from coworld_jax.training.loop import train
from coworld_jax.training.run import open_ground, open_run
from coworld_jax.workdir import load_policy, restore_run

SEEDS = 3


def config(program: str, **run: object) -> Config:
    """A dreamer that plays ten steps of ``reach`` an episode: a collection every two updates."""
    base = tiny.of_method("dreamer")
    # Without the clamp of the KL, below which Adam would make steps of the rounding of zero.
    learning = replace(base.settings.learning, free_nats=0.0)
    settings = replace(base.settings, updates=8, model_updates=0, learning=learning)
    return replace(
        base,
        settings=settings,
        source=("planar/reach",),
        target="",
        data="",
        schedule=replace(base.schedule, episode_steps=10),
        seed=1,
        run=replace(
            base.run, devices=1, program=program, eval_every=4, eval_episodes=2,
            checkpoint_every=4, chunk=2, **run,
        ),
    )  # fmt: skip


def leaves(workdir):
    return jax.tree.leaves(restore_run(workdir).state)


def lines(workdir):
    """Lines of metrics without times, in the order of their updates."""
    records = read_metrics(workdir / "metrics.jsonl")
    kept = [{k: v for k, v in r.items() if "time" not in k} for r in records]
    return sorted(kept, key=lambda record: (record["updates"], sorted(record)))


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("device") / "host"
    return workdir, train(config("host"), workdir)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("device") / "alone"
    return workdir, train(config("device"), workdir)


def of_many(seeds: int) -> Config:
    """The configuration of seeds 0 to ``seeds - 1``, in one program."""
    return replace(config("device", seeds=seeds), seed=0)


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("device") / "many"
    return workdir, train(of_many(SEEDS), workdir)


@pytest.mark.slow
def test_a_program_learns_what_the_host_does(host, alone):
    workdir, summary = alone
    assert summary["updates"] == 8 and summary["env_steps"] == host[1]["env_steps"]
    for got, want in zip(leaves(workdir), leaves(host[0]), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
    for got, want in zip(lines(workdir), lines(host[0]), strict=True):
        assert got == pytest.approx(want, rel=1e-3, abs=1e-3)
    names = sorted(path.name for path in (host[0] / "replay/source").iterdir())
    assert sorted(path.name for path in (workdir / "replay/source").iterdir()) == names


def test_cores_share_the_batches_of_a_program(alone, tmp_path):
    one = config("device")
    train(replace(one, run=replace(one.run, devices=0)), tmp_path)
    for got, want in zip(leaves(tmp_path), leaves(alone[0]), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


def test_a_seed_of_many_is_the_single_run_of_that_seed(many, alone):
    for got, want in zip(leaves(many[0] / "seed_1"), leaves(alone[0]), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
    found = many[1]["evaluations"]["source"]["returns"]
    assert found[1] == pytest.approx(alone[1]["evaluations"]["source"]["return_mean"], rel=1e-3)
    assert len(set(found)) == SEEDS


def test_seeds_are_not_shared_by_more_devices_than_there_are():
    assert parallel.make_seed_mesh(2, 3) is None and parallel.make_seed_mesh(0, 4).size == 2
    with pytest.raises(ValueError, match="run.devices is 9, but there are 2: use 0"):
        parallel.make_seed_mesh(9, 9)


def test_devices_without_a_seed_are_named():
    assert parallel.idle_devices(0, 4) == "" and parallel.idle_devices(0, 1) == ""
    assert "1 of 2 devices train the 3 seeds" in parallel.idle_devices(0, 3)


@pytest.mark.slow
def test_devices_share_the_seeds(many, tmp_path):
    two = of_many(2)
    summary = train(replace(two, run=replace(two.run, devices=2)), tmp_path / "two")
    for seed in range(2):
        folder = f"seed_{seed}"
        for got, want in zip(leaves(tmp_path / "two" / folder), leaves(many[0] / folder)):
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
    assert summary["seeds"] == [0, 1]


@pytest.mark.slow
def test_cores_that_cannot_share_the_seeds_share_their_batches(many, tmp_path):
    three = of_many(SEEDS)
    train(replace(three, run=replace(three.run, devices=0)), tmp_path)
    for seed in range(SEEDS):
        folder = f"seed_{seed}"
        for got, want in zip(leaves(tmp_path / folder), leaves(many[0] / folder), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_all_seeds_at_once_learn_what_they_learn_one_after_another(many, tmp_path, monkeypatch):
    """An accelerator takes them at once; here a CPU does."""
    at_once = functools.partial(fleet.over_seeds, vectorised=True)

    def over_seeds(program, *, vectorised, mesh):
        assert not vectorised
        return at_once(program, mesh=mesh)

    monkeypatch.setattr(fleet, "over_seeds", over_seeds)
    train(of_many(2), tmp_path)
    for seed in range(2):
        folder = f"seed_{seed}"
        for got, want in zip(leaves(tmp_path / folder), leaves(many[0] / folder), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_runs_of_other_settings_share_a_program(alone, tmp_path):
    """A learning rate, the discount and the scale of the KL are its arguments, by run."""
    first = config("device")
    numbers = {"model_lr": 1e-3, "discount": 0.9, "kl_scale": 0.3}
    learning = replace(first.settings.learning, **numbers)
    second = replace(first, settings=replace(first.settings, learning=learning))
    with (
        runtime.StopRequest() as stop,
        open_ground(first, shares_batch=False) as ground,
        open_run(first, tmp_path / "first", ground, stop=stop) as one,
        open_run(second, tmp_path / "second", ground, stop=stop) as two,
    ):
        one.restore(), two.restore()
        assert together.carry_out_together([one, two], stop)
    train(second, tmp_path / "by itself")
    for folder, wanted in (("first", alone[0]), ("second", tmp_path / "by itself")):
        for got, want in zip(leaves(tmp_path / folder), leaves(wanted), strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
    pairs = zip(leaves(tmp_path / "first"), leaves(tmp_path / "second"))
    assert any(np.abs(one - two).max() > 1e-2 for one, two in pairs)


def test_every_seed_is_a_workdir_and_all_have_a_summary(many):
    workdir, summary = many
    assert summary["seeds"] == [0, 1, 2] and summary["failures"] == {}
    assert json.loads((workdir / "summary.json").read_text())["updates"] == 8
    own = [json.loads((workdir / f"seed_{s}/summary.json").read_text()) for s in range(SEEDS)]
    assert summary["wall_time"] == max(seed["wall_time"] for seed in own)
    assert {seed["seeds_together"] for seed in own} == {SEEDS}  # in that time
    assert (workdir / "pictures/source_returns.png").exists()
    actions = [
        load_policy(workdir, seed=seed).episode(0)(np.zeros((64, 64, 3), np.uint8))
        for seed in range(SEEDS)
    ]
    assert not np.allclose(actions[0], actions[1])
    assert seed_directories(workdir) == [workdir / f"seed_{seed}" for seed in range(SEEDS)]
    assert seed_directories(workdir / "seed_1") == [workdir / "seed_1"]
    (workdir / "seed_0_old").mkdir()
    assert len(seed_directories(workdir)) == SEEDS
    with pytest.raises(ValueError, match=r"3 seeds: name the folder of one, such as .*seed_0"):
        load_policy(workdir)


@pytest.mark.slow
def test_an_interrupted_run_of_many_goes_on_to_the_same_states(many, tmp_path, monkeypatch):
    """It dies while the second seed is about to save; the first is then ahead of the others."""
    handle = together.handle

    def die(run, event):
        if run.config.seed == 1 and type(event).__name__ == "Save":
            raise KeyboardInterrupt
        handle(run, event)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(together, "handle", die)
        train(of_many(SEEDS), tmp_path)
    assert (tmp_path / "seed_0/checkpoints/4").exists()
    assert not (tmp_path / "seed_1/checkpoints/4").exists()
    summary = train(of_many(SEEDS), tmp_path)
    assert summary["state_digests"] == many[1]["state_digests"]
    for seed in range(SEEDS):
        assert lines(tmp_path / f"seed_{seed}") == lines(many[0] / f"seed_{seed}")


@pytest.mark.slow
def test_a_seed_that_fails_is_named_and_the_others_go_on(many, tmp_path, monkeypatch, capfd):
    """Its parameters really are no numbers: so are its actions, in the same stretch."""
    take_over = fleet.Fleet._take_over
    handle, noted = together.handle, []  # what the workdir says while seed 2 goes on

    def handled(run, event):
        if run.config.seed == 2:
            noted.append(read_failures(tmp_path))
        handle(run, event)

    def poisoned(self):
        carry = take_over(self)
        if not int(carry.updates.max()) or self.runs[1].failure:
            return carry
        bad = jax.tree.map(
            lambda leaf: leaf.at[1].multiply(np.nan) if leaf.dtype == np.float32 else leaf,
            carry.learnt,
        )
        return carry._replace(learnt=bad)

    monkeypatch.setattr(together, "handle", handled)
    monkeypatch.setattr(fleet.Fleet, "_take_over", poisoned)
    summary = train(of_many(SEEDS), tmp_path)
    assert summary["seeds"] == [0, 2] and "no longer finite" in summary["failures"]["1"]
    assert noted[0] == {} and noted[-1] == summary["failures"]
    assert "seed 1: " in capfd.readouterr().err
    wanted = many[1]["state_digests"]
    assert summary["state_digests"] == {0: wanted[0], 2: wanted[2]}
    monkeypatch.undo()
    assert np.isfinite(
        load_policy(tmp_path, seed=1).episode(0)(np.zeros((64, 64, 3), np.uint8))
    ).all()
    again = train(of_many(SEEDS), tmp_path)
    assert again["failures"] == summary["failures"]


def test_replays_of_all_seeds_that_do_not_fit_are_refused_before_anything_is_written(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(seeds, "available_bytes", lambda: 10**6)
    with pytest.raises(ValueError, match="replays of 3 seeds need .* lower run.seeds or"):
        train(of_many(SEEDS), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_what_programs_cannot_carry_out_is_said(tmp_path):
    gym = replace(config("device"), source=("dmc/walker_walk",))
    with pytest.raises(ValueError, match="because dmc/walker_walk is not jittable: change that"):
        train(gym, tmp_path)


@pytest.mark.parametrize("use", [lambda x: x > 0 or None, np.exp, lambda x: range(x)])
def test_a_method_that_needs_the_value_of_a_number_is_told_the_way_out(use):
    with pytest.raises(ValueError, match="The method mine needs the value .* fields.shaping"):
        fleet._lower(jax.jit(lambda number: (use(number), number)[1]), (jnp.int32(3),), "mine")


@pytest.mark.slow
def test_the_host_says_why_it_carries_a_jittable_run_out(tmp_path, capfd):
    summary = train(config("auto"), tmp_path, until=lambda returns: len(returns["source"]) > 1)
    assert summary is None
    assert "The host carries the run out step by step, because it may end early." in (
        capfd.readouterr().err
    )
