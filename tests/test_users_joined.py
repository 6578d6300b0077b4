"""Several episodes in one file: the row where one ends is named, and imports cut them apart."""

from __future__ import annotations

import json

import numpy as np
import pytest
from episodes import ROWS, make_episode, save_raw
from test_data_formats import FIRST, save_ogbench, save_vd4rl

from coworld_jax.data import DataError, load_directory, load_episode, validate_directory
from coworld_jax.data.formats import import_episodes


def flag(*rows, dtype=bool):
    return np.isin(np.arange(ROWS), rows).astype(dtype)


LAST = ROWS - 1
JOINED = {
    "discount": ({"discount": 1.0 - flag(4, LAST)}, "discount", "is 0 in row 4"),
    "first row": ({"discount": 1.0 - flag(0)}, "discount", "is 0 in row 0"),
    "column": ({"discount": 1.0 - flag(3)[:, None]}, "discount", "is 0 in row 3"),
    "terminal": ({"is_terminal": flag(2, LAST)}, "is_terminal", "is set in row 2"),
    "no discount": (
        {"discount": None, "is_terminal": flag(2, dtype=np.float32)}, "is_terminal", "row 2",
    ),
    "last": ({"is_last": flag(5, LAST, dtype=np.uint8)}, "is_last", "is set in row 5"),
    "row before": ({"is_last": flag(LAST - 1)}, "is_last", f"is set in row {LAST - 1}"),
    "first": ({"is_first": flag(0, 5)}, "is_first", "is set in row 5"),
    "second row": ({"is_first": flag(0, 1)}, "is_first", "is set in row 1"),
    "only first": ({"is_first": flag(LAST)}, "is_first", f"is set in row {LAST}"),
}  # fmt: skip


@pytest.mark.parametrize("name", JOINED)
def test_an_end_before_the_last_row_is_a_fault_that_names_the_row(tmp_path, name):
    changes, key, reason = JOINED[name]
    path = save_raw(tmp_path / "x.npz", **changes)
    (fault,) = validate_directory(tmp_path, minimum_rows=1)
    assert (fault.file, fault.key) == (path, key) and reason in fault.reason
    assert "more than one episode, and each needs a file of its own" in fault.reason
    with pytest.raises(DataError, match=reason):
        load_directory(tmp_path, minimum_rows=1)


WHOLE = {
    "no flags": {},
    "ends": {"discount": 1.0 - flag(LAST), "is_terminal": flag(LAST), "is_last": flag(LAST)},
    "time limit": {"is_terminal": flag(), "is_last": flag(LAST), "is_first": flag(0)},
    "no end": {"discount": None, "is_terminal": flag(dtype=np.uint8)},
    "first is not set": {"is_first": flag()},
    "small discounts": {"discount": np.full(ROWS, 0.01)},
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_episodes_load_as_before(tmp_path, name):
    save_raw(tmp_path / "x.npz", **WHOLE[name])
    assert validate_directory(tmp_path, minimum_rows=1) == []
    loaded = load_directory(tmp_path, minimum_rows=1)
    np.testing.assert_array_equal(loaded.image, make_episode(1, ROWS).image)
    assert load_episode(tmp_path / "x.npz").extras["is_first"].shape == (ROWS,)


def test_a_flag_of_another_length_is_a_fault(tmp_path):
    save_raw(tmp_path / "x.npz", is_last=np.zeros(ROWS - 1, bool))
    with pytest.raises(DataError, match="'is_last' has 8 rows, but 'image' has 9"):
        load_directory(tmp_path, minimum_rows=1)


def times(directory):
    """Time steps of the frames of each episode (frame ``t`` shows ``8 t``)."""
    episodes = [load_episode(path) for path in sorted(directory.glob("*.npz"))]
    return [(episode.image[:, 0, 0, 0] // 8).tolist() for episode in episodes], episodes


def test_an_import_cuts_where_the_task_ends_and_goes_on(tmp_path):
    """OGBench's masks are 0 wherever the goal is reached, and its trajectories go on."""
    masks = np.ones(12, np.float32)
    masks[1:3] = 0.0  # reached in the third frame, kept in the fourth, left in the fifth
    source = save_ogbench(tmp_path / "x.npz", masks=masks)
    imported = import_episodes(source, tmp_path / "out")
    assert (imported.split, imported.episodes, imported.rows) == (1, 4, 12)
    assert json.loads((tmp_path / "out" / "import.json").read_text())["split"] == 1
    assert validate_directory(tmp_path / "out", minimum_rows=1) == []
    frames, episodes = times(tmp_path / "out")
    assert frames == [[1, 2, 3], [4, 5], [11, 12, 13], [21, 22, 23, 24]]
    assert [episode.discount[-1] for episode in episodes] == [0, 1, 1, 1]
    assert [episode.reward.tolist() for episode in episodes[:2]] == [[0, 20, 30], [0, 50]]
    assert episodes[1].action[0].tolist() == [0, 0] and episodes[1].discount[0] == 1
    assert episodes[1].extras["qpos"][:, 0].tolist() == [4, 5]


def test_a_shard_whose_discount_is_0_inside_is_cut_too(tmp_path):
    discount = np.ones(12)
    discount[[0, 6, 11]] = 0.0  # a reset, a frame inside and the last one
    import_episodes(save_vd4rl(tmp_path / "x.hdf5", discount=discount), tmp_path / "out")
    frames, episodes = times(tmp_path / "out")
    assert frames == [list(range(1, 6)), [11, 12], [12, 13], list(range(FIRST[2], FIRST[2] + 4))]
    assert [episode.discount[-1] for episode in episodes] == [1, 0, 1, 0]
    assert all(episode.discount[0] == 1 for episode in episodes)
