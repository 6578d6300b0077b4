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

    def spent(self, name: str) -> float:
        """Seconds measured for ``name`` so far."""
        return self.seconds[name] if name in self.seconds else 0.0

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time inside to ``name``; measurements are not nested."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.spent(name) + time.monotonic() - began
