"""Datasets beyond the memory: unpacked once, mapped from then on, with the same batches."""

from __future__ import annotations

import shutil
from collections import namedtuple

import jax
import numpy as np
import pytest
from episodes import ROWS, make_episode, save_raw, save_three
from tiny import sample

from coworld_jax.data import DataError, StreamedFeed, load_directory, save_episode
from coworld_jax.data import directory as directory_module

NEED = 23 * (64 * 64 * 3 + 4 * (3 + 1 + 1))  # bytes of three episodes
FIELDS = ("image", "action", "reward", "discount", "starts", "lengths")


@pytest.fixture
def episodes(tmp_path):
    return save_three(tmp_path / "set")


@pytest.fixture
def little_memory(monkeypatch):
    monkeypatch.setattr(directory_module, "host_bytes", lambda: NEED)  # all of it, for the data


def assert_equal(one, two):
    for name in FIELDS:
        left, right = getattr(one, name), getattr(two, name)
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right, err_msg=name)


def test_mapped_rows_and_batches_are_the_loaded_ones(episodes, monkeypatch):
    loaded = load_directory(episodes, minimum_rows=6)
    assert loaded.cache is None
    monkeypatch.setattr(directory_module, "host_bytes", lambda: NEED)
    mapped = load_directory(episodes, minimum_rows=6)
    assert mapped.cache == episodes.with_name("set.cache") and mapped.cache.is_dir()
    assert_equal(mapped, loaded)
    assert isinstance(mapped.image.base, np.memmap) and not mapped.image.flags.writeable
    keys = jax.random.split(jax.random.key(3), 2)
    feed = StreamedFeed(mapped, length=5, batch=4, action_size=4)
    batches, store = feed.batches(keys), loaded.store(4)
    feed.close()
    separate = jax.random.split(jax.random.key(3), 2)
    for update in range(2):
        streamed = jax.tree.map(lambda leaf, index=update: leaf[index], batches)
        resident = sample(store, separate[update], 5, 4)
        jax.tree.map(np.testing.assert_array_equal, streamed, resident)
    resident = mapped.store(4)  # a device may hold what its host cannot; a CPU maps it, too
    assert resident.image.unsafe_buffer_pointer() == mapped.image.ctypes.data


def test_its_size_is_stated_before_it_is_built(episodes, little_memory, monkeypatch, caplog):
    order, read = [], directory_module.read_rows
    monkeypatch.setattr(
        directory_module,
        "read_rows",
        lambda header: order.append(len(caplog.records)) or read(header),
    )
    load_directory(episodes, minimum_rows=6)
    assert order == [1, 1, 1]
    (said,) = caplog.messages
    assert said.startswith(f"{episodes} needs 283 kB of memory, but 283 kB are free: its rows are")
    assert f"unpacked once into {episodes}.cache, 283 kB on a disk with" in said
    assert (
        sum(path.stat().st_size for path in (episodes.parent / "set.cache").glob("*.bin")) == NEED
    )


def test_it_is_built_once(episodes, little_memory, monkeypatch, tmp_path):
    first = load_directory(episodes, minimum_rows=6)
    monkeypatch.setattr(directory_module, "read_rows", None)  # reading would fail
    assert_equal(load_directory(episodes, minimum_rows=6), first)
    with pytest.raises(TypeError):  # elsewhere there is none yet
        load_directory(episodes, minimum_rows=6, cache=tmp_path / "elsewhere")


def test_it_follows_the_files_and_leaves_the_old_one_to_who_maps_it(episodes, little_memory):
    old = load_directory(episodes, minimum_rows=6)
    before = old.image.copy()
    save_episode(episodes, make_episode(9), name="000001")  # another in its place, and longer
    save_episode(episodes, make_episode(10), name="000003")
    new = load_directory(episodes, minimum_rows=6)
    assert new.lengths.tolist() == [9, 9, 8, 9]
    np.testing.assert_array_equal(new.image[9:18], make_episode(9).image)
    np.testing.assert_array_equal(old.image, before)
    # a longer chunk leaves short episodes out, which is another dataset as well
    (episodes / "000002.npz").unlink()
    assert load_directory(episodes, minimum_rows=9).lengths.tolist() == [9, 9, 9]


def test_a_folder_of_caches_keeps_what_else_is_there(episodes, little_memory, tmp_path):
    place = tmp_path / "scratch"
    for index in range(2):  # two datasets of one name
        save_three(tmp_path / str(index) / "medium")
    place.mkdir()
    mine = {place / name: name for name in ("thesis.tmp", "image.bin", "lock", "cache.json")}
    for path, text in mine.items():
        path.write_text(text)
    caches = {
        load_directory(tmp_path / name / "medium", minimum_rows=6, cache=place).cache
        for name in ("0", "1", "0")
    }
    assert len(caches) == 2 and all(cache.parent == place for cache in caches)
    assert {path: path.read_text() for path in mine} == mine


@pytest.mark.parametrize("lost", ["cache.json", "image.bin", "reward.bin", "words"])
def test_half_a_cache_is_built_again(episodes, little_memory, lost):
    first = load_directory(episodes, minimum_rows=6)
    cache = episodes.with_name("set.cache")
    if lost.endswith(".bin"):
        content = (cache / lost).read_bytes()
        (cache / lost).unlink()  # or `first` would lose its rows
        (cache / lost).write_bytes(content[:-4])
    elif lost == "words":
        (cache / "cache.json").write_text("torn {")
    else:
        (cache / lost).unlink()
    (cache / "image.tmp").write_bytes(b"half")
    assert_equal(load_directory(episodes, minimum_rows=6), first)
    assert not list(cache.glob("*.tmp"))


def test_an_interrupted_build_leaves_no_cache(episodes, little_memory, monkeypatch):
    read, seen = directory_module.read_rows, []

    def interrupted(header):
        seen.append(header)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return read(header)

    monkeypatch.setattr(directory_module, "read_rows", interrupted)
    with pytest.raises(KeyboardInterrupt):
        load_directory(episodes, minimum_rows=6)
    assert [path.name for path in episodes.with_name("set.cache").iterdir()] == ["lock"]
    assert len(load_directory(episodes, minimum_rows=6).lengths) == 3


def test_bad_files_are_named_and_remembered(episodes, little_memory):
    save_raw(episodes / "bad.npz", reward=np.full(ROWS, np.nan))  # found when it is read
    save_raw(episodes / "cut.npz", reward=None)  # found in its header
    with pytest.raises(DataError, match="cut.npz: key 'reward' is missing"):
        load_directory(episodes, minimum_rows=6)
    for _ in range(2):  # built, and mapped
        dataset = load_directory(episodes, minimum_rows=6, skip_bad=True)
        assert [fault.file.name for fault in dataset.skipped] == ["cut.npz", "bad.npz"]
        assert dataset.lengths.tolist() == [9, 6, 8]
    with pytest.raises(DataError, match="cut.npz"):  # not without permission, cache or no cache
        load_directory(episodes, minimum_rows=6)
    (episodes / "cut.npz").unlink()
    with pytest.raises(DataError, match="bad.npz: key 'reward' holds NaN"):
        load_directory(episodes, minimum_rows=6)


def test_no_room_anywhere_is_one_sentence(episodes, little_memory, monkeypatch, tmp_path):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, NEED - 1))
    monkeypatch.setattr(directory_module, "read_rows", None)  # reading would fail
    said = "needs 283 kB .* but 283 kB are free, and of its cache of 283 kB only 283 kB fit on .*"
    with pytest.raises(DataError, match=said + "--config.run.cache, or move some of the 3 "):
        load_directory(episodes, minimum_rows=6)
    (tmp_path / "file").write_text("")
    said = r"cannot be written to .*file/cache/set\S+ \(Not a directory\): name another place with"
    with pytest.raises(DataError, match=said):
        load_directory(episodes, minimum_rows=6, cache=tmp_path / "file" / "cache")
