"""Broken files and directories: each is named by file and key, none gets through."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from episodes import ROWS, arrays, make_episode, save_raw, save_three

from coworld_jax.data import DataError, load_directory, save_episode, validate_directory


@pytest.fixture
def mixed(tmp_path):
    return save_three(tmp_path)


def with_value(key, row, value):
    changed = arrays(make_episode(1, ROWS))[key].astype(np.float64)
    changed[row] = value
    return changed


def cut(path):
    """The file without its second half."""
    whole = save_raw(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def flip(path):
    """One wrong byte inside the compressed images."""
    with zipfile.ZipFile(save_raw(path)) as archive:
        middle = archive.getinfo("image.npy").header_offset + 2000
    content = bytearray(path.read_bytes())
    content[middle] ^= 0xFF
    path.write_bytes(content)


def short_member(path):
    """A header that claims 1000 times the data."""
    save_raw(path, action=None)
    with zipfile.ZipFile(path, "a") as archive, archive.open("action.npy", "w") as member:
        header = {"descr": "<f4", "fortran_order": False, "shape": (ROWS * 1000, 3)}
        np.lib.format.write_array_header_1_0(member, header)
        member.write(np.zeros((ROWS, 3), np.float32).tobytes())


def unclosed(path):
    """An npy header whose brackets do not close."""
    save_raw(path, action=None)
    with zipfile.ZipFile(path, "a") as archive, archive.open("action.npy", "w") as member:
        header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (9, (3), }\n"
        member.write(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)


def renamed(path):
    """A member whose name is damaged, with a line break in it."""
    content = save_raw(path).read_bytes()
    path.write_bytes(content.replace(b"image.npy", b"image.np\n"))


def raw(**changes):
    return lambda path: save_raw(path, **changes)


WIDE = np.zeros((ROWS, 84, 84, 3), np.uint8)
BROKEN = [
    ("text", lambda path: path.write_text("no zip"), "", "is no npz file, or is cut short"),
    ("empty", lambda path: path.write_bytes(b""), "", "is no npz file, or is cut short"),
    ("directory", lambda path: path.mkdir(), "", "is no npz file"),
    ("cut", cut, "", "is no npz file, or is cut short"),
    ("flipped", flip, "image", "cannot be read"),
    ("claims", short_member, "action", "is cut short or damaged"),
    ("unclosed", unclosed, "action", "cannot be read"),
    ("renamed", renamed, "image", "is missing; the file has: action, discount, image.np , reward"),
    ("no image", raw(image=None), "image", "is missing; the file has: action, discount, reward"),
    ("no action", raw(action=None), "action", "is missing"),
    ("no reward", raw(reward=None), "reward", "is missing"),
    ("no discount", raw(discount=None), "discount", "is missing"),
    ("float image", raw(image=np.zeros((ROWS, 64, 64, 3))), "image", "has dtype float64"),
    ("int action", raw(action=np.zeros((ROWS, 3), int)), "action", "has dtype int64"),
    ("text reward", raw(reward=np.array(["a"] * ROWS)), "reward", "has dtype <U1"),
    ("objects", raw(action=np.array([None] * ROWS)), "action", "holds Python objects"),
    ("84 pixels", raw(image=WIDE), "image", r"has shape \[9, 84, 84, 3\], but \[rows, 64, 64, 3\]"),
    ("channels first", raw(image=np.zeros((ROWS, 3, 64, 64), np.uint8)), "image", "has shape"),
    ("flat action", raw(action=np.zeros(ROWS)), "action", r"has shape \[9\], but \[rows, actions"),
    ("no coordinates", raw(action=np.zeros((ROWS, 0))), "action", "has shape"),
    ("two rewards", raw(reward=np.zeros((ROWS, 2))), "reward", r"has shape \[9, 2\]"),
    ("fewer rewards", raw(reward=np.zeros(8)), "reward", "has 8 rows, but 'image' has 9"),
    ("fewer actions", raw(action=np.zeros((8, 3))), "action", "has 8 rows, but 'image' has 9"),
    ("NaN action", raw(action=with_value("action", 4, np.nan)), "action", "first in row 4"),
    ("infinite reward", raw(reward=with_value("reward", 5, np.inf)), "reward", "first in row 5"),
    ("beyond float32", raw(reward=with_value("reward", 2, 1e300)), "reward", "first in row 2"),
    ("NaN discount", raw(discount=with_value("discount", 8, np.nan)), "discount", "first in row 8"),
    ("discount of 2", raw(discount=with_value("discount", 3, 2.0)), "discount", "is 2 in row 3"),
    ("two episodes", raw(is_first=np.arange(ROWS) % 5 == 0), "is_first", "is set in row 5"),
    ("short", lambda path: np.savez(path, **arrays(make_episode(0, 5))), "image", "has 5 rows, "),
    ("mixed", raw(action=np.zeros((ROWS, 2))), "action", "has 2 coordinates, but most files"),
]  # fmt: skip


@pytest.mark.parametrize(("write", "key", "reason"), [case[1:] for case in BROKEN],
                         ids=[case[0] for case in BROKEN])  # fmt: skip
def test_bad_files_are_named(tmp_path, write, key, reason):
    for index in range(2):
        save_episode(tmp_path, make_episode(index, ROWS), name=f"good{index}")
    bad = tmp_path / "bad.npz"
    write(bad)
    (fault,) = validate_directory(tmp_path, minimum_rows=6)
    assert fault.file == bad and fault.key == key
    named = f"key '{key}' " if key else ""
    with pytest.raises(DataError, match=f"bad.npz:? {named}.*{reason}.*validate.*skip_bad") as info:
        load_directory(tmp_path, minimum_rows=6)
    assert len(str(info.value).splitlines()) == 1 and info.value.faults == (fault,)
    dataset = load_directory(tmp_path, minimum_rows=6, skip_bad=True)
    assert dataset.skipped == (fault,)
    assert dataset.lengths.tolist() == [ROWS, ROWS] and len(dataset.image) == 2 * ROWS
    np.testing.assert_array_equal(dataset.image[ROWS:], make_episode(1, ROWS).image)


def test_the_task_decides_the_action_size(mixed):
    with pytest.raises(
        DataError, match="first of 3 faults: .*000000.npz: key 'action' has 3 .*has 4"
    ):
        load_directory(mixed, minimum_rows=1, action_size=4)


def test_directories_without_episodes(tmp_path):
    with pytest.raises(DataError, match="nowhere is no directory"):
        load_directory(tmp_path / "nowhere", minimum_rows=1)
    with pytest.raises(DataError, match="holds no episode files"):
        load_directory(tmp_path, minimum_rows=1)
    save_episode(tmp_path / "train_eps", make_episode(0))
    (fault,) = validate_directory(tmp_path, minimum_rows=1)
    assert fault.file == tmp_path and "train_eps has some" in fault.reason


def test_nothing_good_is_an_error_also_when_bad_files_may_be_skipped(mixed):
    for skip_bad in (False, True):
        with pytest.raises(DataError, match="No file of .* is good; .*000000.npz"):
            load_directory(mixed, minimum_rows=10, skip_bad=skip_bad)


def test_no_damage_gets_through(tmp_path):
    """Random bytes overwritten, removed or doubled: a sentence, or the very same episode."""
    rng = np.random.default_rng(3)
    whole = save_raw(tmp_path / "x.npz").read_bytes()
    wanted, refused = make_episode(1, ROWS), 0
    for _ in range(150):
        content = bytearray(whole)
        first, size = int(rng.integers(len(whole))), int(rng.integers(1, 60))
        match int(rng.integers(3)):
            case 0:
                content[first : first + size] = rng.bytes(len(content[first : first + size]))
            case 1:
                del content[first : first + size]
            case _:
                content[first:first] = content[first : first + size]
        (tmp_path / "x.npz").write_bytes(content)
        try:
            dataset = load_directory(tmp_path, minimum_rows=ROWS, action_size=3)
        except DataError:
            refused += 1
        else:
            np.testing.assert_array_equal(dataset.image, wanted.image)
            np.testing.assert_array_equal(dataset.action, wanted.action)
            np.testing.assert_array_equal(dataset.reward, wanted.reward)
    assert refused > 100
