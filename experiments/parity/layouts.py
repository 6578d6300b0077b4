"""Tables from an official network's parameters to ours, used in both directions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.parity.fixture import Arrays, FixtureError, required

Params = dict[str, Any]


class Layout(NamedTuple):
    """How a tensor is stored there and here."""

    read: Callable[[np.ndarray], np.ndarray]  # theirs to ours
    write: Callable[[np.ndarray], np.ndarray]  # ours to theirs


class Place(NamedTuple):
    """Where a tensor lies in our parameters."""

    path: tuple[str, ...]
    layout: Layout


Table = Mapping[str, Place]  # their name, "<network>/<parameter>", to our place

SAME = Layout(np.asarray, np.asarray)
LINEAR = Layout(np.transpose, np.transpose)  # [out, in]
CONVOLUTION = Layout(  # [out, in, kh, kw]
    lambda x: np.transpose(x, (2, 3, 1, 0)), lambda x: np.transpose(x, (3, 2, 0, 1))
)


def flat_linear(height: int, width: int) -> Layout:
    """A linear layer on a convolution's output: theirs is flattened channel by channel."""

    def read(x: np.ndarray) -> np.ndarray:
        outputs, inputs = x.shape
        if inputs % (height * width):
            raise FixtureError(f"{inputs} features do not divide into {height}x{width} pixels.")
        return x.reshape(outputs, -1, height, width).transpose(2, 3, 1, 0).reshape(-1, outputs)

    def write(x: np.ndarray) -> np.ndarray:
        inputs, outputs = x.shape
        return x.reshape(height, width, -1, outputs).transpose(3, 2, 0, 1).reshape(-1, inputs)

    return Layout(read, write)


def channel_major(feat: Any, height: int, width: int) -> np.ndarray:
    """Features ``[N, F]`` as they flatten them."""
    n = feat.shape[0]
    return np.asarray(feat).reshape(n, height, width, -1).transpose(0, 3, 1, 2).reshape(n, -1)


def read_params(arrays: Arrays, table: Table) -> Params:
    """Our parameters from ``w/<name>``, as nested dictionaries.

    Raises:
        FixtureError: a weight is missing or of another rank, or belongs to no layer.
    """
    params: Params = {}
    for name, (path, layout) in table.items():
        weight = required(arrays, f"w/{name}")
        try:
            value = layout.read(np.asarray(weight, np.float32))
        except ValueError as error:
            raise FixtureError(f"w/{name} has shape {weight.shape}: {error}.") from error
        place = params
        for part in path[:-1]:
            place = place.setdefault(part, {})
        place[path[-1]] = value
    return params


def write_params(params: Params, table: Table) -> dict[str, np.ndarray]:
    """The inverse of `read_params`, for those networks that ``params`` holds."""
    found = {}
    for name, (path, layout) in table.items():
        if path[0] in params:
            value: Any = params
            for part in path:
                value = value[part]
            found[name] = layout.write(np.asarray(value))
    return found


def refuse_unknown(arrays: Arrays, table: Table, others: tuple[str, ...] = ()) -> None:
    """Every weight of the file is one that the table names.

    Raises:
        FixtureError: one is not.
    """
    known = {f"w/{name}" for name in (*table, *others)}
    unknown = sorted(name for name in arrays if name.startswith("w/") and name not in known)
    if unknown:
        raise FixtureError(f"{unknown[0]} belongs to no layer of these networks.")
