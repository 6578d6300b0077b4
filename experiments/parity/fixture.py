"""Files of golden values: reading them, and naming what is wrong with them."""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

Arrays = Mapping[str, np.ndarray]

_TEXTS = ("w/names", "w/shapes", "cfg/versions", "cfg/opencv")  # the only arrays of text

# What zipfile and NumPy raise on damaged archives, found by flipping bytes.
_READ_ERRORS = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    RuntimeError,
    MemoryError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    tokenize.TokenError,
)


class FixtureError(ValueError):
    """The file is not a fixture that can be checked; the message says why."""


def load_fixture(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a fixture file.

    Raises:
        FixtureError: no such file, not an ``.npz`` archive, damaged, or with unusable arrays.
    """
    if not path.is_file():
        raise FixtureError(f"{path} does not exist: name an .npz file of golden values.")
    if not zipfile.is_zipfile(path):
        raise FixtureError(f"{path} is not an .npz archive, or its end is missing.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except _READ_ERRORS as error:
        raise FixtureError(f"{path} is damaged: {error}.") from error
    for name, array in arrays.items():
        kinds = "U" if name in _TEXTS else "fiub"
        if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
            raise FixtureError(f"{path}: {name} is no array of numbers.")
        if array.size == 0:
            raise FixtureError(f"{path}: {name} is empty, its shape is {array.shape}.")
        parts = name.split("/")
        given = parts[0] == "w" or "in" in parts or "noise" in parts or parts[0] == "cfg"
        if given and kinds != "U" and not np.isfinite(array).all():
            raise FixtureError(f"{path}: {name} has values that are not finite.")
    return arrays


def required(arrays: Arrays, name: str) -> np.ndarray:
    """An array that the file must hold.

    Raises:
        FixtureError: it does not.
    """
    if name not in arrays:
        raise FixtureError(f"{name} is missing.")
    return arrays[name]


def setting(arrays: Arrays, name: str) -> float:
    """A number of the official run: ``cfg/<name>``."""
    return float(required(arrays, f"cfg/{name}"))
