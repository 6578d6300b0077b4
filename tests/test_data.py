"""Episode files and directories: what is written is read, and what is broken is named."""

from __future__ import annotations

import json
import tracemalloc
import zipfile

import jax
import numpy as np
import pytest
from episodes import arrays, make_episode

from coworld_jax.data import (
    DataError,
    load_directory,
    load_episode,
    memory,
    save_episode,
    summarise,
    validate_directory,
    write_metadata,
)
from coworld_jax.data import directory as directory_module
from coworld_jax.store import sample

ROWS = 9


def save_raw(path, **changes):
    """An episode file with some arrays replaced, or left out where the change is None."""
    values = arrays(make_episode(1, ROWS)) | changes
    np.savez_compressed(path, **{key: v for key, v in values.items() if v is not None})
    return path


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
    assert list(tmp_path.glob("*.npz")) == [path]


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
    """Three episodes of 9, 6 and 8 rows."""
    for index, rows in enumerate((9, 6, 8)):
        save_episode(tmp_path, make_episode(index, rows), name=f"{index:06d}")
    return tmp_path


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
    bad.action[2:4, 1] = (1.5, -1.01)  # two rows outside
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


def test_too_large_a_dataset_is_refused_before_it_is_read(mixed, monkeypatch):
    need = 23 * (64 * 64 * 3 + 4 * (3 + 1 + 1))
    monkeypatch.setattr(directory_module, "read_rows", None)  # reading would fail
    monkeypatch.setattr(directory_module, "host_bytes", lambda: need - 1)
    with pytest.raises(DataError, match="needs 283 kB of memory, but 283 kB are free: move some"):
        load_directory(mixed, minimum_rows=1)


def test_a_containers_limit_counts(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUPS", [(tmp_path, "limit", "used", "inactive_file")])
    assert memory.host_bytes() == 5000 * 1024
    (tmp_path / "limit").write_text("max\n")
    assert memory.host_bytes() == 5000 * 1024
    (tmp_path / "limit").write_text("1000000\n")
    (tmp_path / "used").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 5\ninactive_file 100000\n")
    assert memory.host_bytes() == 400_000  # the cache makes room
    (tmp_path / "used").write_text("2000000\n")
    assert memory.host_bytes() == 0


def test_loading_takes_the_data_and_one_episode(tmp_path):
    for index in range(20):
        save_episode(tmp_path, make_episode(index, 40), name=f"{index:06d}")
    tracemalloc.start()
    dataset = load_directory(tmp_path, minimum_rows=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert dataset.nbytes < peak < 1.15 * dataset.nbytes


# --- broken files ---------------------------------------------------------------------------------


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
    with pytest.raises(DataError, match="000000.npz: key 'action' has 3 .*task has 4 \\(2 more"):
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
    with pytest.raises(DataError, match="No file of .* is good; .*000000.npz"):
        load_directory(mixed, minimum_rows=10, skip_bad=True)


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
