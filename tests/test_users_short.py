"""Episodes that are shorter than a chunk: counted, kept on the disk, never sampled."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest
from episodes import make_episode
from tiny import sample

from coworld_jax.data import Replay

CHUNK, SLOTS = 5, 3


def make_replay(directory, *rows):
    replay = Replay(directory, slots=SLOTS, rows=8, action_size=3, minimum_rows=CHUNK)
    for index, count in enumerate(rows):
        replay.append(make_episode(index, count), f"{index:06d}")
    return replay


def test_a_short_episode_counts_and_is_not_sampled(tmp_path):
    replay = make_replay(tmp_path, 6, 3, 7)
    assert (replay.appended, replay.usable, replay.count) == (3, 2, 2)
    assert replay.returns == [
        float(make_episode(i, r).reward.sum()) for i, r in enumerate((6, 3, 7))
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "000000.npz", "000001.npz", "000002.npz",
    ]  # fmt: skip
    assert replay.store.lengths.tolist() == [6, 7, 0] and int(replay.store.episodes) == 2
    rewards = np.asarray(sample(replay.store, jax.random.key(0), CHUNK, 64).reward)
    assert not np.isin(rewards, make_episode(1, 3).reward[1:]).any()


def test_a_full_replay_forgets_the_oldest_usable_one(tmp_path):
    replay = make_replay(tmp_path, 5, 2, 6, 2, 7, 8)
    assert replay.store.lengths.tolist() == [8, 6, 7]
    assert (replay.usable, replay.count) == (4, 3)


@pytest.mark.parametrize("rows", [(5, 2, 6, 2, 7, 8, 3), (2, 3), (4,), (8, 2)])
def test_a_restored_replay_draws_the_same_batches(tmp_path, rows):
    replay = make_replay(tmp_path, *rows)
    manifest = json.loads(json.dumps(replay.manifest()))
    later = make_replay(tmp_path)
    later.restore(manifest)
    assert (later.appended, later.usable) == (len(rows), sum(count >= CHUNK for count in rows))
    assert later.manifest() == manifest and len(list(tmp_path.glob("*.npz"))) == len(rows)
    for one in (replay, later):
        one.append(make_episode(40, 7), "next")
    for left, right in zip(replay.store, later.store, strict=True):
        np.testing.assert_array_equal(left, right)


def test_a_replay_without_a_usable_episode_says_so(tmp_path):
    replay = make_replay(tmp_path, 2, 4)
    assert (replay.appended, replay.usable, replay.count) == (2, 0, 0)
    assert int(replay.store.episodes) == 0
