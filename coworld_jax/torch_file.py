"""Tensors of a PyTorch checkpoint, read without PyTorch.

A file of ``torch.save`` is a zip archive: a pickle that describes the objects, and one entry of raw
numbers per storage. The pickle may build dictionaries, lists, numbers, text and tensors, nothing
else: what would call any other function is refused.
"""

from __future__ import annotations

import io
import math
import pickle
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_DTYPES: dict[str, np.dtype[Any]] = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}


class TorchFileError(ValueError):
    """The file is no checkpoint that can be read; the message says why."""


def read_tensors(path: str | Path) -> dict[str, np.ndarray]:
    """Every tensor of a checkpoint.

    Args:
        path: a file of ``torch.save`` of PyTorch 1.6 or later.

    Returns:
        Names, the keys of nested dictionaries joined by dots, to arrays; ``r3m`` → a state
        dictionary gives ``r3m.module.convnet.conv1.weight``.

    Raises:
        TorchFileError: no such file, another format, damaged, or with objects other than tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise TorchFileError(f"{path} does not exist: name a checkpoint of torch.save.")
    if not zipfile.is_zipfile(path):
        raise TorchFileError(
            f"{path} is no zip archive. PyTorch before 1.6 wrote another format: load the file "
            "there once and save it again."
        )
    try:
        with zipfile.ZipFile(path) as archive:
            found = _Unpickler(archive, path).load()
    except TorchFileError:
        raise
    except (
        OSError, ValueError, EOFError, KeyError, IndexError, TypeError, AttributeError,
        zipfile.BadZipFile, zlib.error, pickle.UnpicklingError, RuntimeError,
    ) as error:  # fmt: skip
        raise TorchFileError(f"{path} is damaged: {error}.") from error
    return dict(_named("", found))


class _Storage(NamedTuple):
    """Raw numbers, one after another."""

    numbers: np.ndarray


class _Unpickler(pickle.Unpickler):
    """Builds plain containers and tensors, and refuses everything else."""

    def __init__(self, archive: zipfile.ZipFile, path: Path) -> None:
        entries = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(entries) != 1:
            raise TorchFileError(f"{path} has no data.pkl: torch.save did not write it.")
        super().__init__(io.BytesIO(archive.read(entries[0])))
        self._archive, self._path = archive, path
        self._folder = entries[0].removesuffix("data.pkl")

    def find_class(self, module: str, name: str) -> Any:
        """The few names that a checkpoint of tensors needs."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return _parameter
        if module == "torch" and name in _DTYPES:
            return name
        raise TorchFileError(
            f"{self._path} holds {module}.{name}, but only tensors in dictionaries and lists are "
            "read. Save the state dictionary alone."
        )

    def persistent_load(self, pid: Any) -> _Storage:
        """A storage: ``("storage", type, key, device, count)``."""
        kind, storage, key, _, count = pid
        if kind != "storage" or storage not in _DTYPES:
            raise TorchFileError(f"{self._path} refers to {kind!r}, which is no storage.")
        raw = self._archive.read(f"{self._folder}data/{key}")
        numbers: np.ndarray = np.frombuffer(raw, dtype=_DTYPES[storage], count=int(count))
        return _Storage(numbers)


def _tensor(
    storage: _Storage, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any
) -> np.ndarray:
    """A tensor from its storage; sizes and strides are checked against what there is."""
    size, stride = tuple(size), tuple(stride)
    if any(number < 0 for number in (offset, *size, *stride)) or len(size) != len(stride):
        raise ValueError("a tensor has negative or unequal sizes and strides")
    if 0 in size:
        return np.zeros(size, storage.numbers.dtype)
    last = offset + sum((length - 1) * step for length, step in zip(size, stride))
    if last >= storage.numbers.size or math.prod(size) > storage.numbers.size:
        raise ValueError("a tensor reaches beyond its storage")
    each = storage.numbers.itemsize
    view = np.lib.stride_tricks.as_strided(
        storage.numbers[offset:], size, tuple(each * step for step in stride), writeable=False
    )
    return np.array(view)


def _parameter(tensor: np.ndarray, *_: Any) -> np.ndarray:
    return tensor


def _named(prefix: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Tensors below ``value`` with their names; numbers and text are left out."""
    if isinstance(value, np.ndarray):
        yield prefix, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _named(f"{prefix}.{key}" if prefix else str(key), inner)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _named(f"{prefix}.{index}" if prefix else str(index), inner)
