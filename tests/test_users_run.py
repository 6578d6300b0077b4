"""What a run notices of its data and of its episodes."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from record_digests import save_data

from coworld_jax import config as configuration
from coworld_jax.data import DataError, load_episode, save_episode
from coworld_jax.methods import METHODS
from coworld_jax.records.metrics import read_metrics
from coworld_jax.training.loop import train
from coworld_jax.training.remarks import imagines_beyond_ends
from coworld_jax.training.run import open_run


@pytest.fixture(autouse=True)
def own_tasks(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", "tests", prepend=":")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    directory = tmp_path_factory.mktemp("original") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", "tests", prepend=":")
        save_data(directory)
    return directory


@pytest.fixture
def data(original, tmp_path):
    """Three episodes of the windy task; a test may change them."""
    return Path(shutil.copytree(original, tmp_path / "data"))


def offline(data, **run) -> configuration.Config:
    """A run that reads ``data`` and has no source."""
    config = replace(
        tiny.CONFIG, source=("toy_tasks:calm",), target="toy_tasks:windy", data=str(data)
    )
    return replace(config, run=replace(config.run, devices=1, **run))


def announced(config, workdir) -> str:
    """What a run says of its data before it starts."""
    with open_run(config, workdir) as run:
        return run.feed.announcement


def change(path, **changes):
    """Write an episode anew with some arrays replaced."""
    save_episode(path.parent, load_episode(path)._replace(**changes), name=path.stem)


# --- actions and ends -----------------------------------------------------------------------------


def test_the_share_of_actions_outside_is_said(data, tmp_path):
    assert "All actions lie in [-1, 1]." in announced(offline(data), tmp_path / "a")
    first = data / "000000.npz"
    action = load_episode(first).action
    action[1:4] = [[1.5, 0.0], [0.0, -2.0], [1.0, -1.0]]
    change(first, action=action)
    said = announced(offline(data), tmp_path / "b")
    assert "6.67% of the actions lie outside [-1, 1]" in said  # two of thirty env_steps


@pytest.mark.slow
def test_terminal_states_without_a_discount_head_get_one_remark(data, tmp_path):
    assert "discount" not in announced(offline(data), tmp_path / "a")
    for name in ("000000", "000002"):
        discount = load_episode(data / f"{name}.npz").discount
        discount[-1] = 0.0
        change(data / f"{name}.npz", discount=discount)
    said = announced(offline(data), tmp_path / "b")
    assert said.count("discount head") == 1 and f"2 episodes of {data} end with discount 0" in said
    assert "--config.network.discount_head=true" in said
    with_head = tiny.with_settings(offline(data), network={"discount_head": True})
    assert "discount" not in announced(with_head, tmp_path / "c")


def test_methods_that_ignore_the_end_say_so_and_those_that_do_not_imagine_say_nothing():
    coworld = METHODS["coworld"].make(tiny.CONFIG.settings, tiny.domains())
    assert imagines_beyond_ends(tiny.CONFIG, coworld, "Episodes") != []
    for name in ("lompo", "lompo_finetune", "offline_dv2"):
        method = METHODS[name].make(tiny.OTHERS[name], tiny.domains())
        config = replace(tiny.CONFIG, method=name, settings=tiny.OTHERS[name])
        (said,) = imagines_beyond_ends(config, method, "Episodes")
        assert f"{name} has no discount head" in said
    silent = replace(tiny.CONFIG, settings=tiny.NETWORK)
    assert imagines_beyond_ends(silent, coworld, "Episodes") == []


# --- the same data --------------------------------------------------------------------------------


def test_a_run_goes_on_with_its_data_wherever_they_lie(data, tmp_path):
    workdir = tmp_path / "run"
    announced(offline(data), workdir)
    recorded = json.loads((workdir / "data.json").read_text())
    assert list(recorded["files"]) == ["000000.npz", "000001.npz", "000002.npz"]
    announced(offline(f"{data}/"), workdir)
    moved = Path(shutil.move(data, tmp_path / "elsewhere"))
    announced(offline(moved), workdir)
    assert json.loads((workdir / "config.json").read_text())["data"] == str(moved)
    assert json.loads((workdir / "data.json").read_text()) == recorded


def test_other_data_are_refused_with_what_differs(data, tmp_path):
    workdir = tmp_path / "run"
    announced(offline(data), workdir)
    shutil.copy(data / "000000.npz", data / "added.npz")
    sentence = f"{data} holds other data than the run of {workdir} began with: 1 file was added: "
    with pytest.raises(ValueError, match=f"{sentence}added.npz.*another --workdir"):
        announced(offline(data), workdir)
    (data / "added.npz").unlink()
    reward = load_episode(data / "000001.npz").reward
    change(data / "000001.npz", reward=reward + np.float32(0.5))
    with pytest.raises(ValueError, match="1 file has other rewards: 000001.npz"):
        announced(offline(data), workdir)


def test_a_file_that_went_bad_may_be_left_out_from_then_on(data, tmp_path):
    workdir, bad = tmp_path / "run", data / "000001.npz"
    announced(offline(data), workdir)
    whole = bad.read_bytes()
    bad.write_bytes(whole[:1000])
    with pytest.raises(DataError, match="000001.npz"):
        announced(offline(data), workdir)
    said = announced(offline(data, skip_bad_files=True), workdir)
    assert f"left out: {bad}" in said
    recorded = json.loads((workdir / "data.json").read_text())
    assert list(recorded["left_out"]) == ["000001.npz"] and "000001.npz" in recorded["files"]
    assert json.loads((workdir / "config.json").read_text())["run.skip_bad_files"] is True
    bad.unlink()  # gone is not bad
    with pytest.raises(ValueError, match="1 file was removed: 000001.npz"):
        announced(offline(data, skip_bad_files=True), workdir)
    bad.write_bytes(whole)
    announced(offline(data), workdir)
    assert json.loads((workdir / "data.json").read_text())["left_out"] == {}


@pytest.mark.parametrize("form", ["ogbench", "minari"])
def test_a_foreign_folder_gets_the_command_that_imports_it(form, tmp_path):
    folder = tmp_path / "foreign"
    (folder / "data").mkdir(parents=True)
    if form == "ogbench":
        np.savez(
            folder / "x.npz", observations=np.zeros((4, 64, 64, 3), np.uint8),
            actions=np.zeros((4, 2), np.float32), terminals=np.zeros(4, bool),
        )  # fmt: skip
    else:
        (folder / "data" / "main_data.hdf5").touch()
    with pytest.raises(DataError, match="experiments.dataset import"):
        announced(offline(folder), tmp_path / "run")
    assert not (tmp_path / "run" / "config.json").exists()


# --- short episodes -------------------------------------------------------------------------------


def online(task: str) -> configuration.Config:
    """A run that plays ``task``, with evaluations."""
    config = tiny.of_method("dreamer")
    return replace(
        config, source=(task,), run=replace(config.run, devices=1, eval_every=2, checkpoint_every=2)
    )


class CrashError(Exception):
    """Ends a run between two events."""


@pytest.mark.slow
def test_short_episodes_count_and_pay(tmp_path, capsys):
    config = online("toy_tasks:brief")
    summary = train(config, tmp_path / "whole")
    said = capsys.readouterr().err
    assert said.count("Episodes of toy_tasks:brief end with discount 0") == 1
    replay = tmp_path / "whole" / "replay" / "source"
    rows = [len(load_episode(path).reward) for path in sorted(replay.glob("*.npz"))]
    length = config.settings.learning.length
    assert min(rows) < length <= max(rows), "the seed has no short episode: this shows nothing"
    assert summary["env_steps"] == sum(rows) - len(rows)
    prefill, train_every = (
        getattr(config.settings.schedule, name) for name in ("prefill_episodes", "train_every")
    )
    played = sum(rows[prefill:]) - len(rows[prefill:])
    planned = (summary["updates"] - config.settings.model_updates) * train_every
    assert planned <= played < planned + 10
    assert train_after_crashes(config, tmp_path / "parts") == (
        summary["state_digest"], summary["env_steps"], summary["evaluations"],
    )  # fmt: skip
    assert [r["updates"] for r in read_metrics(tmp_path / "parts" / "metrics.jsonl")] == [
        r["updates"] for r in read_metrics(tmp_path / "whole" / "metrics.jsonl")
    ]


def train_after_crashes(config, workdir):
    """A run that ends between two events again and again, each time two events later."""
    for most in range(2, 20, 2):
        calls = []

        def crash(returns, calls=calls, most=most):
            calls.append(returns)
            if len(calls) > most:
                raise CrashError

        try:
            summary = train(config, workdir, crash)
        except CrashError:
            continue
        return summary["state_digest"], summary["env_steps"], summary["evaluations"]
    raise AssertionError("the run never ended")


def test_a_run_may_go_without_evaluations(data, tmp_path):
    config = offline(data, eval_episodes=0)
    with open_run(config, tmp_path) as run:
        kinds = {type(event).__name__ for event in run.events(full_length=True)}
    assert {"Learn", "Save"} <= kinds and not kinds & {"Evaluate", "Conclude"}


def test_random_play_without_a_usable_episode_is_refused(tmp_path):
    sentence = "None of the 2 random episodes of toy_tasks:briefest has the 4 rows of a chunk"
    with pytest.raises(ValueError, match=f"{sentence}: lower learning.length"):
        train(online("toy_tasks:briefest"), tmp_path)
