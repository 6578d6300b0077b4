"""What learning reads: the replay on disk and device, and the feed from the host."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from episodes import make_episode, save_three
from tiny import sample

from coworld_jax import parallel
from coworld_jax.data import (
    DataError,
    Replay,
    StreamedFeed,
    load_directory,
    load_episode,
    save_episode,
)
from coworld_jax.data import replay as replay_module

SLOTS, ROWS, ACTION = 3, 8, 4


def make_replay(directory, episodes=0, **arguments):
    """A replay of three slots, with episodes of 6, 7, 8, 6 ... rows in it."""
    replay = Replay(directory, slots=SLOTS, rows=ROWS, action_size=ACTION, **arguments)
    for index in range(episodes):
        replay.append(make_episode(index, 6 + index % 3), f"{index:06d}")
    return replay


def assert_equal(one, two):
    for name, left, right in zip(one._fields, one, two, strict=True):
        np.testing.assert_array_equal(left, right, err_msg=name)


# --- replay ---------------------------------------------------------------------------------------


def test_episodes_go_to_the_disk_and_to_their_slots(tmp_path):
    replay = make_replay(tmp_path / "new", episodes=2)
    store = replay.store
    assert int(store.episodes) == replay.count == replay.appended == 2
    assert store.lengths.tolist() == [6, 7, 0]
    for index, rows in ((0, 6), (1, 7)):
        wanted = make_episode(index, rows)
        here = slice(index * ROWS, index * ROWS + rows)
        np.testing.assert_array_equal(store.image[here], wanted.image)
        np.testing.assert_array_equal(store.action[here, :3], wanted.action)
        np.testing.assert_array_equal(store.action[here, 3:], 0.0)
        np.testing.assert_array_equal(store.reward[here], wanted.reward)
        file = load_episode(tmp_path / "new" / f"{index:06d}.npz")
        np.testing.assert_array_equal(file.action, wanted.action)  # as it was played
        assert replay.returns[index] == float(wanted.reward.sum())


def test_a_full_replay_forgets_the_oldest_but_not_its_file(tmp_path):
    replay = make_replay(tmp_path, episodes=5)  # rows 6 7 8 6 7
    assert replay.store.lengths.tolist() == [6, 7, 8]
    assert (replay.appended, replay.count, int(replay.store.episodes)) == (5, 3, 3)
    np.testing.assert_array_equal(replay.store.image[:6], make_episode(3, 6).image)
    np.testing.assert_array_equal(replay.store.image[16:24], make_episode(2, 8).image)
    assert len(replay.returns) == 5 and len(list(tmp_path.glob("*.npz"))) == 5


@pytest.mark.parametrize("kept", [0, 2, 5])
def test_restore_goes_back_exactly(tmp_path, kept):
    """Go back to a manifest, in another process too; samples do not know the difference."""
    replay = make_replay(tmp_path, episodes=kept)
    manifest = json.loads(json.dumps(replay.manifest()))
    wanted = sample(replay.store, jax.random.key(1), 6, 8) if kept else None
    for index in range(kept, kept + 4):
        replay.append(make_episode(100 + index, 8), f"{index:06d}")
    save_episode(tmp_path, make_episode(50), name="in-flight")
    (tmp_path / ".half.tmp").write_bytes(b"half")

    for restored in (make_replay(tmp_path), replay):
        restored.restore(manifest, keep=["in-flight.npz"])
        assert restored.manifest() == manifest and restored.appended == kept
        if wanted is not None:
            assert_equal(sample(restored.store, jax.random.key(1), 6, 8), wanted)
        assert int(restored.store.episodes) == min(kept, SLOTS)
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {f"{index:06d}.npz" for index in range(kept)} | {"in-flight.npz"}
    restored.restore(manifest)
    assert not (tmp_path / "in-flight.npz").exists()


def test_an_append_writes_in_place_and_compiles_once(tmp_path):
    replay = make_replay(tmp_path, episodes=1)
    compiled = replay_module._write_in_place._cache_size()
    before = replay.store
    for index in range(1, 4):
        replay.append(make_episode(index, 6 + index % 3), f"{index:06d}")
    assert before.image.is_deleted()
    assert replay_module._write_in_place._cache_size() == compiled


def test_the_cores_of_a_mesh_read_one_copy_of_a_replay(tmp_path):
    replay = make_replay(tmp_path / "mesh", 2, mesh=parallel.make_mesh(2, batch=2))
    for _ in range(2):
        image = replay.store.image
        assert len(image.devices()) == 2 and image.is_fully_replicated
        parts = [shard.data.unsafe_buffer_pointer() for shard in image.addressable_shards]
        assert len(set(parts)) == 1
        replay.restore(replay.manifest())
    assert_equal(replay.store, make_replay(tmp_path / "alone", 2).store)


def test_what_programs_were_shown_of_a_replay_is_not_overwritten(tmp_path):
    replay = make_replay(tmp_path, SLOTS, mesh=parallel.make_mesh(2, batch=2))
    shown = replay.store
    before = jax.tree.map(np.array, shown)
    replay.append(make_episode(9, 7), "over the oldest")
    assert_equal(shown, before)
    assert not np.array_equal(replay.store.image, before.image)


def test_a_replay_that_cannot_be_restored_keeps_its_files(tmp_path):
    manifest = make_replay(tmp_path, episodes=2).manifest()
    save_episode(tmp_path, make_episode(9), name="later")
    (tmp_path / "000001.npz").rename(tmp_path / "aside.npz")
    with pytest.raises(DataError, match="000001.npz is gone, but the checkpoint names it"):
        make_replay(tmp_path).restore(manifest)
    save_episode(tmp_path, make_episode(7, 7), name="000001")
    with pytest.raises(DataError, match="000001.npz: key 'reward' sums to another return"):
        make_replay(tmp_path).restore(manifest)
    assert (tmp_path / "later.npz").exists() and (tmp_path / "aside.npz").exists()


def test_what_does_not_fit_is_refused(tmp_path, monkeypatch):
    replay = make_replay(tmp_path, episodes=1)
    for episode in (make_episode(1, ROWS + 1), make_episode(1, ROWS, ACTION + 1)):
        with pytest.raises(ValueError, match="Episode new has .* takes 8 and 4"):
            replay.append(episode, "new")
    assert replay.appended == 1 and len(list(tmp_path.iterdir())) == 1
    need = SLOTS * ROWS * (64 * 64 * 3 + 4 * (ACTION + 1 + 1))
    monkeypatch.setattr(replay_module, "available_bytes", lambda: need - 1)
    with pytest.raises(ValueError, match="295 kB for 3 episodes of 8 rows.*replay_episodes"):
        make_replay(tmp_path)


# --- streamed -------------------------------------------------------------------------------------


@pytest.fixture
def dataset(tmp_path):
    return load_directory(save_three(tmp_path), minimum_rows=6)


def keys(seed):
    return jax.random.split(jax.random.key(seed), 3)


def test_streamed_batches_are_the_resident_ones(dataset):
    feed = StreamedFeed(dataset, length=5, batch=4, action_size=ACTION)
    batches = feed.batches(keys(0))
    assert batches.image.shape == (3, 5, 4, 64, 64, 3) and batches.image.dtype == np.uint8
    store, separate = dataset.store(ACTION), keys(0)
    for update in range(3):
        wanted = sample(store, separate[update], 5, 4)
        assert_equal(jax.tree.map(lambda leaf, u=update: leaf[u], batches), wanted)
    feed.close()


def test_prefetched_batches_are_the_same(dataset, monkeypatch):
    feed = StreamedFeed(dataset, length=5, batch=4, action_size=ACTION)
    wanted, other = feed.batches(keys(0)), feed.batches(keys(1))
    gathered, gather = [], feed._gather
    monkeypatch.setattr(feed, "_gather", lambda rows: gathered.append(rows) or gather(rows))
    feed.prefetch(keys(0))
    feed._ahead[1].result()
    assert len(gathered) == 1
    assert_equal(feed.batches(keys(0)), wanted)
    assert len(gathered) == 1  # in the background, and not again
    feed.prefetch(keys(0))
    feed._ahead[1].result()
    assert_equal(feed.batches(keys(1)), other)  # a wrong guess
    assert len(gathered) == 3
    feed.close()
