"""Where the wall time of a run goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Stopwatch:
    """Adds times up by what they were spent on.

    Attributes:
        seconds: by purpose; a resumed run puts in what it had.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time inside to ``name``; measurements are not nested."""
        began = time.monotonic()
        try:
            yield
        finally:
            if name not in self.seconds:
                self.seconds[name] = 0.0
            self.seconds[name] += time.monotonic() - began
