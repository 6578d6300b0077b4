"""Datasets by command: collected, interrupted, refused, inspected, validated."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
import tiny
from episodes import make_episode

from coworld_jax.data import DataError, Replay, load_directory, load_episode, save_episode
from coworld_jax.envs import EnvironmentSpec, RandomPolicy, episode_seed
from coworld_jax.records.checkpoint import Checkpointer
from coworld_jax.records.files import CHECKPOINTS, write_config, write_tasks
from coworld_jax.training.collection import Collector
from coworld_jax.training.runtime import StopRequest
from coworld_jax.training.waiting import Patience
from experiments import dataset
from experiments.collecting import played

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 120
STEPS = 8
SPEC = EnvironmentSpec("dmc/walker_walk", 3, 2, 5, 64, "fast", {"mujoco": "1", "dm_control": "2"})


# --- the real command -----------------------------------------------------------------------------


def start(out, *flags):
    command = [
        *(sys.executable, "-m", "experiments.collect", "--task=dmc/walker_downhill"),
        *("--policy=random", f"--out={out}", "--seed=3", "--profile=fast"),
        *(f"--episode_steps={STEPS}", *flags),
    ]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process):
    out, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, err[-3000:]
    return out, err


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    """Twelve short episodes of walker_downhill, really simulated."""
    out = tmp_path_factory.mktemp("collected") / "set"
    return out, *finish(start(out, "--episodes=12", "--workers=1"))


def test_a_dataset_is_collected(collected, capsys):
    out, said, progress = collected
    loaded = load_directory(out, minimum_rows=STEPS + 1, action_size=6)
    assert loaded.lengths.tolist() == [STEPS + 1] * 12
    assert len(np.unique(loaded.image[loaded.starts], axis=0)) == 12  # twelve seeds
    record = loaded.metadata
    assert (record["task"], record["profile"]) == ("dmc/walker_downhill", "fast")
    assert (record["action_repeat"], record["action_size"], record["image_size"]) == (2, 6, 64)
    assert (record["episodes"], record["env_steps"], record["policy"]) == (12, 96, "random")
    assert record["returns"]["median"] == pytest.approx(np.median(loaded.returns), rel=1e-5)
    assert record["versions"]["mujoco"] and "--seed=3" in record["command"]
    assert "12/12 episodes" in progress and "env_steps/s" in progress and "left" in progress
    assert f"inspect {out}" in said
    names = {path.name for path in out.iterdir()} - {path.name for path in out.glob("*.npz")}
    assert names == {"dataset.json"}

    assert dataset.inspect(out) == 0
    text = capsys.readouterr().out
    assert "dmc/walker_downhill, profile fast, action repeat 2" in text
    assert "12, 9 rows each" in text and "0 of 96 env_steps" in text
    assert f"median {record['returns']['median']:.4g}" in text


def test_a_killed_collection_goes_on_and_ends_the_same(collected, tmp_path):
    """Killed after two episodes and gone on with by another number of workers: equal bytes."""
    out = tmp_path / "set"
    process = start(out, "--episodes=12", "--workers=1")
    deadline = time.monotonic() + SECONDS
    while len(list(out.glob("*.npz"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert (out / "collection.json").exists() and not (out / "dataset.json").exists()
    there = {path: path.stat().st_mtime_ns for path in out.glob("*.npz")}
    _, err = finish(start(out, "--episodes=12", "--workers=2"))
    assert f"{out} has {len(there)} of 12 episodes" in err
    assert {path: path.stat().st_mtime_ns for path in there} == there  # not collected again
    wanted = {path.name: path.read_bytes() for path in collected[0].glob("*.npz")}
    assert {path.name: path.read_bytes() for path in out.glob("*.npz")} == wanted


def test_bad_flags_get_a_sentence(collected):
    process = start(collected[0], "--episodes=12", "--seed=4")
    _, err = process.communicate(timeout=SECONDS)
    assert process.returncode == 1 and "Traceback" not in err
    assert "was collected with other settings (seed: 3 -> 4)" in err


# --- its rules ------------------------------------------------------------------------------------


class FakePool:
    """Simulators that are only asked, and whose episodes say by which seed."""

    def __init__(self, spec=SPEC):
        self.spec, self.seeds = spec, []

    def map(self, seeds, policy):
        for seed in seeds:
            yield self.submit(seed, policy).result()

    def submit(self, seed, policy):
        self.seeds.append(seed)
        played_now = Future()
        played_now.set_result(make_episode(seed))
        return played_now


def run(out, episodes=3, seed=0, pool=None, played_by="random"):
    pool = FakePool() if pool is None else pool
    played.collect(
        out, pool, RandomPolicy(3), played_by=played_by, episodes=episodes, seed=seed, command="c"
    )
    return pool.seeds


def test_more_episodes_are_added_and_no_fewer_asked_for(tmp_path):
    first = run(tmp_path, 3)
    assert len(set(first)) == 3
    assert run(tmp_path, 3) == []
    added = run(tmp_path, 5)
    assert len(added) == 2 and not set(added) & set(first)
    assert json.loads((tmp_path / "dataset.json").read_text())["episodes"] == 5
    assert run(tmp_path / "at once", 5) == first + added
    with pytest.raises(ValueError, match="holds 5 episodes, 1 of them not among the 4"):
        run(tmp_path, 4)


def test_lost_episodes_are_collected_again(tmp_path):
    seeds = run(tmp_path)
    lost = sorted(tmp_path.glob("*.npz"))[1]
    before = lost.read_bytes()
    lost.unlink()
    assert run(tmp_path) == [seeds[1]]
    assert lost.read_bytes() == before


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"seed": 1}, "seed: 0 -> 1"),
        ({"pool": FakePool(SPEC._replace(profile="full"))}, "profile: fast -> full"),
        ({"pool": FakePool(SPEC._replace(versions={"mujoco": "9"}))}, "versions: .*'9'"),
        ({"played_by": {"workdir": "w", "updates": 5}}, "policy: random -> .*'updates': 5"),
    ],
)
def test_other_settings_are_refused(tmp_path, change, named):
    run(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=f"other settings \\({named}.*another --out"):
        run(tmp_path, **change)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", ["an_episode.npz", ".mail.tmp", "thesis.tex"])
def test_a_directory_of_others_is_left_alone(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(ValueError, match=f"holds what this command has not made .{name}"):
        run(tmp_path)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"]


def test_a_place_that_cannot_be_written_to_is_found_before_anything_is_played(tmp_path):
    (tmp_path / "file").write_text("")
    pool = FakePool()
    with pytest.raises(NotADirectoryError):
        run(tmp_path / "file" / "set", pool=pool)
    assert pool.seeds == []


def test_each_collection_of_a_run_plays_new_seeds(tmp_path):
    pool = FakePool()
    replay = Replay(tmp_path, slots=5, rows=9, action_size=3)
    collector = Collector(pool, replay, 7, "source", Patience(StopRequest(), grace=0.0))
    for episodes in (3, 2):
        collector.begin(RandomPolicy(3), episodes)
        collector.finish()
    assert pool.seeds == [episode_seed(7, "source", index) for index in range(5)]
    assert sorted(path.stem for path in tmp_path.glob("*.npz")) == [f"{i:06d}" for i in range(5)]


def test_a_damaged_episode_does_not_become_a_dataset(tmp_path):
    run(tmp_path)
    broken = sorted(tmp_path.glob("*.npz"))[0]
    broken.write_bytes(broken.read_bytes()[:100])
    with pytest.raises(DataError, match=f"{broken.name} is no npz file.*Delete it"):
        run(tmp_path, 4)
    assert not (tmp_path / "dataset.json").exists()


# --- a trained agent ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run of the tiny configuration that has done three updates, or says so."""
    path = tmp_path_factory.mktemp("run")
    write_config(path, tiny.CONFIG)
    write_tasks(path, {"source": SPEC, "target": SPEC._replace(task="dmc/walker_downhill")})
    _, state = tiny.start()
    with Checkpointer(path / CHECKPOINTS) as checkpoints:
        checkpoints.save(3, state, {})
    return path


def test_the_agent_of_the_task_plays(workdir, capsys):
    spec = SPEC._replace(task="dmc/walker_downhill", profile="full")
    policy, description = played.trained_policy(workdir, spec, domain="", explore=False)
    assert description == {
        "workdir": str(workdir), "domain": "target", "explore": False, "updates": 3
    }  # fmt: skip
    assert "saw frames of profile fast, and will now see full" in capsys.readouterr().err
    action = policy.episode(0)(np.zeros((64, 64, 3), np.uint8))
    assert action.shape == (3,) and np.abs(action).max() < 1.0


def test_an_agent_that_cannot_play_is_refused(workdir, tmp_path):
    other = SPEC._replace(task="dmc/cheetah_run", action_size=6)
    with pytest.raises(ValueError, match="trained on dmc/cheetah_run: choose --domain"):
        played.trained_policy(workdir, other, domain="", explore=True)
    with pytest.raises(ValueError, match="takes 3 actions, but dmc/cheetah_run takes 6"):
        played.trained_policy(workdir, other, domain="source", explore=True)
    with pytest.raises(ValueError, match="no workdir of a run"):
        played.trained_policy(tmp_path, SPEC, domain="", explore=True)


# --- inspect and validate -------------------------------------------------------------------------


def test_faults_are_counted_and_listed(tmp_path, capsys):
    tmp_path = tmp_path / "episodes"  # whose sibling gets the pictures
    for index in range(3):
        save_episode(tmp_path, make_episode(index, 9), name=str(index))
    (tmp_path / "3.npz").write_text("no zip")
    bad = make_episode(4, 9)
    bad.reward[2] = np.nan
    save_episode(tmp_path, bad, name="4")
    assert dataset.inspect(tmp_path) == 1
    text = capsys.readouterr().out
    assert "unknown: no dataset.json" in text and "3, 9 rows each" in text
    assert "2 in 2 files:" in text and "3.npz is no npz" in text and "4.npz: key 'reward'" in text
    assert dataset.validate(tmp_path, minimum_rows=10, action_size=None) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 and lines[-1] == "5 faults."
    assert [line.split(".npz")[0][-1] for line in lines[:-1]] == list("01234")
    (tmp_path / "3.npz").unlink()
    (tmp_path / "4.npz").unlink()
    assert dataset.validate(tmp_path, minimum_rows=9, action_size=3) == 0
    assert capsys.readouterr().out == "3 episodes, no fault.\n"


def test_a_dataset_says_that_it_is_not_finished(tmp_path, capsys):
    out = tmp_path / "set"
    run(out)
    (out / "dataset.json").rename(out / "collection.json")
    with pytest.raises(DataError, match="collection.json says that this collection is not fin"):
        load_directory(out, minimum_rows=5)
    assert dataset.validate(out, minimum_rows=5, action_size=None) == 1
    dataset.inspect(out)
    assert "an unfinished collection of dmc/walker_walk" in capsys.readouterr().out
    (out / "collection.json").unlink()
    assert len(load_directory(out, minimum_rows=5).lengths) == 3


def test_validate_reads_what_training_does_not(tmp_path, capsys):
    """A key beside the four arrays: cut short, or of another length; and a record that errs."""
    out = tmp_path / "set"
    run(out)
    record = json.loads((out / "dataset.json").read_text())
    (out / "dataset.json").write_text(json.dumps(record | {"action_size": 99}))
    save_episode(out, make_episode(5, state=np.ones((4, 2))), name="short")
    path = save_episode(
        out, make_episode(6, state=np.random.default_rng(0).random((9, 50))), name="torn"
    )
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("state.npy").header_offset
    content = bytearray(path.read_bytes())
    content[place + 1000] ^= 0xFF
    path.write_bytes(content)
    assert dataset.validate(out, minimum_rows=5, action_size=None) == 1
    said = capsys.readouterr().out
    assert "dataset.json: key 'action_size' is 99, but the files have 3" in said
    assert "short.npz: key 'state' has 4 rows, but 'image' has 9" in said
    assert "torn.npz: key 'state' cannot be read" in said
    assert said.endswith("3 faults.\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["inspect"], "Use: python -m"),
        (["inspect", "nowhere"], "nowhere is no directory"),
        (
            ["inspect", "nowhere", "--rewards=x.npy"],
            "--rewards means nothing to inspect, but to im",
        ),
    ],
)
def test_the_command_explains_itself(arguments, said):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.dataset", *arguments],
        cwd=ROOT, capture_output=True, text=True, timeout=SECONDS,
    )  # fmt: skip
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert said in done.stderr + done.stdout


def test_collected_actions_are_the_policys(collected):
    """Row 0 is the reset; the actions are those that the random policy draws for the seed."""
    first = sorted(collected[0].glob("*.npz"))[0]
    seed = int(first.stem.split("-")[1], 16)
    choose = RandomPolicy(6).episode(seed)
    episode = load_episode(first)
    np.testing.assert_array_equal(episode.action[0], 0.0)
    for action in episode.action[1:]:
        np.testing.assert_array_equal(action, choose(episode.image[0]))
