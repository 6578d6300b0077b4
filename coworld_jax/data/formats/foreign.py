"""What readers of foreign datasets share: the shape of their answer and the checks on it."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from coworld_jax.data.episodes import IMAGE_SHAPE, discount_rows, finite_rows
from coworld_jax.data.faults import DataError
from coworld_jax.data.formats.units import Units
from coworld_jax.data.npz import explained, missing
from coworld_jax.types import Episode

PIXELS = IMAGE_SHAPE[0]
FILTER = "hamming"
"""How frames of another size are resized, a filter of Pillow.

Of Pillow's filters it comes closest to frames that the simulator renders at 64 pixels itself: mean
absolute error 1.48 of 255 for walker frames rendered at 84 (bicubic 1.54, bilinear 1.68, Lanczos
1.70, box 1.77, nearest 2.24), and 1.11 for 64-pixel frames that were enlarged to 84 by cubic
interpolation, as V-D4RL's conversion script does (Lanczos 1.00, bicubic 1.15, box 1.24, nearest
1.47, bilinear 1.60). It has no negative weights, so that edges get no rings.
"""
_FLOATS, _NUMBERS = "f", "fiub"
_COMPRESSION = 1100  # deflate cannot make anything smaller by more than that


class Request(NamedTuple):
    """What a user may have to say about a source; most sources need nothing."""

    image_key: str | None = None  # the array of frames, where there are several
    rewards: Path | None = None  # .npy of rewards, where the source holds none
    drop_cut: bool = False  # leave out an episode that the edge of its file cuts


class Found(NamedTuple):
    """One episode of a source; frames still have the source's size."""

    episode: Episode
    left_out: tuple[str, ...] = ()  # arrays of the source that an episode file has no place for
    name: str | None = None  # of the file that it was once exported from
    units: Units | None = None  # that its actions were scaled from


class Cut(NamedTuple):
    """What a file holds of an episode that its edge cuts, left out because the user wants that."""

    rows: int


def led(values: np.ndarray) -> np.ndarray:
    """Rows of transitions ``[R - 1, ...]`` as rows that led to a frame ``[R, ...]``.

    A transition starts at its frame in most formats, and ends at it here: zeros for the reset go
    before the first one.
    """
    return np.concatenate([np.zeros((1, *values.shape[1:]), values.dtype), values])


def split_at_ends(found: Found) -> list[Found]:
    """Episodes that end where the task does, of one that goes on after its discount was 0.

    The next one begins with the frame of the end, as after a reset. Rows between ends that follow
    each other are left out, and an episode of one row is: there is nothing to be earned.
    """
    episode, ended = found.episode, found.episode.discount == 0.0
    if len(ended) < 2:
        return []
    if not ended[:-1].any():
        return [found]
    before, after = led(ended[:-1]), led(ended[:0:-1])[::-1]
    starts = [0, *np.flatnonzero(ended & ~after)]
    stops = [*(np.flatnonzero(ended & ~before) + 1), len(ended)]
    pieces = []
    for start, stop in zip(starts, stops, strict=True):
        if stop - start < 2:  # nothing was done in it
            continue
        image, action, reward, discount = (value[start:stop].copy() for value in episode[:4])
        if ended[start]:
            action[0], reward[0], discount[0] = 0.0, 0.0, 1.0
        extras = {
            key: value[start:stop] if per_row(value, len(ended)) else value
            for key, value in episode.extras.items()
        }
        part = Episode(image, action, reward, discount, extras)
        pieces.append(found._replace(episode=part, name=None))
    return pieces


def action_rows(
    path: Path, key: str, value: np.ndarray, rows: int, units: Units | None = None
) -> np.ndarray:
    """``value`` ``[rows, A]`` as float32, scaled from ``units`` where there are some.

    Raises:
        DataError: other shape, no floats, NaN or infinity, or units of another size.
    """
    if value.dtype.kind not in _FLOATS:
        reason = f"has dtype {value.dtype}, but actions are continuous here: floats are needed"
        raise DataError.of(path, key, reason)
    if value.ndim != 2 or len(value) != rows or not value.shape[1]:
        reason = f"has shape {list(value.shape)}, but [{rows}, actions] is needed"
        raise DataError.of(path, key, reason)
    if units is not None and units.low.size != value.shape[1]:
        reason = f"has {value.shape[1]} coordinates, but the action space has {units.low.size}"
        raise DataError.of(path, key, reason)
    return finite_rows(path, key, value if units is None else units.scaled(value))


def number_rows(path: Path, key: str, value: np.ndarray, rows: int) -> np.ndarray:
    """``value`` ``[rows]`` or ``[rows, 1]`` as float32 ``[rows]``.

    Raises:
        DataError: other shape, no numbers, NaN or infinity.
    """
    return finite_rows(path, key, _column(path, key, value, rows))


def share_rows(path: Path, key: str, value: np.ndarray, rows: int) -> np.ndarray:
    """`number_rows` of a discount or a flag, in [0, 1].

    Raises:
        DataError: as `number_rows`, or outside [0, 1].
    """
    return discount_rows(path, key, _column(path, key, value, rows))


def _column(path: Path, key: str, value: np.ndarray, rows: int) -> np.ndarray:
    if value.dtype.kind not in _NUMBERS:
        raise DataError.of(path, key, f"has dtype {value.dtype}, but a number is needed")
    if value.shape not in ((rows,), (rows, 1)):
        raise DataError.of(path, key, f"has shape {list(value.shape)}, but [{rows}] is needed")
    return value.reshape(rows)


def check_frames(path: Path, key: str, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Frames are uint8 ``[rows, S, S, 3]``.

    Raises:
        DataError: they are not.
    """
    if dtype != np.uint8:
        raise DataError.of(path, key, f"has dtype {dtype}, but frames are uint8")
    if len(shape) != 4 or shape[3] != 3 or shape[1] != shape[2] or not shape[1]:
        reason = f"has shape {list(shape)}, but square frames [rows, S, S, 3] are needed"
        raise DataError.of(path, key, reason)


def resize(frames: np.ndarray) -> np.ndarray:
    """uint8 ``[R, S, S, 3]`` to ``[R, 64, 64, 3]``, by `FILTER` where the size differs."""
    if frames.shape[1] == PIXELS:
        return np.ascontiguousarray(frames)
    resample = Image.Resampling[FILTER.upper()]
    small = np.empty((len(frames), *IMAGE_SHAPE), np.uint8)
    for row, frame in enumerate(frames):
        picture = Image.fromarray(np.ascontiguousarray(frame))
        small[row] = np.asarray(picture.resize((PIXELS, PIXELS), resample))
    return small


def hdf5() -> ModuleType:
    """The package that reads hdf5, which only imports need.

    Raises:
        DataError: it is not installed.
    """
    try:
        import h5py
    except ImportError as error:
        raise DataError(
            "Reading hdf5 files needs h5py: install the extra `data`, for example "
            "`bash launch/setup_env.sh envs,data,dev`."
        ) from error
    module: ModuleType = h5py
    return module


@contextlib.contextmanager
def opened_hdf5(path: Path) -> Iterator[Any]:
    """The root group of an hdf5 file.

    Damage to the structure of such a file can show at every access to it, also at asking whether
    a key is there: so all that is done with it is explained.

    Raises:
        DataError: it is none, is cut short, or is damaged.
    """
    package = hdf5()
    with contextlib.ExitStack() as stack:
        with explained(path, "", "is no hdf5 file, or is cut short"):
            file = stack.enter_context(package.File(path, "r"))
        with explained(path, ""):
            yield file


def member(path: Path, group: Any, key: str) -> Any:
    """The array of an hdf5 group, not yet read.

    Raises:
        DataError: it is missing, or is a group.
    """
    name = f"{group.name.strip('/')}/{key}".strip("/")
    if key not in group:
        raise DataError.of(path, name, missing(group.keys()))
    if not isinstance(group[key], hdf5().Dataset):
        raise DataError.of(path, name, f"holds {', '.join(group[key])} instead of an array")
    return group[key]


def read_all(path: Path, dataset: Any, rows: slice = slice(None)) -> np.ndarray:
    """Rows of an hdf5 array.

    Raises:
        DataError: its bytes are damaged, or it is a single value.
    """
    key = dataset.name.strip("/")
    if not dataset.shape:
        raise DataError.of(path, key, "is a single value instead of an array")
    claimed = math.prod(dataset.shape) * dataset.dtype.itemsize
    if claimed > _COMPRESSION * path.stat().st_size:
        reason = f"is damaged: it claims {claimed} bytes in a file of {path.stat().st_size}"
        raise DataError.of(path, key, reason)
    with explained(path, key):
        return np.asarray(dataset[rows])


def per_row(value: np.ndarray, rows: int) -> bool:
    """Whether an array can be an extra of an episode: numbers, one row for each frame."""
    return value.dtype.kind in _NUMBERS and value.ndim > 0 and len(value) == rows


def some_of(names: Iterable[str]) -> str:
    """The first few names, for a message."""
    names = list(names)
    return ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
