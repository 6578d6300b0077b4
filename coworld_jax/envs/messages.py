"""What a worker says when its simulator raises; both sides import this file."""

from __future__ import annotations

import traceback
from typing import NamedTuple, Self


class Failure(NamedTuple):
    """A Python exception in a worker. Text only: not every exception survives pickling."""

    line: str  # "ValueError: what was wrong"
    trace: str

    @classmethod
    def of(cls, error: Exception) -> Self:
        """The record of ``error``."""
        line = f"{type(error).__name__}: {error}".splitlines()[0]
        return cls(line, "".join(traceback.format_exception(error)))
