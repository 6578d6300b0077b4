"""The records of a run on the hosts that do not own its workdir: nothing is kept there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coworld_jax.records.checkpoint import Checkpointer
from coworld_jax.records.metrics import MetricsWriter


class NoMetrics(MetricsWriter):
    """Writes nothing."""

    def __init__(self) -> None:
        self.lines = 0

    def write(self, updates: int, env_steps: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def truncate(self, updates: int, lines: int | None = None) -> int:
        """Nothing."""
        return 0

    def close(self) -> None:
        """Nothing."""


class NoCheckpoints(Checkpointer):
    """Saves nothing."""

    def __init__(self) -> None:
        """Nothing."""

    def save(self, step: int, state: Any, host: Mapping[str, Any]) -> bool:
        """Nothing."""
        return False

    def steps(self) -> list[int]:
        """None."""
        return []

    def wait(self) -> None:
        """Nothing."""

    def rate(self, step: int, score: float) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""
