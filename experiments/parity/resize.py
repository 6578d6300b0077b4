"""Golden values of V-D4RL's converter: images resized by OpenCV's bicubic kernel."""

from __future__ import annotations

import re

import jax.numpy as jnp
import numpy as np

from coworld_jax import augment
from experiments.parity.compare import Claim
from experiments.parity.fixture import Arrays, FixtureError, required

_RESULT = re.compile(r"out/img(\d+)")
_ONE_LEVEL = 1.0  # sums are rounded in another order


def recognise(arrays: Arrays) -> bool:
    """Images in two sizes and nothing else."""
    results = [name for name in arrays if name.startswith("out/")]
    return bool(results) and all(map(_RESULT.fullmatch, results))


def claims(arrays: Arrays) -> dict[str, Claim]:
    """Every size, and the share of values that differ, which may be 0.5 %.

    Raises:
        FixtureError: the file has not exactly one array of images to start from.
    """
    given = [name for name in arrays if name.startswith("in/img")]
    if len(given) != 1:
        raise FixtureError(f"in/img64 or an array like it is needed, but there are {len(given)}.")
    image, found = jnp.asarray(required(arrays, given[0])), {}
    for match in filter(None, map(_RESULT.fullmatch, sorted(arrays))):
        ours = np.asarray(augment.resize_bicubic(image, int(match[1])))
        if ours.shape == arrays[match[0]].shape and np.mean(ours != arrays[match[0]]) > 0.005:
            raise FixtureError(f"more than 0.5 % of {match[0]} differs from our bicubic kernel.")
        found[match[0]] = Claim(ours, _ONE_LEVEL, absolute=True)
    return found
