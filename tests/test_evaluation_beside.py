"""Evaluations beside learning: the same figures, whatever happens meanwhile, and after a crash."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from record_digests import save_data

from coworld_jax.envs import EnvironmentPool
from coworld_jax.evaluation import scores
from coworld_jax.evaluation.evaluator import Evaluator
from coworld_jax.evaluation.scores import Marks, submit
from coworld_jax.method import Method, Player
from coworld_jax.records.checkpoint import Checkpointer, DamagedCheckpointError
from coworld_jax.records.metrics import read_metrics
from coworld_jax.training.loop import train

CONFIG = replace(tiny.CONFIG, run=replace(tiny.CONFIG.run, eval_episodes=3))
TASK = "toy_tasks:calm"


@pytest.fixture(autouse=True)
def own_tasks(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "tests", prepend=":")


def push(params, memory, observation, key, *, explore):
    """Always the same push."""
    return memory, jnp.tanh(params)[None]


PLAYER = Player(
    "image", params=lambda state: state, start=lambda size: jnp.zeros(size), act=push, discount=0.9
)
METHOD = Method(init=jnp.zeros, updates={}, plan=(), players={"source": PLAYER}, length=4, batch=2)


def evaluator(pool, workdir, executor):
    return Evaluator(METHOD, CONFIG, {"source": pool}, workdir, executor)


def test_an_evaluation_is_of_the_state_at_which_it_began(tmp_path):
    with ThreadPoolExecutor(1) as executor, EnvironmentPool(TASK, workers=2) as pool:
        one = evaluator(pool, tmp_path / "a", executor)
        state = np.array([0.5, -0.5], np.float32)
        one.begin("source", state, Marks(7, 70))
        state[:] = 9.0  # as a donated buffer is overwritten
        assert one.under_way == ["source"] and one.results == {}
        first = one.conclude("source")
        two = evaluator(pool, tmp_path / "b", executor)
        two.begin("source", jnp.array([0.5, -0.5]), Marks(7, 70))
        assert two.conclude("source") == first
        assert first.marks == Marks(7, 70) and len(first.returns) == 3
        assert one.results["source"]["updates"] == 7 and one.under_way == []
        assert one.conclude("source") is None
        one.begin("source", jnp.zeros(2), Marks(7, 70))  # its figures are known
        assert one.under_way == []
        one.begin("source", jnp.zeros(2), Marks(8, 80))
        assert one.conclude("source").returns != first.returns
    assert (tmp_path / "a" / "pictures" / "source_rollout.gif").exists()


def test_pictures_of_episodes_that_were_played_are_drawn_beside_what_follows(tmp_path, monkeypatch):
    go_on, drawn = threading.Event(), []

    def draw(*args):
        assert go_on.wait(30)
        drawn.append(args[-1])
        if len(drawn) == 2:
            raise OSError("the disk is full")

    monkeypatch.setattr(scores, "draw", draw)
    with ThreadPoolExecutor(1) as executor, EnvironmentPool(TASK) as pool:
        episodes = [future.result() for future in submit(PLAYER, jnp.zeros(2), pool, [1, 2])]
        one = evaluator(pool, tmp_path, executor)
        for updates in (7, 8):
            one.begin("source", jnp.zeros(2), Marks(updates, 70), episodes)
            found = one.conclude("source")
            assert found.returns == [float(episode.reward.sum()) for episode in episodes]
        assert drawn == []
        go_on.set()
        with pytest.raises(OSError, match="disk is full"):
            one.pictures()
        assert drawn == [TASK, TASK]


class Held:
    """A policy whose actors wait until `go`, and tell `begun` who they are."""

    reads = "image"

    def __init__(self, name, begun, go, pool):
        self.name, self.begun, self.go, self.size = name, begun, go, pool.spec.action_size

    def episode(self, seed):
        self.begun.append(self.name)
        assert self.go.wait(60)
        return lambda frame: np.zeros(self.size, np.float32)


@pytest.mark.parametrize("task", [TASK, "planar/reach"])
def test_collections_go_before_evaluations_that_wait(task):
    """One worker: an episode is under way, three of an evaluation wait, then a collection comes."""
    begun, go = [], threading.Event()
    with EnvironmentPool(task, workers=1, episode_steps=2) as pool:
        futures: list[Future] = [pool.submit(0, Held("first", begun, go, pool))]
        for index in range(3):
            futures.append(pool.submit(index, Held("evaluation", begun, go, pool), urgent=False))
        for index in range(2):
            futures.append(pool.submit(index, Held("collection", begun, go, pool)))
        go.set()
        for future in futures:
            future.result(60)
    assert begun == ["first"] + 2 * ["collection"] + 3 * ["evaluation"]


def records(workdir):
    """Lines of ``metrics.jsonl`` without times, in an order that does not depend on stops."""
    lines = [
        {name: value for name, value in record.items() if "time" not in name}
        for record in read_metrics(workdir / "metrics.jsonl")
    ]
    return sorted(lines, key=lambda line: json.dumps(line, sort_keys=True))


class CrashError(Exception):
    """Ends a run between two events, as a kill would."""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run with an evaluation after every second update, its configuration and its summary."""
    directory = tmp_path_factory.mktemp("beside")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", "tests", prepend=":")
        save_data(directory / "data")
        tiny_one = tiny.of_method("dreamer")
        config = replace(
            tiny_one,
            source=(TASK,),
            target="toy_tasks:windy",
            data=str(directory / "data"),
            run=replace(tiny_one.run, devices=1, eval_every=2, checkpoint_every=4),
        )
        return config, directory / "run", train(config, directory / "run")


@pytest.mark.slow
def test_metrics_name_the_updates_of_the_parameters(whole):
    _, workdir, summary = whole
    scored = [
        record
        for record in read_metrics(workdir / "metrics.jsonl")
        if any("/evaluation/" in name for name in record)
    ]
    updates = [record["updates"] for record in scored]
    assert updates == sorted(set(updates)) and updates[-1] == summary["updates"] and updates[1:]
    (domain,) = summary["evaluations"]
    best = max(reversed(scored), key=lambda record: record[f"{domain}/evaluation/return_mean"])
    with Checkpointer(workdir / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.best_step() == best["updates"]


@pytest.mark.slow
@pytest.mark.parametrize("asked", [2, 3, 4])
def test_a_crash_beside_an_evaluation_changes_nothing(whole, tmp_path, asked):
    config, workdir, summary = whole
    calls = []

    def crash(returns):
        calls.append(returns)
        if len(calls) > asked:
            raise CrashError

    with pytest.raises(CrashError):
        train(config, tmp_path / "run", crash)
    again = train(config, tmp_path / "run")
    assert again["state_digest"] == summary["state_digest"]
    assert again["evaluations"] == summary["evaluations"]
    assert records(tmp_path / "run") == records(workdir)


@pytest.mark.slow
def test_a_damaged_checkpoint_is_passed_over(whole, tmp_path, capsys):
    config, workdir, summary = whole
    shutil.copytree(workdir, tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    steps = sorted(int(path.name) for path in checkpoints.iterdir() if path.name.isdigit())
    shutil.rmtree(checkpoints / str(steps[-1]) / "record")
    again = train(config, tmp_path / "run")
    said = capsys.readouterr().err
    assert f"Checkpoint {steps[-1]} is damaged and was moved to" in said
    assert f"the run goes on from checkpoint {steps[-2]}" in said
    assert again["state_digest"] == summary["state_digest"]
    assert again["evaluations"] == summary["evaluations"]
    assert records(tmp_path / "run") == records(workdir)
    for step in checkpoints.iterdir():
        if step.name.isdigit():
            shutil.rmtree(step / "record")
    with pytest.raises(DamagedCheckpointError, match=f"{steps[-1]} is damaged"):
        train(config, tmp_path / "run")


@pytest.mark.slow
def test_a_stop_beside_an_evaluation_changes_nothing(whole, tmp_path):
    config, workdir, summary = whole
    calls = []

    def stop(returns):
        calls.append(returns)
        return len(calls) > 3

    assert train(config, tmp_path / "run", stop) is None
    again = train(config, tmp_path / "run")
    assert again["state_digest"] == summary["state_digest"]
    assert again["evaluations"] == summary["evaluations"]
    assert records(tmp_path / "run") == records(workdir)
    train(config, tmp_path / "run")  # finished: nothing is played again, and nothing is lost
    assert records(tmp_path / "run") == records(workdir)


def test_the_state_may_be_donated_at_once(tmp_path):
    """Learning overwrites the buffers while the evaluation is under way."""
    with ThreadPoolExecutor(1) as executor, EnvironmentPool(TASK, workers=1) as pool:
        one, state = evaluator(pool, tmp_path, executor), jnp.array([0.5, -0.5])
        one.begin("source", state, Marks(1, 10))
        donated = jax.jit(lambda value: value * 0.0, donate_argnums=0)(state)
        assert state.is_deleted() and np.isfinite(one.conclude("source").return_mean)
        assert (donated == 0).all()
