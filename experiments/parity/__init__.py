"""Parity with official code: golden values, and the same quantities from our functions.

Each module of a file format tells whether a file is its own (``recognise``), and computes what
the file states with the functions that training calls (``claims``).
"""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from experiments.parity import cql, curl, drq_bc, lompo, networks, offline_dv2, r3m, resize
from experiments.parity.compare import Difference, differences
from experiments.parity.fixture import Arrays, FixtureError, load_fixture

__all__ = ["FORMATS", "Difference", "FixtureError", "check_parity"]

# The last one also gets files that nobody recognises, and says what they lack.
FORMATS = (cql, curl, drq_bc, lompo, offline_dv2, r3m, resize, networks)
# Indices of compared entries, and what the official code does differently on purpose of the file:
# how far its sampler is from whole pixels, and what a forgotten eval mode gives.
_NOT_COMPARED = (
    "idx",
    "feat_idx",
    "conv_idx",
    "aug_max_abs_deviation",
    "embedding_if_batchnorm_were_training",
)


def check_parity(path: Path) -> list[Difference]:
    """Compute every quantity of a fixture with our functions, and compare.

    Args:
        path: an ``.npz`` file of golden values, of any of the formats.

    Returns:
        One difference for each quantity that the format names or the file holds.

    Raises:
        FixtureError: the file is broken, or describes networks of another architecture.
    """
    arrays = load_fixture(path)
    form = next((form for form in FORMATS if form.recognise(arrays)), FORMATS[-1])
    try:
        with jax.default_matmul_precision("highest"):
            claims = form.claims(arrays)
    except FixtureError as error:
        raise FixtureError(f"{path}: {error}") from error
    named = {name.replace("out/", "", 1): claim for name, claim in claims.items()}
    about_weights = {
        name: arrays[name] for name in claims if name.startswith("w/") and name in arrays
    }
    return differences(named, _references(arrays) | about_weights)


def _references(arrays: Arrays) -> dict[str, np.ndarray]:
    """What the official code gave: every array below a folder ``out``, weights apart."""
    return {
        name.replace("out/", "", 1): array
        for name, array in arrays.items()
        if not name.startswith("w/")
        and "out" in name.split("/")
        and not set(name.split("/")) & set(_NOT_COMPARED)
    }
