"""Archives of arrays (``.npz``), read without trust: what is damaged becomes one sentence.

Headers of the arrays are read before the arrays, so that nothing is allocated that a damaged file
only claims to hold.
"""

from __future__ import annotations

import contextlib
import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from coworld_jax.data.faults import DataError

# What the zip, zlib, npy, hdf5 and jpeg readers raise on damaged bytes.
UNREADABLE = (
    OSError,
    EOFError,
    KeyError,
    OverflowError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)


class Form(NamedTuple):
    """What the header of an array says."""

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran_order: bool


@contextlib.contextmanager
def opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive.

    Raises:
        DataError: it is none, or is cut short.
    """
    with contextlib.ExitStack() as stack:
        with explained(path, "", "is no npz file, or is cut short"):
            archive = stack.enter_context(zipfile.ZipFile(path))
        yield archive


def array_names(archive: zipfile.ZipFile) -> list[str]:
    """Keys of the archive, in its order."""
    return [name.removesuffix(".npy") for name in archive.namelist()]


def read_form(path: Path, archive: zipfile.ZipFile, key: str) -> Form:
    """Shape and dtype of an array by its header, which has been found to agree with its size.

    Raises:
        DataError: there is no such key, its header is damaged, or it holds Python objects.
    """
    member = _member(path, archive, key)
    with explained(path, key), archive.open(member) as file:
        form, first = _read_npy_header(file)
        claimed = first + math.prod(form.shape) * form.dtype.itemsize
    if form.dtype.hasobject:
        raise DataError.of(path, key, "holds Python objects, which are never unpickled")
    if claimed != member.file_size or min(form.shape, default=0) < 0:
        reason = f"is cut short or damaged: {member.file_size} bytes instead of {claimed}"
        raise DataError.of(path, key, reason)
    return form


def holds_objects(path: Path, archive: zipfile.ZipFile, key: str) -> bool:
    """Whether an array is one of Python objects.

    Raises:
        DataError: there is no such key, or its header is damaged.
    """
    member = _member(path, archive, key)
    with explained(path, key), archive.open(member) as file:
        return _read_npy_header(file)[0].dtype.hasobject


def _member(path: Path, archive: zipfile.ZipFile, key: str) -> zipfile.ZipInfo:
    try:
        return archive.getinfo(f"{key}.npy")
    except KeyError:
        raise DataError.of(path, key, missing(array_names(archive))) from None


def missing(names: Iterable[str]) -> str:
    """Why a key cannot be read from a file that has other ``names``."""
    names = sorted(names)
    some = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return f"is missing; the file has: {some or 'nothing'}"


def read_array(path: Path, archive: zipfile.ZipFile, key: str) -> np.ndarray:
    """One whole array.

    Raises:
        DataError: as `read_form`, or its bytes are damaged.
    """
    read_form(path, archive, key)  # never allocate what a damaged header claims
    with explained(path, key), archive.open(f"{key}.npy") as file:
        value: np.ndarray = np.lib.format.read_array(file, allow_pickle=False)
        # The last bytes are read for their checksum.
        if file.read(1):
            raise ValueError("bytes follow the array")
        return value


def read_pieces(
    path: Path, archive: zipfile.ZipFile, key: str, rows: Iterable[int]
) -> Iterator[np.ndarray]:
    """An array that may exceed the memory, in pieces of so many ``rows`` each, from the first on.

    Raises:
        DataError: as `read_array`, or it is stored column by column.
    """
    form = read_form(path, archive, key)
    if form.fortran_order and len(form.shape) > 1:
        raise DataError.of(path, key, "is stored in Fortran order: save it in C order")
    row = math.prod(form.shape[1:]) * form.dtype.itemsize
    with explained(path, key), archive.open(f"{key}.npy") as file:
        _read_npy_header(file)
        for count in rows:
            content = file.read(count * row)
            yield np.frombuffer(content, form.dtype).reshape(count, *form.shape[1:])
        if file.read(1):
            raise ValueError("bytes follow the array")


def _read_npy_header(file: IO[bytes]) -> tuple[Form, int]:
    """What it says, and where the data begin."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
        shape, fortran_order, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"npy format {version}")
    return Form(shape, dtype, fortran_order), file.tell()


@contextlib.contextmanager
def explained(path: Path, key: str, what: str = "cannot be read") -> Iterator[None]:
    """Turn what damaged bytes raise into a sentence.

    Raises:
        DataError: something that readers raise on damaged bytes came up.
    """
    try:
        yield
    except DataError:
        raise
    except UNREADABLE as error:
        raise DataError.of(path, key, f"{what} ({type(error).__name__}: {error})") from error
