"""Two hundred broken or odd files: each is named, none passes or vanishes, nothing is a traceback.

The files are generated: every kind of damage, for every key that it can strike, in several forms.
All lie in one directory with three good ones, as a user would meet them.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from episodes import ROWS, arrays, assert_same_episode, make_episode

from coworld_jax.data import DataError, load_directory, load_episode, save_episode
from experiments import dataset

CHUNK = 6  # rows that an episode must have
KEYS = ("image", "action", "reward", "discount")
NUMBERS = KEYS[1:]

Make = Callable[[Path], object]
Case = tuple[str, str, Make]  # name of the file, key at fault (empty: the file), what writes it


def whole(**changes: np.ndarray | None) -> bytes:
    """An episode file with arrays replaced, or left out where the change is None."""
    values = {**arrays(make_episode(1, ROWS)), **changes}
    content = io.BytesIO()
    np.savez(content, **{key: value for key, value in values.items() if value is not None})
    return content.getvalue()


def raw(**changes: np.ndarray | None) -> Make:
    return lambda path: path.write_bytes(whole(**changes))


def member(key: str, content: bytes) -> Make:
    """A file in which one array is these bytes."""

    def make(path: Path) -> None:
        path.write_bytes(whole(**{key: None}))
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(f"{key}.npy", content)

    return make


def npy(value: np.ndarray, pickled: bool = False) -> bytes:
    content = io.BytesIO()
    np.lib.format.write_array(content, value, allow_pickle=pickled)
    return content.getvalue()


def filled(key: str, row: int, value: float) -> np.ndarray:
    """The array of a key with one row of another value."""
    array = arrays(make_episode(1, ROWS))[key].astype(np.float64)
    array[row] = value
    return array


def truncated() -> Iterator[Case]:
    content = whole()
    for share in range(0, 100, 5):
        cut = content[: len(content) * share // 100]
        yield f"cut-{share}", "", lambda path, cut=cut: path.write_bytes(cut)


def no_archives() -> Iterator[Case]:
    contents = (
        b"\0" * 4096,
        b"text",
        b"PK\x03\x04",
        b"PK\x05\x06" + b"\0" * 10,
        b"\x89HDF\r\n\x1a\n",
    )
    for index, content in enumerate(contents):
        yield f"bytes-{index}", "", lambda path, content=content: path.write_bytes(content)
    yield "plain-npy", "", lambda path: path.write_bytes(npy(np.zeros(9)))
    yield "directory", "", lambda path: path.mkdir()
    yield "dangling", "", lambda path: path.symlink_to("nowhere")
    yield "loop", "", lambda path: path.symlink_to(path.name)
    yield "empty-archive", "image", lambda path: zipfile.ZipFile(path, "w").close()


def missing() -> Iterator[Case]:
    for count in (1, 2):
        for keys in itertools.combinations(KEYS, count):
            yield f"without-{'-'.join(keys)}", keys[0], raw(**dict.fromkeys(keys))
    for key in KEYS:
        values = {key: None, key.upper(): arrays(make_episode(1, ROWS))[key]}
        yield f"capital-{key}", key, raw(**values)


def dtypes() -> Iterator[Case]:
    image, action = make_episode(1, ROWS)[:2]
    for kind in ("int8", "uint16", "int32", "int64", "float16", "float32", "float64", "bool", "S3"):
        yield f"image-{kind}", "image", raw(image=image.astype(kind))
    for kind in ("int8", "uint8", "int64", "bool", "complex64", "S3", "U3"):
        yield f"action-{kind}", "action", raw(action=action.astype(kind))
    for key in ("reward", "discount"):
        for kind in ("complex64", "S3", "U3", "M8[s]", "m8[s]", "V4"):
            value = np.ones(ROWS, np.int64).astype(kind) if kind != "V4" else np.zeros(ROWS, "V4")
            yield f"{key}-{kind.replace('[', '').replace(']', '')}", key, raw(**{key: value})
    for key in KEYS:
        pickled = npy(np.array([None, {}, "x"] * 3, object), pickled=True)
        yield f"{key}-objects", key, member(key, pickled)
    record = np.zeros(ROWS, [("a", "f4"), ("b", "f4")])
    for key in NUMBERS:
        yield f"{key}-record", key, raw(**{key: record})


def shapes() -> Iterator[Case]:
    frames = (
        (ROWS, 3, 64, 64), (ROWS, 84, 84, 3), (ROWS, 64, 64), (ROWS, 64, 64, 1), (ROWS, 64, 64, 4),
        (64, 64, 3), (ROWS, 1, 64, 64, 3), (ROWS, 0, 0, 3), (),
    )  # fmt: skip
    for shape in frames:
        yield f"image-{'x'.join(map(str, shape))}", "image", raw(image=np.zeros(shape, np.uint8))
    for shape in ((ROWS,), (ROWS, 0), (ROWS, 3, 1), (), (1, ROWS, 3)):
        yield f"action-{'x'.join(map(str, shape))}", "action", raw(action=np.zeros(shape, "f4"))
    for key in ("reward", "discount"):
        for shape in ((ROWS, 2), (ROWS, 1, 1), (1, ROWS), (), (ROWS, 0)):
            value = np.zeros(shape, np.float32)
            yield f"{key}-{'x'.join(map(str, shape))}", key, raw(**{key: value})


def numbers() -> Iterator[Case]:
    for key, value, row in itertools.product(NUMBERS, (np.nan, np.inf, -np.inf), (0, 4, ROWS - 1)):
        yield f"{key}-{value}-{row}", key, raw(**{key: filled(key, row, value)})
    for key in NUMBERS:
        yield f"{key}-too-large", key, raw(**{key: filled(key, 2, 1e300)})
    for index, value in enumerate((-0.01, 1.01, 100.0, -1.0)):
        yield f"discount-outside-{index}", "discount", raw(discount=filled("discount", 3, value))


def lengths() -> Iterator[Case]:
    for rows in range(CHUNK):
        values = {key: value[:rows] for key, value in arrays(make_episode(1, ROWS)).items()}
        yield f"short-{rows}", "image", raw(**values)
    for key, rows in itertools.product(NUMBERS, (0, 1, ROWS - 1, ROWS + 1, 2 * ROWS)):
        value = np.resize(arrays(make_episode(1, ROWS))[key], (rows, 3)[: 1 + (key == "action")])
        yield f"{key}-of-{rows}-rows", key, raw(**{key: value})


def mixed() -> Iterator[Case]:
    for size in (1, 2, 4, 5, 6, 39):
        yield f"actions-of-{size}", "action", raw(action=np.zeros((ROWS, size), np.float32))
    for first in ((4,), (1, 2), (ROWS - 1,), tuple(range(ROWS))):
        flags = np.isin(np.arange(ROWS), (0, *first))
        yield f"episodes-{len(first) + 1}-{first[0]}", "is_first", raw(is_first=flags)


def damaged() -> Iterator[Case]:
    for key in KEYS:
        value = arrays(make_episode(1, ROWS))[key]
        good = npy(value)
        for name, content in {
            "no-magic": b"NUMPYX" + good[6:],
            "version-9": good[:6] + b"\x09\x00" + good[8:],
            "header-only": good[:128],
            "short": good[:-1],
            "long": good + b"\0",
            "nothing": b"",
            "huge": good.replace(b"(9,", b"(999999999,"),
            "negative": good.replace(b"(9,", b"(-9,"),
            "unclosed": good.replace(b"'shape': (", b"'shape': ["),
        }.items():
            yield f"{key}-{name}", key, member(key, content)
    content = bytearray(whole())
    for key in KEYS:
        flipped = content.copy()
        flipped[content.index(f"{key}.npy".encode()) + 170] ^= 0xFF  # stored: the checksum sees it
        yield f"{key}-flipped", key, lambda path, flipped=flipped: path.write_bytes(flipped)


GENERATORS = (
    truncated, no_archives, missing, dtypes, shapes, numbers, lengths, mixed, damaged
)  # fmt: skip
CASES = {name: (key, make) for generator in GENERATORS for name, key, make in generator()}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("two-hundred") / "set"
    for index in range(3):
        save_episode(path, make_episode(index, ROWS), name=f"~good{index}")
    for name, (_, make) in CASES.items():
        make(path / f"{name}.npz")
    return path


def faults_of(directory: Path) -> dict[str, list[tuple[str, str]]]:
    """What ``validate`` prints, by file: key and reason of each fault."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert dataset.validate(directory, minimum_rows=CHUNK, action_size=3) == 1
    *lines, last = printed.getvalue().splitlines()
    assert last == f"{len(lines)} faults."
    found: dict[str, list[tuple[str, str]]] = {}
    for line in lines:
        name, _, reason = line.removeprefix(f"{directory}/").partition(".npz")
        key = reason.split("'")[1] if reason.startswith(": key '") else ""
        found.setdefault(name, []).append((key, reason))
    return found


def test_each_is_named_with_its_key(directory: Path) -> None:
    assert len(CASES) >= 200
    found = faults_of(directory)
    assert found.keys() == CASES.keys()  # every bad file, and no good one
    wrong = {name: found[name] for name, (key, _) in CASES.items() if found[name][0][0] != key}
    assert wrong == {}
    assert all(len(faults) == 1 and len(faults[0][1]) > 15 for faults in found.values())


def test_inspect_and_training_name_some_and_count_the_others(
    directory: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither reads more than it needs to know that something is wrong; both say how much it is."""
    assert dataset.inspect(directory) == 1
    text = capsys.readouterr().out
    (faults,) = re.findall(r"faults +(\d+) in (\d+) files", text)
    assert faults[0] == faults[1] and int(faults[0]) > 190
    assert f"and {int(faults[0]) - 20} more." in text and text.count(f"\n    {directory}/") == 20

    with pytest.raises(DataError, match="validate .* lists all faults, and --config") as info:
        load_directory(directory, minimum_rows=CHUNK, action_size=3)
    named = [fault.file.stem for fault in info.value.faults]
    assert f"({len(named) - 1} more such faults)" in str(info.value) and len(named) > 150
    assert len(set(named)) == len(named) and set(named) <= CASES.keys()
    assert len(str(info.value).splitlines()) == 1


def test_when_they_may_be_left_out_each_is_recorded(directory: Path) -> None:
    loaded = load_directory(directory, minimum_rows=CHUNK, action_size=3, skip_bad=True)
    assert {fault.file.stem for fault in loaded.skipped} == CASES.keys()
    assert len(loaded.skipped) == len(CASES) and loaded.lengths.tolist() == [ROWS] * 3
    for index in range(3):
        episode = load_episode(directory / f"~good{index}.npz")
        assert_same_episode(episode._replace(extras={}), make_episode(index, ROWS))
