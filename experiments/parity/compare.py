"""Our values against the official ones: what each may differ by, and whether it does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import numpy as np

VALUE = 1e-4
"""Largest relative difference of values and losses, of gradients too."""
LATER = 2e-3
"""The same after one or two optimiser steps."""
FIRST_CONVOLUTION = 1e-2
"""The same for gradients that pass every ReLU: one near zero may fall on the other side."""
STEP = 0.01
"""Largest difference of a parameter after one optimiser step, in units of the learning rate."""


class Claim(NamedTuple):
    """What we say a quantity is."""

    value: jax.Array | np.ndarray | float
    tolerance: float = VALUE
    absolute: bool = False  # the tolerance is no share of the largest reference


class Difference(NamedTuple):
    """Ours against the official values; None where one of them is missing or not finite."""

    quantity: str
    max_abs: float | None
    max_rel: float | None  # largest absolute difference over the largest absolute reference
    passed: bool


def difference(name: str, claim: Claim | None, reference: np.ndarray | None) -> Difference:
    """Compare one quantity."""
    if claim is None or reference is None:
        return Difference(name, None, None, False)
    ours, reference = np.asarray(claim.value, np.float64), np.asarray(reference, np.float64)
    if ours.shape != reference.shape:
        return Difference(name, None, None, False)
    gap = float(np.max(np.abs(ours - reference)))
    largest = float(np.max(np.abs(reference)))
    if not np.isfinite(gap + largest):
        return Difference(name, None, None, False)
    relative = gap / largest if largest > 0.0 else (0.0 if gap == 0.0 else None)
    measured = gap if claim.absolute else relative
    return Difference(name, gap, relative, measured is not None and measured <= claim.tolerance)


def differences(
    claims: Mapping[str, Claim], references: Mapping[str, np.ndarray]
) -> list[Difference]:
    """Every quantity that either side names, in alphabetical order."""

    def one(name: str) -> Difference:
        claim = claims[name] if name in claims else None
        return difference(name, claim, references[name] if name in references else None)

    return [one(name) for name in sorted({*claims, *references})]
