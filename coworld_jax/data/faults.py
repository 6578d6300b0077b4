"""How bad data are named: the file, the key in it, and what is wrong, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self


class Fault(NamedTuple):
    """One thing that is wrong with one file."""

    file: Path
    key: str  # array in the file; empty if the file itself is at fault
    reason: str  # goes on from "file" or "file: key 'action'": "is missing"

    def __str__(self) -> str:
        name = f"{self.file}: key {self.key!r}" if self.key else str(self.file)
        return f"{name} {' '.join(self.reason.split())}."  # damaged names may hold line breaks


class DataError(ValueError):
    """Data that cannot be used; the message is for the user.

    Attributes:
        faults: what is wrong, the first of which the message names.
    """

    def __init__(self, message: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(message)
        self.faults = tuple(faults)

    @classmethod
    def of(cls, file: Path, key: str, reason: str) -> Self:
        """The error for a single fault."""
        fault = Fault(file, key, reason)
        return cls(str(fault), [fault])
