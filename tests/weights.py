"""A file of R3M's form, written once, whose weights follow a rule.

The format is that of ``torch.save``, written out; PyTorch is not needed.

    python tests/weights.py     # writes .cache/r3m_18.pt
"""

from __future__ import annotations

import functools
import io
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from coworld_jax.networks import ResNet
from coworld_jax.networks.resnet import _torch_name

_PATH = Path(__file__).resolve().parent.parent / ".cache" / "r3m_18.pt"


class _Storage:
    """Pickled as a persistent id."""

    def __init__(self, kind: Any, key: str, count: int) -> None:
        self.pid = ("storage", kind, key, "cpu", count)


class _Pickler(pickle.Pickler):
    def persistent_id(self, obj: Any) -> Any:
        return obj.pid if isinstance(obj, _Storage) else None


class _Tensor:
    """Pickled as PyTorch pickles a tensor."""

    def __init__(self, storage: _Storage, array: np.ndarray, rebuild: Any) -> None:
        strides = tuple(stride // array.itemsize for stride in array.strides)
        self._reduced = rebuild, (storage, 0, array.shape, strides, False, OrderedDict())

    def __reduce__(self) -> tuple[Any, ...]:
        return self._reduced


def _weights() -> dict[str, np.ndarray]:
    """Periodic numbers with the variance of He's initialisation; they compress well."""
    shapes = jax.eval_shape(ResNet(18).init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    period = np.random.default_rng(0).normal(size=1009).astype(np.float32)
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes["params"]):
        name = _torch_name(tuple(part.key for part in path))
        if leaf.ndim == 4:
            shape = tuple(leaf.shape[axis] for axis in (3, 2, 0, 1))
            scale = np.float32((2.0 / np.prod(shape[1:])) ** 0.5)
            found[name] = scale * np.resize(period, shape)
        else:
            found[name] = np.full(leaf.shape, "weight" in name or "var" in name, np.float32)
    return found


def save(path: Path, tensors: dict[str, np.ndarray]) -> None:
    """``torch.save({"r3m": {"module.convnet." + name: tensor}}, path)``."""
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")
    kind = type("FloatStorage", (), {"__module__": "torch"})

    def rebuild() -> None: ...

    rebuild.__module__, rebuild.__qualname__ = "torch._utils", "_rebuild_tensor_v2"
    torch.FloatStorage, utils._rebuild_tensor_v2 = kind, rebuild  # type: ignore[attr-defined]
    stored = {
        f"module.convnet.{name}": _Tensor(_Storage(kind, str(number), array.size), array, rebuild)
        for number, (name, array) in enumerate(tensors.items())
    }
    buffer, before = io.BytesIO(), dict(sys.modules)
    sys.modules.update({"torch": torch, "torch._utils": utils})  # pickle looks names up there
    try:
        _Pickler(buffer, protocol=2).dump({"r3m": OrderedDict(stored)})
    finally:
        for name in ("torch", "torch._utils"):
            sys.modules.pop(name)
            if name in before:
                sys.modules[name] = before[name]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("archive/data.pkl", buffer.getvalue())
        for number, array in enumerate(tensors.values()):
            archive.writestr(f"archive/data/{number}", array.tobytes())


@functools.cache
def r3m_weights() -> str:
    """Path of the file; the first process that needs it writes it."""
    if not _PATH.exists():
        _PATH.parent.mkdir(exist_ok=True)
        unfinished = _PATH.with_suffix(f".{os.getpid()}")
        save(unfinished, _weights())
        unfinished.replace(_PATH)
    return str(_PATH)


if __name__ == "__main__":
    print(r3m_weights())
