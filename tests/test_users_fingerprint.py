"""The fingerprint of a dataset: the same wherever it lies, another when an episode changes."""

from __future__ import annotations

import json
import shutil

import pytest
from episodes import make_episode, save_three

from coworld_jax.data import difference, fingerprint, load_directory, save_episode
from coworld_jax.data import directory as directory_module


def taken(directory, **arguments):
    """As a run finds it after JSON."""
    loaded = load_directory(directory, minimum_rows=1, **arguments)
    return json.loads(json.dumps(fingerprint(loaded)))


@pytest.fixture
def data(tmp_path):
    return save_three(tmp_path / "data")


def test_a_dataset_that_was_moved_or_spelt_otherwise_is_the_same(data, tmp_path, monkeypatch):
    before = taken(data)
    assert list(before) == ["000000.npz", "000001.npz", "000002.npz"]
    assert [rows for rows, _ in before.values()] == [9, 6, 8]
    assert taken(f"{data}/") == before
    (tmp_path / "link").symlink_to(data)
    assert taken(tmp_path / "link") == before
    shutil.copytree(data, tmp_path / "copy")
    assert difference(before, taken(tmp_path / "copy")) == ""
    monkeypatch.setattr(directory_module, "host_bytes", lambda: 1)  # mapped from a cache
    assert taken(data) == before


def test_what_changed_is_said(data):
    before = taken(data)
    for index in range(3, 7):
        save_episode(data, make_episode(index), name=f"{index:06d}")
    names = "000003.npz, 000004.npz, 000005.npz, ..."
    assert difference(before, taken(data)) == f"4 files were added: {names}"
    assert difference(taken(data), before) == f"4 files were removed: {names}"
    for index in range(3, 7):
        (data / f"{index:06d}.npz").unlink()
    (data / "000000.npz").rename(data / "a.npz")
    save_episode(data, make_episode(1, 7), name="000001")
    changed = make_episode(2, 8)
    changed.reward[3] += 1e-3
    save_episode(data, changed, name="000002")
    assert difference(before, taken(data)) == (
        "1 file was added: a.npz; 1 file was removed: 000000.npz; "
        "1 file has another number of rows: 000001.npz; 1 file has other rewards: 000002.npz"
    )


def test_a_file_that_went_bad_may_be_left_out(data):
    before = taken(data)
    whole = (data / "000001.npz").read_bytes()
    (data / "000001.npz").write_bytes(whole[:-200] + bytes(200))
    loaded = load_directory(data, minimum_rows=1, skip_bad=True)
    assert loaded.files == ("000000.npz", "000002.npz")
    left_out = {fault.file.name for fault in loaded.skipped}
    assert difference(before, fingerprint(loaded), left_out) == ""
    assert difference(before, fingerprint(loaded)) == "1 file was removed: 000001.npz"
    broken = bytearray(whole)
    broken[2000] ^= 0xFF  # inside the frames: found out when they are read
    (data / "000001.npz").write_bytes(broken)
    assert fingerprint(load_directory(data, minimum_rows=1, skip_bad=True)) == fingerprint(loaded)
