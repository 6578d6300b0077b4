"""A dataset larger than the memory: its rows unpacked once into files, and mapped from there.

The cache is a directory of four raw arrays and ``cache.json``, which is written last: a build that
was killed leaves none, and is begun again. It names the episode files that it was made of; when
these have changed it is made anew. A run that still maps the old files keeps them: they are
replaced, never written to.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from coworld_jax.data.episodes import IMAGE_SHAPE, Header
from coworld_jax.data.faults import DataError, Fault
from coworld_jax.data.memory import format_bytes
from coworld_jax.data.metadata import read_json, write_json

_LOG = logging.getLogger(__name__)
_INDEX, _LOCK = "cache.json", "lock"
_VERSION = 2  # of the layout, and of what the files are checked for

Rows = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""``image``, ``action``, ``reward`` and ``discount`` of an episode, or of all end to end."""
Fill = Callable[[Callable[[Rows], None]], tuple[list[int], list[Fault]]]
"""Reads the episodes one after the other into a sink; returns their lengths, and bad files."""


class Mapped(NamedTuple):
    """Arrays on the disk, read-only, and what they hold."""

    arrays: Rows
    lengths: list[int]
    faults: list[Fault]  # files that were left out, if that was allowed


def cache_place(directory: Path, parent: Path | None) -> Path:
    """Where the cache of a dataset lies: beside it, or in a ``parent`` of many datasets' caches.

    There, the digest tells datasets apart that have one name in different folders.
    """
    whole = directory.resolve()
    if parent is None:
        return whole.with_name(f"{whole.name}.cache")
    digest = hashlib.sha256(os.fsencode(whole)).hexdigest()[:8]
    return parent / f"{whole.name}-{digest}.cache"


def mapped_rows(
    directory: Path, headers: Sequence[Header], place: Path, reason: str, fill: Fill
) -> Mapped:
    """The rows of a dataset's files, mapped; the cache is built first where there is none.

    Before it is built, the size that it will have is logged.

    Args:
        directory: of the dataset.
        headers: of the files, in order.
        place: directory of the cache alone, see `cache_place`; made when missing.
        reason: why the dataset is not loaded into memory, for the user.
        fill: reads the files.

    Raises:
        DataError: no room on the disk, a place that cannot be written to, or bad files.
    """
    forms = _forms(headers[0].action_size)
    wanted = _index(headers)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with _locked(place / _LOCK):
            index = _valid(place, wanted, forms)
            if index is None:
                _build(headers, place, reason, fill)
                index = _valid(place, wanted, forms)
                assert index is not None
            else:
                _LOG.info("%s: its rows are read from %s.", reason, place)
    except OSError as error:  # no permission, a read-only disk, a disk that fills up meanwhile
        raise DataError(
            f"{reason}, and its cache cannot be written to {place} ({error.strerror}): name "
            "another place with --config.run.cache."
        ) from error
    faults = [Fault(directory / name, key, why) for name, key, why in index["faults"]]
    rows = sum(index["lengths"])
    image, action, reward, discount = (
        np.memmap(place / f"{name}.bin", dtype, mode="r", shape=(rows, *tail)).view(np.ndarray)
        for name, (dtype, tail) in forms.items()
    )
    return Mapped((image, action, reward, discount), index["lengths"], faults)


def _forms(action_size: int) -> dict[str, tuple[type[np.generic], tuple[int, ...]]]:
    """Dtype of each array, and the shape of a row."""
    return {
        "image": (np.uint8, IMAGE_SHAPE),
        "action": (np.float32, (action_size,)),
        "reward": (np.float32, ()),
        "discount": (np.float32, ()),
    }


def _index(headers: Sequence[Header]) -> dict[str, Any]:
    """What tells one state of the files from another."""
    stats = [(header.path.name, header.path.stat()) for header in headers]
    return {
        "version": _VERSION,
        "files": [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats],
    }


def _valid(
    place: Path, wanted: dict[str, Any], forms: dict[str, tuple[type[np.generic], tuple[int, ...]]]
) -> dict[str, Any] | None:
    """The index of a whole cache of the same files, or None."""
    if not (place / _INDEX).exists():
        return None
    try:
        index = read_json(place / _INDEX)
    except DataError:  # damaged: it is built again
        return None
    if any(key not in index or index[key] != value for key, value in wanted.items()):
        return None
    if "lengths" not in index or "faults" not in index:
        return None
    for name, (dtype, tail) in forms.items():
        path = place / f"{name}.bin"
        size = sum(index["lengths"]) * math.prod(tail) * np.dtype(dtype).itemsize
        if not path.exists() or path.stat().st_size != size:
            return None
    return index


def _build(headers: Sequence[Header], place: Path, reason: str, fill: Fill) -> None:
    """Write the arrays, then the index.

    Raises:
        DataError: no room, or bad files.
    """
    (place / _INDEX).unlink(missing_ok=True)
    names = list(_forms(headers[0].action_size))
    temporary = [place / f"{name}.tmp" for name in names]
    for leftover in temporary:
        leftover.unlink(missing_ok=True)
    need, free = sum(header.nbytes for header in headers), shutil.disk_usage(place).free
    if need > free:
        raise DataError(
            f"{reason}, and of its cache of {format_bytes(need)} only {format_bytes(free)} fit on "
            f"the disk of {place}: name another place with --config.run.cache, or move some of "
            f"the {len(headers)} episodes to another directory."
        )
    _LOG.warning(
        "%s: its rows are unpacked once into %s, %s on a disk with %s free.",
        reason,
        place,
        format_bytes(need),
        format_bytes(free),
    )
    wanted = _index(headers)
    try:
        lengths, faults = _write(temporary, fill)
    except BaseException:
        for path in temporary:
            path.unlink(missing_ok=True)
        raise
    for path, name in zip(temporary, names, strict=True):
        os.replace(path, place / f"{name}.bin")
    left_out = [[fault.file.name, fault.key, fault.reason] for fault in faults]
    write_json(place / _INDEX, wanted | {"lengths": lengths, "faults": left_out})


def _write(paths: Sequence[Path], fill: Fill) -> tuple[list[int], list[Fault]]:
    files: list[IO[bytes]] = [path.open("wb") for path in paths]
    try:

        def put(rows: Rows) -> None:
            for file, value in zip(files, rows, strict=True):
                file.write(np.ascontiguousarray(value).data)

        return fill(put)
    finally:
        for file in files:
            file.close()


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process after the other: a second run waits for the cache that the first one builds."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
