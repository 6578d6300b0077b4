"""What tells one state of a dataset from another, wherever it lies.

A run records it, and goes on with any directory that has the same, whatever its path.
"""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

from coworld_jax.data.directory import Dataset

_NAMED = 3  # files that a difference names


def fingerprint(dataset: Dataset) -> dict[str, list[Any]]:
    """Rows and checksum of the rewards of each file, by its name; for JSON.

    The path of the directory is no part of it, nor are files that were left out as bad.
    """
    found = {}
    for file, start, rows in zip(dataset.files, dataset.starts, dataset.lengths, strict=True):
        rewards = np.ascontiguousarray(dataset.reward[start : start + rows], "<f4")
        found[file] = [int(rows), f"{zlib.crc32(rewards.tobytes()):08x}"]
    return found


def difference(
    recorded: Mapping[str, Sequence[Any]],
    found: Mapping[str, Sequence[Any]],
    left_out: Collection[str] = (),
) -> str:
    """How one `fingerprint` differs from another, for a user; empty where it does not.

    Args:
        recorded: the earlier one.
        found: the present one.
        left_out: names of files that are bad by now and were left out with the user's consent;
            that they are gone is no difference.

    Returns:
        For example ``3 files were added: a.npz, b.npz, c.npz; 1 file was removed: d.npz``.
    """
    both = recorded.keys() & found.keys()
    rows = {name for name in both if recorded[name][0] != found[name][0]}
    rewards = {name for name in both - rows if recorded[name][1] != found[name][1]}
    parts = (
        ("was added", "were added", found.keys() - recorded.keys()),
        ("was removed", "were removed", recorded.keys() - found.keys() - set(left_out)),
        ("has another number of rows", "have another number of rows", rows),
        ("has other rewards", "have other rewards", rewards),
    )
    return "; ".join(
        f"{len(names)} {f'file {one}' if len(names) == 1 else f'files {many}'}: {_listed(names)}"
        for one, many, names in parts
        if names
    )


def _listed(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
