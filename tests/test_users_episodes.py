"""Episode files of others: what training does not read is no fault, and rounding is none."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from episodes import ROWS, make_episode, save_raw

from coworld_jax.data import DataError, load_directory, load_episode, summarise, validate_directory
from coworld_jax.data.formats import export_minari


def test_a_missing_discount_names_what_would_do(tmp_path):
    save_raw(tmp_path / "x.npz", discount=None)
    with pytest.raises(DataError, match="'discount' is missing; the file has: action, image, rewa"
                       "rd; 'is_terminal' would do in its place"):  # fmt: skip
        load_directory(tmp_path, minimum_rows=1)


@pytest.mark.parametrize("key", ["discount", "is_terminal"])
def test_a_discount_may_exceed_its_bounds_by_rounding(tmp_path, key):
    value = np.full(ROWS, 1.0000001 if key == "discount" else -1e-7)
    value[-1] = -1e-7 if key == "discount" else 1.000001
    save_raw(tmp_path / "x.npz", **{"discount": None, key: value})
    assert validate_directory(tmp_path, minimum_rows=1) == []
    loaded = load_directory(tmp_path, minimum_rows=1)
    np.testing.assert_array_equal(loaded.discount, [1.0] * (ROWS - 1) + [0.0])
    value[2] = 1.001
    save_raw(tmp_path / "x.npz", **{"discount": None, key: value})
    with pytest.raises(DataError, match=f"{key!r} is 1.001 in row 2, outside"):
        load_directory(tmp_path, minimum_rows=1)


UNUSED = {
    "objects": {"info": np.array([{"a": 1}] * ROWS, object)},
    "texts": {"info": np.array(["push"] * ROWS)},
    "other rows": {"info": np.arange(ROWS - 1)},
    "more rows": {"info": np.zeros((ROWS + 4, 2))},
    "single": {"info": np.array(3.0)},
    "nothing": {"info": np.zeros((0, 3))},
}


@pytest.mark.parametrize("name", UNUSED)
def test_a_key_that_is_not_used_is_no_fault(tmp_path, name):
    path = save_raw(tmp_path / "x.npz", **UNUSED[name])
    assert validate_directory(tmp_path, minimum_rows=1) == []
    assert summarise(tmp_path)[1] == []
    wanted = make_episode(1, ROWS)
    np.testing.assert_array_equal(load_directory(tmp_path, minimum_rows=1).image, wanted.image)
    extras = load_episode(path).extras
    assert set(extras) == {"is_first"} | (set() if name == "objects" else {"info"})
    with pytest.raises(DataError, match="x.npz: key 'info' .* Minari takes"):
        export_minari(tmp_path, tmp_path.with_name("out-v0"))
    assert not tmp_path.with_name("out-v0").exists()


@pytest.mark.parametrize("state", [np.zeros((ROWS - 1, 2)), np.array(1.0)])
def test_a_state_of_other_rows_is_a_fault(tmp_path, state):
    save_raw(tmp_path / "x.npz", state=state)
    (fault,) = validate_directory(tmp_path, minimum_rows=1)
    assert fault.key == "state" and "rows, but 'image' has 9" in fault.reason


def test_a_member_that_is_no_array_is_no_fault(tmp_path):
    with zipfile.ZipFile(save_raw(tmp_path / "x.npz"), "a") as archive:
        archive.writestr("readme.txt", "made on a Tuesday")
    assert validate_directory(tmp_path, minimum_rows=1) == []
    assert set(load_episode(tmp_path / "x.npz").extras) == {"is_first"}


@pytest.mark.parametrize("key", ["is_first", "is_last", "is_terminal"])
def test_a_flag_of_objects_is_a_fault_for_both(tmp_path, key):
    save_raw(tmp_path / "x.npz", **{key: np.array([False] * ROWS, object)})
    (fault,) = validate_directory(tmp_path, minimum_rows=1)
    assert fault.key == key and "Python objects" in fault.reason
    with pytest.raises(DataError, match=f"{key!r} holds Python objects"):
        load_directory(tmp_path, minimum_rows=1)
