"""An offline dataset: a directory of episode files, as flat arrays in memory or on the disk.

Sizes come from the files' headers first. So the need of memory is known before anything is
loaded, the arrays are made once, and the peak is the data and one episode.
"""

from __future__ import annotations

import collections
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax.data.episodes import (
    IMAGE_SHAPE,
    Header,
    acts_outside,
    import_hint,
    load_episode,
    read_header,
    read_rows,
)
from coworld_jax.data.faults import DataError, Fault
from coworld_jax.data.mapped import Fill, Mapped, Rows, cache_place, mapped_rows
from coworld_jax.data.memory import format_bytes, host_bytes
from coworld_jax.data.metadata import METADATA_NAME, UNFINISHED, read_metadata
from coworld_jax.store import EpisodeStore

# XLA's CPU backend takes over a NumPy buffer, instead of copying it, if it is aligned like this.
_ALIGNMENT = 64
_UNFINISHED = (
    "says that this collection is not finished: its command goes on where it was interrupted, or "
    "delete this file to take the episodes as they are"
)
_HDF5 = (".hdf5", ".h5")
_LOADED_SHARE = 0.8  # of the free memory that a loaded dataset may take; training needs the rest


class Dataset(NamedTuple):
    """Episodes end to end, ``N`` rows in all, on the host. Arrays are read-only."""

    directory: Path
    image: np.ndarray  # uint8 [N, 64, 64, 3]
    action: np.ndarray  # float32 [N, A]
    reward: np.ndarray  # float32 [N]
    discount: np.ndarray  # float32 [N]
    starts: np.ndarray  # int32 [episodes], first row of each episode
    lengths: np.ndarray  # int32 [episodes], its rows
    files: tuple[str, ...]  # name of its file
    metadata: dict[str, Any] | None  # dataset.json, if there is one
    skipped: tuple[Fault, ...]  # why files were left out; empty unless that was allowed
    cache: Path | None  # where the arrays are mapped from, if the memory could not hold them

    @property
    def nbytes(self) -> int:
        """Bytes of the arrays."""
        return sum(array.nbytes for array in self[1:5])

    @property
    def action_size(self) -> int:
        """Coordinates of an action in the files."""
        return self.action.shape[1]

    @property
    def returns(self) -> np.ndarray:
        """Undiscounted return of each episode, float64 ``[episodes]``."""
        return np.add.reduceat(self.reward, self.starts, dtype=np.float64)

    @property
    def actions_outside(self) -> float:
        """Share of env_steps with a coordinate of the action outside [-1, 1], in [0, 1].

        Resets are no env_steps. Rounding, such as 1.000001, does not count.
        """
        steps = len(self.action) - len(self.starts)
        flags = acts_outside(self.action)
        flags[self.starts] = False
        return float(flags.sum() / max(steps, 1))

    def padded_action(self, action_size: int) -> np.ndarray:
        """``action`` with zeros in the surplus coordinates, float32 ``[N, action_size]``.

        Raises:
            ValueError: the files have more coordinates than ``action_size``.
        """
        surplus = action_size - self.action_size
        if surplus < 0:
            raise ValueError(
                f"{self.directory} has actions of {self.action_size} coordinates, which an agent "
                f"with {action_size} cannot read: give it at least as many."
            )
        return self.action if surplus == 0 else np.pad(self.action, ((0, 0), (0, surplus)))

    def store(self, action_size: int) -> EpisodeStore:
        """The dataset on the default device, with actions of ``action_size`` coordinates.

        On a CPU the store shares the memory of these arrays.

        Raises:
            ValueError: the files have more coordinates than ``action_size``.
        """
        image, action, reward, discount = jax.device_put(
            (self.image, self.padded_action(action_size), self.reward, self.discount),
            may_alias=True,
        )
        return EpisodeStore(
            image,
            action,
            reward,
            discount,
            state=jnp.zeros((len(self.reward), 0), jnp.float32),  # the target is seen, not read
            starts=jnp.asarray(self.starts),
            lengths=jnp.asarray(self.lengths),
            episodes=jnp.int32(len(self.lengths)),
        )


def load_directory(
    directory: Path | str,
    *,
    minimum_rows: int,
    action_size: int | None = None,
    skip_bad: bool = False,
    cache: Path | str | None = None,
) -> Dataset:
    """Read every ``*.npz`` of ``directory``, in the order of their names.

    What the memory cannot hold is unpacked once into a cache on the disk and mapped from there:
    the arrays look the same, and only the rows that are asked for are read.

    Args:
        minimum_rows: of an episode; a chunk has to fit into it.
        action_size: coordinates that every file must have; those of most files if not given.
        skip_bad: leave bad files out and record why, instead of refusing the directory.
        cache: folder that the cache is made in; beside the dataset if not given.

    Raises:
        DataError: bad files, no (good) files, a bad ``dataset.json``, or neither memory nor disk
            for the rows. The message is one sentence.
    """
    directory = Path(directory)
    paths = episode_files(directory)
    metadata = read_metadata(directory)
    if metadata is None and (directory / UNFINISHED).exists():
        raise DataError.of(directory / UNFINISHED, "", _UNFINISHED)
    headers, faults = read_headers(paths, minimum_rows, action_size)
    if not headers:
        raise _all_bad(directory, faults)
    if faults and not skip_bad:
        raise _refusal(directory, faults)
    need, free = sum(header.nbytes for header in headers), host_bytes()

    def fill(put: Callable[[Rows], None]) -> tuple[list[int], list[Fault]]:
        lengths, unreadable = _read_all(directory, headers, put, skip_bad)
        if not lengths:
            raise _all_bad(directory, [*faults, *unreadable])
        return lengths, unreadable

    place = None
    if need > _LOADED_SHARE * free:
        reason = (
            f"{directory} needs {format_bytes(need)} of memory, but {format_bytes(free)} are free"
        )
        place = cache_place(directory, None if cache is None else Path(cache))
        arrays, lengths, unreadable = mapped_rows(directory, headers, place, reason, fill)
    else:
        arrays, lengths, unreadable = _loaded_rows(headers, fill)
    if unreadable and not skip_bad:  # a cache that was built when they might be left out
        raise _refusal(directory, unreadable)
    faults += unreadable
    ends = np.cumsum(lengths, dtype=np.int32)
    rows = np.array(lengths, np.int32)
    bad = {fault.file for fault in unreadable}
    files = tuple(header.path.name for header in headers if header.path not in bad)
    return Dataset(directory, *arrays, ends - rows, rows, files, metadata, tuple(faults), place)


def _loaded_rows(headers: Sequence[Header], fill: Fill) -> Mapped:
    """The rows in arrays of their final size, which a device may share: they are read-only."""
    total, first = sum(header.rows for header in headers), 0
    arrays = (
        _aligned((total, *IMAGE_SHAPE), np.uint8),
        _aligned((total, headers[0].action_size), np.float32),
        _aligned((total,), np.float32),
        _aligned((total,), np.float32),
    )

    def put(rows: Rows) -> None:
        nonlocal first
        last = first + len(rows[0])
        for array, value in zip(arrays, rows, strict=True):
            array[first:last] = value
        first = last

    lengths, faults = fill(put)
    image, action, reward, discount = (array[:first] for array in arrays)
    for array in (image, action, reward, discount):
        array.setflags(write=False)
    return Mapped((image, action, reward, discount), lengths, faults)


def _read_all(
    directory: Path, headers: Sequence[Header], put: Callable[[Rows], None], skip_bad: bool
) -> tuple[list[int], list[Fault]]:
    """Read the files in order into ``put``; returns their lengths, and the faults of bad ones.

    Raises:
        DataError: a bad file, unless those may be skipped.
    """
    lengths: list[int] = []
    faults: list[Fault] = []
    for header in headers:
        try:
            put(read_rows(header))
        except DataError as error:
            if not skip_bad:
                raise _refusal(directory, error.faults) from error
            faults.extend(error.faults)
        else:
            lengths.append(header.rows)
    return lengths, faults


def validate_directory(
    directory: Path | str, *, minimum_rows: int, action_size: int | None = None
) -> list[Fault]:
    """Everything that is wrong with a directory: every file is read to its last byte.

    Args:
        minimum_rows, action_size: see `load_directory`.
    """
    directory = Path(directory)
    try:
        paths = episode_files(directory)
    except DataError as error:
        return list(error.faults)
    headers, faults = read_headers(paths, minimum_rows, action_size)
    for header in headers:
        try:
            load_episode(header.path)
        except DataError as error:
            faults.extend(error.faults)
    try:
        metadata = read_metadata(directory)
    except DataError as error:
        faults.extend(error.faults)
    else:
        if metadata is None and (directory / UNFINISHED).exists():
            faults.append(Fault(directory / UNFINISHED, "", _UNFINISHED))
        if metadata is not None and headers and metadata["action_size"] != headers[0].action_size:
            reason = f"is {metadata['action_size']}, but the files have {headers[0].action_size}"
            faults.append(Fault(directory / METADATA_NAME, "action_size", reason))
    return sorted(faults)


def episode_files(directory: Path) -> list[Path]:
    """Every file that claims to be an episode, in the order of their names."""
    if not directory.is_dir():
        way_out = ""
        if directory.suffix in _HDF5:
            way_out = f", but an hdf5 file; {import_hint(directory)} makes episodes of it"
        elif directory.is_file():
            way_out = f": a dataset is a directory of episode files, here {directory.parent}"
        raise DataError.of(directory, "", f"is no directory{way_out}")
    paths = sorted(
        path
        for path in directory.iterdir()
        if path.suffix.lower() == ".npz" and not path.name.startswith(".")
    )
    if not paths:
        below = sorted({path.parent for path in directory.glob("*/*.npz")})
        way_out = f"; {below[0]} has some" if below else ", nor do its subdirectories"
        foreign = _hdf5_place(directory)
        if foreign is not None:
            way_out = f", but hdf5 files, as of V-D4RL or Minari; {import_hint(foreign)} makes some"
        raise DataError.of(directory, "", f"holds no episode files (*.npz){way_out}")
    return paths


def _hdf5_place(directory: Path) -> Path | None:
    """The directory that holds hdf5 files, which may lie three levels down, as V-D4RL's do."""
    for pattern in ("*", "*/*", "*/*/*", "*/*/*/*"):
        found = sorted(path for path in directory.glob(pattern) if path.suffix in _HDF5)
        if found:
            return found[0].parent
    return None


def read_headers(
    paths: Iterable[Path], minimum_rows: int, action_size: int | None
) -> tuple[list[Header], list[Fault]]:
    """Headers of the files that fit together, and the faults of the others."""
    headers: list[Header] = []
    faults: list[Fault] = []
    for path in paths:
        try:
            headers.append(read_header(path))
        except DataError as error:
            faults.extend(error.faults)
    if action_size is None and headers:
        counts = collections.Counter(header.action_size for header in headers)
        action_size = counts.most_common(1)[0][0]
        source = "most files have"
    else:
        source = "the target task has"
    fitting = []
    for header in headers:
        if header.action_size != action_size:
            reason = f"has {header.action_size} coordinates, but {source} {action_size}"
            faults.append(Fault(header.path, "action", reason))
        elif header.rows < minimum_rows:
            reason = f"has {header.rows} rows, but a chunk has {minimum_rows} (learning.length)"
            faults.append(Fault(header.path, "image", reason))
        else:
            fitting.append(header)
    return fitting, faults


def _refusal(directory: Path, faults: Sequence[Fault]) -> DataError:
    more = f" ({len(faults) - 1} more such faults)" if len(faults) > 1 else ""
    return DataError(
        f"{str(faults[0]).removesuffix('.')}{more}: `python -m experiments.dataset validate "
        f"{directory}` lists all faults, and --config.run.skip_bad_files leaves such files out.",
        faults,
    )


def _all_bad(directory: Path, faults: Sequence[Fault]) -> DataError:
    first = "the fault" if len(faults) == 1 else f"the first of {len(faults)} faults"
    return DataError(f"No file of {directory} is good; {first}: {faults[0]}", faults)


def _aligned(shape: tuple[int, ...], dtype: type[np.generic]) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    raw = np.empty(size + _ALIGNMENT, np.uint8)
    first = -raw.ctypes.data % _ALIGNMENT
    return raw[first : first + size].view(dtype).reshape(shape)
