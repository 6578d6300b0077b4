"""The leaves of a state on the host: copies, their description, and the digest of all of them.

A leaf is a jax array, a typed PRNG key, a NumPy array or a Python number. A key is kept as its
uint32 words and the name of its implementation.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def is_key(leaf: Any) -> bool:
    """Whether a leaf is an array of typed PRNG keys."""
    return hasattr(leaf, "dtype") and bool(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key))


def to_host(leaves: list[Any]) -> list[np.ndarray]:
    """Copies of ``leaves`` on the host; typed PRNG keys become their uint32 words.

    On the CPU `jax.device_get` returns a view of the device's buffer, which its owner may donate
    and overwrite; worse, from jax 0.11 on the view stays with the array, and the donation silently
    becomes a copy. Hence NumPy's own.
    """
    plain = [jax.random.key_data(leaf) if is_key(leaf) else leaf for leaf in leaves]
    return [np.array(leaf, copy=True, order="C") for leaf in plain]


def describe(path: tuple[Any, ...], leaf: Any) -> dict[str, Any]:
    """Path, dtype and shape of a leaf, for JSON; JAX's tree utilities make the ``path``."""
    array = leaf if hasattr(leaf, "dtype") else np.asarray(leaf)
    return {
        "path": jax.tree_util.keystr(path),
        "dtype": str(array.dtype),
        "shape": list(array.shape),
    }


def state_digest(*trees: Any) -> str:
    """SHA-256 over the path, dtype, shape and bytes of every leaf of ``trees``, as hex.

    Equal digests mean equal states to the last bit. Devices and layouts do not enter: a replicated
    or sharded array counts as the one array that it stands for. Typed PRNG keys count with their
    implementation and their words; Python numbers as NumPy makes them.
    """
    flat = [entry for tree in trees for entry in jax.tree_util.tree_flatten_with_path(tree)[0]]
    digest = hashlib.sha256()
    for (path, leaf), value in zip(flat, to_host([leaf for _, leaf in flat]), strict=True):
        digest.update(json.dumps(describe(path, leaf)).encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def check(folder: Path, saved: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> None:
    """Refuse a template that the leaves of a checkpoint do not fit.

    Args:
        folder: of the checkpoint.
        saved: descriptions of its leaves, see `describe`.
        wanted: descriptions of the template's leaves.

    Raises:
        ValueError: names the first leaf that differs.
    """
    absent = dict.fromkeys([entry["path"] for entry in [*wanted, *saved]], "absent")
    here, there = (
        absent | {entry["path"]: f"{entry['dtype']}{entry['shape']}" for entry in entries}
        for entries in (wanted, saved)
    )
    faults = [
        f"{path} is {there[path]} there and {here[path]} here"
        for path in absent
        if there[path] != here[path]
    ]
    if faults:
        more = f" (and {len(faults) - 1} more such leaves)" if len(faults) > 1 else ""
        raise ValueError(
            f"Checkpoint {folder} holds another state than this configuration makes: "
            f"{faults[0]}{more}; use the configuration that it was saved with, or another workdir."
        )


def blank(leaf: Any) -> np.ndarray:
    """An array for Orbax to learn shape and dtype from; a key stands for its words."""
    if is_key(leaf):
        words = jax.eval_shape(jax.random.key_data, leaf)
        return np.empty(words.shape, words.dtype)
    return np.empty(
        np.shape(leaf), leaf.dtype if hasattr(leaf, "dtype") else np.asarray(leaf).dtype
    )


def place(value: np.ndarray, leaf: Any, entry: Mapping[str, Any]) -> Any:
    """``value`` in the form, and on the devices, of the template's ``leaf``."""
    if isinstance(leaf, bool | int | float):
        return value.item()
    if isinstance(leaf, np.ndarray | np.generic):
        return value
    # An uncommitted template stays uncommitted, or a jitted update would compile once more.
    free = isinstance(leaf, jax.Array) and not leaf.committed
    sharding = None if free else leaf.sharding
    if is_key(leaf):
        return jax.device_put(
            jax.random.wrap_key_data(jax.device_put(value), impl=entry["impl"]), sharding
        )
    return jax.device_put(value, sharding)
