"""The units of a dataset's actions: the space that was recorded with them becomes [-1, 1]."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from coworld_jax.data.episodes import ROUNDING
from coworld_jax.data.faults import DataError

_KEY = "action_space"
_UNBOUNDED = float(np.finfo(np.float32).max)  # some spaces say this instead of infinity


class Units(NamedTuple):
    """Bounds that become -1 and 1: ``scaled = (action - middle) / reach``, never clipped."""

    low: np.ndarray  # float64 [A]
    high: np.ndarray  # float64 [A]

    @property
    def middle(self) -> np.ndarray:
        """What becomes 0, float64 ``[A]``."""
        return (self.low + self.high) / 2.0

    @property
    def reach(self) -> np.ndarray:
        """Distance from the middle to what becomes 1, float64 ``[A]``."""
        return (self.high - self.low) / 2.0

    def scaled(self, action: np.ndarray) -> np.ndarray:
        """Actions ``[R, A]`` in the units of an agent, float64."""
        return (action - self.middle[None]) / self.reach[None]

    def original(self, action: np.ndarray) -> np.ndarray:
        """The inverse of `scaled`, float64."""
        return self.middle[None] + self.reach[None] * action

    def record(self) -> dict[str, list[float]]:
        """For JSON; `of_record` reads it."""
        return {"low": self.low.tolist(), "high": self.high.tolist()}

    @classmethod
    def of_record(cls, path: Path, record: Any) -> Self | None:
        """Units of a space with ``low`` and ``high``, or None where no coordinate is scaled.

        Bounds of -1 and 1 up to rounding stay as they are, and so does a coordinate without finite
        bounds. A coordinate of a single value is moved to 0.

        Args:
            path: of the file with the record, for messages.

        Raises:
            DataError: no numbers, bounds of two sizes, or low above high.
        """
        try:
            low, high = (np.ravel(np.asarray(record[key], np.float64)) for key in ("low", "high"))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"has no bounds low and high ({type(error).__name__}: {error})"
            raise DataError.of(path, _KEY, reason) from error
        if low.shape != high.shape or not (low <= high).all():
            reason = f"has bounds {low.tolist()} and {high.tolist()}: low must not exceed high"
            raise DataError.of(path, _KEY, reason)
        open_ended = np.maximum(np.abs(low), np.abs(high)) >= _UNBOUNDED
        usual = np.maximum(np.abs(low + 1.0), np.abs(high - 1.0)) <= ROUNDING
        single = low == high
        low, high = np.where(single, low - 1.0, low), np.where(single, high + 1.0, high)
        kept = open_ended | usual
        return None if kept.all() else cls(np.where(kept, -1.0, low), np.where(kept, 1.0, high))


def recorded_units(path: Path, record: Mapping[str, Any]) -> Units | None:
    """Units of the ``action_space`` that a file records, as Minari's JSON text or as an object.

    Returns:
        None where no space is recorded, where it has no bounds, or where they are -1 and 1.

    Raises:
        DataError: it cannot be read.
    """
    if _KEY not in record or record[_KEY] is None:
        return None
    space = record[_KEY]
    if isinstance(space, str | bytes):
        try:
            space = json.loads(space)
        except ValueError as error:
            raise DataError.of(path, _KEY, f"is no JSON ({error})") from error
    if isinstance(space, dict) and "type" in space and space["type"] != "Box":
        return None  # its actions are no vectors, which their reader says
    return Units.of_record(path, space)
