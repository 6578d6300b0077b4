"""Episode files: one compressed ``.npz`` per episode, as Dreamer's descendants write them.

Rows are steps + 1; row 0 is the reset; ``action[t]`` and ``reward[t]`` led to ``image[t]``. The
headers of the arrays inside are read before the arrays, so that sizes are known, and most faults
found, without decompressing an image.
"""

from __future__ import annotations

import datetime
import math
import shlex
import uuid
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from coworld_jax.data.faults import DataError
from coworld_jax.data.npz import (
    array_names,
    holds_objects,
    missing,
    opened,
    read_array,
    read_form,
)
from coworld_jax.data.replacing import replacing
from coworld_jax.types import Episode

IMAGE_SHAPE = (64, 64, 3)
FLAGS = ("is_first", "is_last", "is_terminal")  # bool or uint8 in released files
ROUNDING = 1e-5  # by which a number may exceed its bounds
_PER_ROW = ("state", "success")  # extras of our own simulators
_OGBENCH = {"observations.npy", "terminals.npy"}
_NUMBERS = "fiub"  # kinds of dtype that become float32 without surprises


class Header(NamedTuple):
    """What a file holds, by the headers of its arrays."""

    path: Path
    rows: int
    action_size: int
    discount_key: str  # "discount", or "is_terminal" where the former is missing
    flags: tuple[str, ...]  # which of `FLAGS` the file has

    @property
    def nbytes(self) -> int:
        """Bytes of the four arrays of an `Episode` in memory."""
        return self.rows * row_bytes(self.action_size)


def row_bytes(action_size: int, state_size: int = 0) -> int:
    """Bytes of one row: a frame, an action, reward and discount, and perhaps a state."""
    return math.prod(IMAGE_SHAPE) + 4 * (action_size + 2 + state_size)


def save_episode(directory: Path | str, episode: Episode, *, name: str | None = None) -> Path:
    """Write ``episode`` into ``directory``, which is made when missing; returns the file's path.

    A reader, or a run that was killed meanwhile, sees the whole file or none.

    Args:
        name: of the file, without ``.npz``; ``{%Y%m%dT%H%M%S}-{uuid4 hex}-{rows}`` if not given.
    """
    if name is None:
        moment = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%S")
        name = f"{moment}-{uuid.uuid4().hex}-{len(episode.reward)}"
    path = Path(directory) / f"{name}.npz"
    arrays = {**episode.extras, **episode._asdict()}
    del arrays["extras"]
    with replacing(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, value in arrays.items():
            with archive.open(f"{key}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asarray(value), allow_pickle=False)
    return path


def load_episode(
    path: Path | str, *, image_shape: tuple[int | None, int | None, int | None] = IMAGE_SHAPE
) -> Episode:
    """Read one episode file, with all of its arrays; ``is_first`` is made where it is missing.

    What else the file holds is left out, as training leaves it: Python objects, which are never
    unpickled, and members that are no arrays.

    Args:
        image_shape: of a frame; None stands for any size.

    Raises:
        DataError: the file is damaged, is no episode, or has a state of another number of rows.
        FileNotFoundError: there is no such file.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no episode file {path}.")
    header = read_header(path, image_shape)
    image, action, reward, discount = read_rows(header)
    with opened(path) as archive:
        arrays = [name for name in archive.namelist() if name.endswith(".npy")]
        extras = {
            name: read_array(path, archive, name)
            for name in (array.removesuffix(".npy") for array in arrays)
            if name not in Episode._fields and not holds_objects(path, archive, name)
        }
    for name in _PER_ROW:
        if name in extras and extras[name].shape[:1] != (header.rows,):
            shape = list(extras[name].shape)
            reason = f"has {shape[0] if shape else 'no'} rows, but 'image' has {header.rows}"
            raise DataError.of(path, name, reason)
    for flag in header.flags:
        extras[flag] = extras[flag].reshape(-1) > 0.5
    if "is_first" not in extras:
        extras["is_first"] = np.arange(header.rows) == 0
    return Episode(image, action, reward, discount, extras)


def read_header(
    path: Path, image_shape: tuple[int | None, int | None, int | None] = IMAGE_SHAPE
) -> Header:
    """Shapes and dtypes of an episode file, without its data.

    Args:
        image_shape: of a frame; None stands for any size.

    Raises:
        DataError: unreadable file, missing key, wrong shape or dtype, or rows that disagree.
    """
    with opened(path) as archive:
        names = set(archive.namelist())
        if "image.npy" not in names and names >= _OGBENCH:
            reason = f"is a file of OGBench and no episode; {import_hint(path)} makes episodes"
            raise DataError.of(path, "", reason)
        discount_key = "discount" if "discount.npy" in names else "is_terminal"
        rows = _check_shape(path, archive, "image", image_shape, "u")[0]
        action = _check_shape(path, archive, "action", (None,), "f")
        lengths = {"action": action[0]}
        lengths["reward"] = _check_shape(path, archive, "reward", (), _NUMBERS)[0]
        if f"{discount_key}.npy" not in names:
            reason = f"{missing(array_names(archive))}; 'is_terminal' would do in its place"
            raise DataError.of(path, "discount", reason)
        lengths[discount_key] = _check_shape(path, archive, discount_key, (), _NUMBERS)[0]
        flags = tuple(flag for flag in FLAGS if f"{flag}.npy" in names)
        for flag in flags:
            lengths[flag] = _check_shape(path, archive, flag, (), _NUMBERS)[0]
    for key, length in lengths.items():
        if length != rows:
            raise DataError.of(path, key, f"has {length} rows, but 'image' has {rows}")
    return Header(path, rows, action[1], discount_key, flags)


def read_rows(header: Header) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """``image`` uint8 ``[R, 64, 64, 3]`` and, as float32, ``action``, ``reward``, ``discount``.

    Raises:
        DataError: damaged bytes, NaN or infinity, a discount outside [0, 1], or several episodes
            in one file.
    """
    with opened(header.path) as archive:
        image = read_array(header.path, archive, "image")
        numbers = _read_numbers(header, archive)
    return image, *numbers


def read_numbers(header: Header) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """``action``, ``reward`` and ``discount`` of `read_rows`, without decompressing the images."""
    with opened(header.path) as archive:
        return _read_numbers(header, archive)


def _read_numbers(
    header: Header, archive: zipfile.ZipFile
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    path, key = header.path, header.discount_key
    action = finite_rows(path, "action", read_array(path, archive, "action"))
    reward = finite_rows(path, "reward", read_array(path, archive, "reward")).reshape(header.rows)
    discount = read_array(path, archive, key).reshape(header.rows)
    discount = discount_rows(path, key, discount)
    if key == "is_terminal":
        discount = 1.0 - discount
    marks = {flag: read_array(path, archive, flag).reshape(-1) > 0.5 for flag in header.flags}
    _check_whole(path, {key: discount == 0.0} | marks)
    return action, reward, discount


def _check_whole(path: Path, marks: Mapping[str, np.ndarray]) -> None:
    """Make sure that a file holds one episode.

    Args:
        marks: bool ``[rows]`` by key: where an episode ends, or for ``is_first`` where it begins.

    Raises:
        DataError: it does not; the message names the row.
    """
    for key, mark in marks.items():
        rows = np.flatnonzero(mark)
        inside = rows[rows > 0] if key == "is_first" else rows[rows < len(mark) - 1]
        if inside.size:
            value = "0" if key == "discount" else "set"
            reason = (
                f"is {value} in row {inside[0]} of rows 0 to {len(mark) - 1}: the file holds more "
                "than one episode, and each needs a file of its own"
            )
            raise DataError.of(path, key, reason)


def finite_rows(path: Path, key: str, value: np.ndarray) -> np.ndarray:
    """``value`` ``[rows, ...]`` as float32.

    Raises:
        DataError: it holds NaN or infinity, or what is infinity in float32.
    """
    with np.errstate(over="ignore"):  # a float64 beyond float32 shows as infinity below
        value = value.astype(np.float32)
    bad = ~np.isfinite(value).reshape(len(value), -1).all(axis=1)
    if bad.any():
        rows = np.flatnonzero(bad)
        reason = f"holds NaN or infinity in {rows.size} of {bad.size} rows, first in row {rows[0]}"
        raise DataError.of(path, key, reason)
    return value


def acts_outside(action: np.ndarray) -> np.ndarray:
    """Whether an action ``[R, A]`` has a coordinate outside [-1, 1], bool ``[R]``.

    Rounding, such as 1.000001, does not count.
    """
    flags: np.ndarray = (np.abs(action) > 1.0 + ROUNDING).any(axis=1)
    return flags


def discount_rows(path: Path, key: str, value: np.ndarray) -> np.ndarray:
    """``value`` ``[rows]`` as float32 in [0, 1]; rounding, such as 1.0000001, is taken away.

    Raises:
        DataError: a row is outside [0, 1], NaN or infinite.
    """
    value = finite_rows(path, key, value)
    outside = np.flatnonzero((value < -ROUNDING) | (value > 1.0 + ROUNDING))
    if outside.size:
        row = outside[0]
        raise DataError.of(path, key, f"is {value[row]:g} in row {row}, outside [0, 1]")
    return np.clip(value, 0.0, 1.0)


def import_hint(source: Path) -> str:
    """The command that makes episodes of a foreign dataset."""
    return f"`python -m experiments.dataset import {shlex.quote(str(source))} NEW_DIR`"


def _check_shape(
    path: Path, archive: zipfile.ZipFile, key: str, tail: tuple[int | None, ...], kinds: str
) -> tuple[int, ...]:
    """Shape ``[rows, *tail]`` of an array; None stands for any size, and [rows, 1] for [rows]."""
    shape, dtype, _ = read_form(path, archive, key)
    wanted = {"u": "uint8", "f": "a float"}[kinds] if kinds in ("u", "f") else "a number"
    if dtype.kind not in kinds or (kinds == "u" and dtype != np.uint8):
        raise DataError.of(path, key, f"has dtype {dtype}, but {wanted} is needed")
    found = shape[:1] if tail == () and shape[1:] == (1,) else shape
    fits = len(found) == 1 + len(tail) and all(
        size == want or (want is None and size > 0) for size, want in zip(found[1:], tail)
    )
    if not fits:
        free = "actions" if key == "action" else "size"
        sizes = ", ".join(free if size is None else str(size) for size in tail)
        needed = f"[rows, {sizes}]" if tail else "[rows]"
        reason = f"has shape {list(shape)}, but {needed} is needed"
        if key == "image" and len(shape) == 4 and 3 in (shape[1], shape[3]):
            reason += f"; {import_hint(path.parent)} resizes the frames"
        raise DataError.of(path, key, reason)
    return found
