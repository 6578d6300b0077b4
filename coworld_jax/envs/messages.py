"""What a worker answers; both sides import this file."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

_PACKAGE = Path(__file__).parent.parent


class Answer(NamedTuple):
    """A ``Timestep`` without its frame, which lies in shared memory."""

    reward: float
    discount: float
    is_last: bool
    extras: Mapping[str, np.ndarray]


class Failure(NamedTuple):
    """A Python exception in a worker. Text only: not every exception survives pickling."""

    line: str  # "ValueError: what was wrong"
    trace: str  # empty where the line is for the user: this package raised it in words of its own

    @classmethod
    def of(cls, error: BaseException) -> Self:
        """The record of ``error``."""
        line = f"{type(error).__name__}: {error}".splitlines()[0]
        raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename)
        if isinstance(error, ValueError) and raised_in.is_relative_to(_PACKAGE):
            return cls(str(error), "")
        return cls(line, "".join(traceback.format_exception(error)))
