"""Parity with official code: golden values, and the same quantities from our functions.

Each module of a file format tells whether a file is its own (``recognise``), and computes what
the file states with the functions that training calls (``claims``).
"""

from __future__ import annotations

from pathlib import Path

import jax

from experiments.parity import cql, curl, drq_bc, lompo, networks, offline_dv2
from experiments.parity.compare import Difference, differences
from experiments.parity.fixture import Arrays, FixtureError, load_fixture

__all__ = ["FORMATS", "Difference", "FixtureError", "check_parity"]

# The last one also gets files that nobody recognises, and says what they lack.
FORMATS = (cql, curl, drq_bc, lompo, offline_dv2, networks)
# Indices of compared entries, and properties of the official code that we have no function for.
_NOT_COMPARED = ("idx", "feat_idx", "conv_idx", "aug_max_abs_deviation")


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
    return differences(named, _references(arrays))


def _references(arrays: Arrays) -> Arrays:
    """What the official code gave: every array below a folder ``out``, weights apart."""
    return {
        name.replace("out/", "", 1): array
        for name, array in arrays.items()
        if not name.startswith("w/")
        and "out" in name.split("/")
        and not set(name.split("/")) & set(_NOT_COMPARED)
    }
