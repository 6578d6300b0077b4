"""What the files of PyTorch agents state about gradients and one optimiser step."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from experiments.parity.compare import FIRST_CONVOLUTION, STEP, VALUE, Claim
from experiments.parity.fixture import Arrays

Tensors = Mapping[str, np.ndarray]  # in their layout, under their names


def gradient_claims(
    arrays: Arrays, place: str, kind: str, grads: Tensors, first: Collection[str]
) -> dict[str, Claim]:
    """Gradients, whole or at the indices that the file compares.

    Args:
        place: ``out/u0``.
        kind: ``grad``, or the name of another loss's gradient.
        grads: ours.
        first: names of the first convolution's tensors.
    """
    found = {}
    for name, grad in grads.items():
        tolerance = FIRST_CONVOLUTION if name in first else VALUE
        found[_entry(arrays, place, kind, name)] = Claim(_at(arrays, place, name, grad), tolerance)
    return found


def norm_claims(
    place: str, grads: Tensors, first: Collection[str], folder: str = "tensor_grad_norm"
) -> dict[str, Claim]:
    """The norm of each tensor's gradient."""
    return {
        f"{place}/{folder}/{name}": Claim(
            norm([grad]), FIRST_CONVOLUTION if name in first else VALUE
        )
        for name, grad in grads.items()
    }


def state_claims(
    arrays: Arrays, place: str, before: Tensors, after: Tensors, lr: float
) -> dict[str, Claim]:
    """Parameters after one step, and sums over the whole of each tensor.

    Each entry may be wrong by `STEP` times the learning rate; the sums, by what follows from that.
    """
    found = {}
    for name, value in after.items():
        each, size = STEP * lr, value.size
        entry = _entry(arrays, place, "after", name)
        found[entry] = Claim(_at(arrays, place, name, value), each, absolute=True)
        moved = np.sum(np.abs(value.astype(np.float64) - before[name]))
        found[f"{place}/delta_abs_sum/{name}"] = Claim(moved, each * size, absolute=True)
        square = np.sum(np.square(value.astype(np.float64)))
        allowed = 2.0 * each * np.sqrt(size * square) + size * each**2
        found[f"{place}/after_sumsq/{name}"] = Claim(square, allowed, absolute=True)
    return found


def norm(tensors: Collection[np.ndarray]) -> float:
    """Euclidean norm over all entries of several tensors."""
    return float(np.sqrt(sum(np.sum(np.square(np.asarray(x, np.float64))) for x in tensors)))


def _entry(arrays: Arrays, place: str, kind: str, name: str) -> str:
    return f"{place}/{kind}{'_at' if f'{place}/idx/{name}' in arrays else ''}/{name}"


def _at(arrays: Arrays, place: str, name: str, value: np.ndarray) -> np.ndarray:
    index = f"{place}/idx/{name}"
    return value.reshape(-1)[arrays[index]] if index in arrays else value
