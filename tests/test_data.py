"""Episode files and directories: what is written is read, and what is broken is named."""

from __future__ import annotations

import json
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from episodes import ROWS, make_episode, save_raw, save_three
from tiny import sample

from coworld_jax.data import (
    DataError,
    load_directory,
    load_episode,
    save_episode,
    summarise,
    validate_directory,
    write_metadata,
)
from coworld_jax.store import sample_rows

# --- files ----------------------------------------------------------------------------------------


def test_an_episode_comes_back_as_it_was_saved(tmp_path):
    episode = make_episode(0, state=np.arange(ROWS * 2.0).reshape(ROWS, 2), is_last=np.zeros(ROWS))
    path = save_episode(tmp_path / "new", episode)
    stamp, identity, rows = path.stem.split("-")
    assert rows == str(ROWS) and len(identity) == 32 and stamp[8] == "T"
    loaded = load_episode(path)
    for name in ("image", "action", "reward", "discount"):
        value, wanted = getattr(loaded, name), getattr(episode, name)
        assert value.dtype == wanted.dtype
        np.testing.assert_array_equal(value, wanted)
    np.testing.assert_array_equal(loaded.extras["state"], episode.extras["state"])
    np.testing.assert_array_equal(loaded.extras["is_first"], [True] + [False] * (ROWS - 1))
    assert loaded.extras["is_last"].dtype == bool
    with np.load(path) as plain:  # readable by anybody
        np.testing.assert_array_equal(plain["image"], episode.image)


def test_equal_episodes_make_equal_files(tmp_path):
    one = save_episode(tmp_path / "a", make_episode(0), name="x")
    two = save_episode(tmp_path / "b", make_episode(0), name="x")
    assert one.read_bytes() == two.read_bytes()
    assert one.name == "x.npz"


def test_an_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = save_episode(tmp_path, make_episode(0), name="x")
    before = path.read_bytes()

    def interrupted(*arguments, **keywords):
        raise KeyboardInterrupt

    monkeypatch.setattr(np.lib.format, "write_array", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save_episode(tmp_path, make_episode(1), name="x")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]  # the unfinished one is gone too


def test_a_missing_file_is_no_bad_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.npz"):
        load_episode(tmp_path / "nowhere.npz")


# --- released directories -------------------------------------------------------------------------


def coworld_file(path):
    """Keys of dreamer-torch: proprioception and log-probabilities, no flags."""
    save_raw(path, logprob=np.zeros(ROWS), orientations=np.zeros((ROWS, 14), np.float32))


def dreamer_file(path):
    """DreamerV2's newer files: no discount, flags as uint8."""
    terminal = np.zeros(ROWS, np.uint8)
    terminal[-1] = 1
    first = (np.arange(ROWS) == 0).astype(np.uint8)
    save_raw(path, discount=None, is_terminal=terminal, is_first=first, is_last=terminal)


def vd4rl_file(path):
    """Transposed from channels-first hdf5; columns of float64, bool flags."""
    episode = make_episode(1, ROWS)
    image = np.ascontiguousarray(episode.image.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    save_raw(
        path,
        image=image,
        action=episode.action.astype(np.float64),
        reward=episode.reward.astype(np.float64)[:, None],
        discount=episode.discount.astype(np.float64)[:, None],
        is_first=np.arange(ROWS) == 0,
        is_terminal=np.zeros(ROWS, bool),
    )


@pytest.mark.parametrize("write", [coworld_file, dreamer_file, vd4rl_file])
def test_released_directories_load_as_they_are(tmp_path, write):
    # The length in the name is rows in one tool and steps in another, and here it is neither.
    write(tmp_path / "20200101T000000-0123456789abcdef0123456789abcdef-777.npz")
    dataset = load_directory(tmp_path, minimum_rows=ROWS)
    wanted = make_episode(1, ROWS)
    np.testing.assert_array_equal(dataset.image, wanted.image)
    np.testing.assert_array_equal(dataset.action, wanted.action)
    np.testing.assert_array_equal(dataset.reward, wanted.reward)
    np.testing.assert_array_equal(dataset.discount[:-1], np.ones(ROWS - 1))
    assert dataset.discount[-1] == (0.0 if write is dreamer_file else 1.0)
    assert dataset.lengths.tolist() == [ROWS] and dataset.metadata is None
    assert validate_directory(tmp_path, minimum_rows=ROWS) == []


# --- directories ----------------------------------------------------------------------------------


@pytest.fixture
def mixed(tmp_path):
    return save_three(tmp_path)


def test_episodes_lie_end_to_end_in_the_order_of_their_names(mixed):
    dataset = load_directory(mixed, minimum_rows=6)
    assert dataset.starts.tolist() == [0, 9, 15] and dataset.lengths.tolist() == [9, 6, 8]
    for index, (start, rows) in enumerate(zip(dataset.starts, dataset.lengths)):
        wanted = make_episode(index, rows)
        np.testing.assert_array_equal(dataset.image[start : start + rows], wanted.image)
        np.testing.assert_array_equal(dataset.action[start : start + rows], wanted.action)
        assert dataset.returns[index] == pytest.approx(wanted.reward.sum(), rel=1e-5)
    assert dataset.nbytes == 23 * (64 * 64 * 3 + 4 * (3 + 1 + 1))


def test_the_store_is_the_dataset(mixed):
    dataset = load_directory(mixed, minimum_rows=6)
    store = dataset.store(action_size=5)
    assert store.image.unsafe_buffer_pointer() == dataset.image.ctypes.data  # no second copy
    np.testing.assert_array_equal(store.action[:, :3], dataset.action)
    np.testing.assert_array_equal(store.action[:, 3:], 0.0)
    with pytest.raises(ValueError, match="read-only"):
        dataset.image[0] = 0
    batch = sample(store, jax.random.key(0), 6, 4)
    assert batch.image.shape == (6, 4, 64, 64, 3) and batch.action.shape == (6, 4, 5)
    with pytest.raises(ValueError, match="actions of 3 coordinates.*with 2"):
        dataset.store(action_size=2)


def test_metadata_come_along_and_are_checked(mixed):
    record = {
        "task": "dmc/walker_walk", "profile": "fast", "action_size": 3, "action_repeat": 2,
        "image_size": 64, "note": [1, 2],
    }  # fmt: skip
    write_metadata(mixed, record)
    assert load_directory(mixed, minimum_rows=1).metadata == record
    write_metadata(mixed, record | {"profile": 3})
    with pytest.raises(DataError, match="dataset.json: key 'profile' is 3 instead of a text"):
        load_directory(mixed, minimum_rows=1)
    (mixed / "dataset.json").write_text('{"task": "x", ')
    with pytest.raises(DataError, match="dataset.json is no JSON file"):
        load_directory(mixed, minimum_rows=1)
    (mixed / "dataset.json").write_text(json.dumps({"task": "x"}))
    (fault,) = validate_directory(mixed, minimum_rows=1)
    assert (fault.file.name, fault.key, fault.reason) == ("dataset.json", "profile", "is missing")


def test_figures_by_hand(tmp_path):
    for index, reward in enumerate((1.0, 2.0, 3.0, 4.0, 10.0)):
        episode = make_episode(index, 3)
        episode.reward[:] = (0.0, reward, reward)
        episode.action[1:] = 0.5
        save_episode(tmp_path, episode, name=str(index))
    bad = make_episode(7, 5)
    bad.reward[:] = 0.0
    bad.action[:] = (0.0, 1.0, -1.0)  # the reset has an action
    bad.action[2:4, 1] = (1.5, -1.01)  # two env_steps outside
    bad.action[0, 2] = -7.0  # which is no env_step
    bad.discount[-1] = 0.0
    save_episode(tmp_path, bad, name="7")
    summary, faults = summarise(tmp_path)
    assert faults == []
    # returns 0, 2, 4, 6, 8, 20: quantiles at positions 1.25, 2.5 and 3.75 of them
    assert summary.returns == pytest.approx(
        {"mean": 40 / 6, "min": 0.0, "q25": 2.5, "median": 5.0, "q75": 7.5, "max": 20.0}
    )
    assert (summary.episodes, summary.rows, summary.env_steps) == (6, 20, 14)
    assert (summary.shortest, summary.longest, summary.action_size) == (3, 5, 3)
    assert (summary.actions_outside, summary.terminated, summary.acting_resets) == (2, 1, 1)


def test_loading_takes_the_data_and_one_episode(tmp_path):
    for index in range(20):
        save_episode(tmp_path, make_episode(index, 40), name=f"{index:06d}")
    tracemalloc.start()
    dataset = load_directory(tmp_path, minimum_rows=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert dataset.nbytes < peak < 1.15 * dataset.nbytes


def test_chunks_that_begin_before_their_episode_repeat_its_first_row() -> None:
    """As the official buffers of stacked frames do: all starts are equally likely."""
    starts, lengths = jnp.array([0, 7]), jnp.array([7, 6])
    rows = sample_rows(starts, lengths, jnp.int32(2), jax.random.key(0), 4, 4000, before=2)
    first, episode = np.asarray(rows[0]), np.asarray(rows[-1]) >= 7
    for column in np.asarray(rows).T[:50]:
        begin, end = (7, 13) if column[-1] >= 7 else (0, 7)
        steps = np.diff(column)
        assert set(steps) <= {0, 1} and begin <= column.min() and column.max() < end
        assert np.all(column[:-1][steps == 0] == begin), "only the first row is repeated"
    # An episode of 7 rows has 4 + 2 starts, of which three show its first row first.
    share = np.mean(first[~episode] == 0)
    assert abs(share - 3 / 6) < 0.05
    plain = sample_rows(starts, lengths, jnp.int32(2), jax.random.key(0), 4, 4000)
    assert np.asarray(plain).min() == 0 and np.all(np.diff(np.asarray(plain), axis=0) == 1)
