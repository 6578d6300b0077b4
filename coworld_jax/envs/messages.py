"""What a worker answers; both sides import this file."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import NamedTuple, Self

import numpy as np

from coworld_jax.envs.graphics import GraphicsError
from coworld_jax.envs.versions import VersionError, raised_here


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
        if isinstance(error, ValueError | VersionError | GraphicsError) and raised_here(error):
            return cls(str(error), "")
        return cls(line, "".join(traceback.format_exception(error)))
