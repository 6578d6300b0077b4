"""The line that says how far a run is."""

from __future__ import annotations

import shutil
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO


class Progress:
    """A line on ``stream`` that says how far the run is: live on a terminal, plain lines elsewhere.

    Rates are those of the last minute; the time left assumes that all remaining updates go at the
    mean rate since the run was started (or resumed), for phases differ in cost and alternate.

    Args:
        total_updates: what the whole plan will do.
        stream: stderr by default.
        interval: seconds between plain lines, at least; a terminal is redrawn five times a second.
        clock: seconds, monotonic.
    """

    _WINDOW = 60.0
    _holding = False  # inside `at_once`
    _held: tuple[str, int, int, Mapping[str, float]] | None = None  # the last update there

    def __init__(
        self,
        total_updates: int,
        *,
        stream: TextIO | None = None,
        interval: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._total = total_updates
        self._stream = sys.stderr if stream is None else stream
        self._live = self._stream.isatty()
        self._interval = 0.2 if self._live else interval
        self._clock = clock
        self._history: deque[tuple[float, int, int]] = deque()
        self._start: tuple[float, int] | None = None
        self._drawn: float | None = None
        self._line = ""
        self._pending = False
        self._values: dict[str, float] = {}

    def update(self, phase: str, updates: int, env_steps: int, values: Mapping[str, float]) -> None:
        """Says where the run is; cheap enough to call after every chunk.

        Args:
            phase: name of the phase of the plan.
            updates: done so far, over the whole run.
            env_steps: done so far, over the whole run.
            values: the few losses and returns worth a look, under short names. Each stays on the
                line until it is given again, so that a return outlives the evaluation.
        """
        if self._holding:
            self._held = (phase, updates, env_steps, values)
        else:
            self._count(phase, updates, env_steps, values)

    def _count(self, phase: str, updates: int, env_steps: int, values: Mapping[str, float]) -> None:
        now = self._clock()
        self.remember(values)
        self._start = (now, updates) if self._start is None else self._start
        self._history.append((now, updates, env_steps))
        while len(self._history) > 2 and self._history[1][0] <= now - self._WINDOW:
            self._history.popleft()
        self._line = self._compose(phase, updates, env_steps, now)
        self._pending = True
        if self._drawn is None or now - self._drawn >= self._interval:
            self._draw(now)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Counts all updates inside as one, at its end: one program has made them together."""
        self._holding = True
        try:
            yield
        finally:
            held, self._held, self._holding = self._held, None, False
            if held is not None:
                self.update(*held)

    def remember(self, values: Mapping[str, float]) -> None:
        """Puts ``values`` on the line from its next update on."""
        self._values.update({name: float(value) for name, value in values.items()})

    def message(self, text: str) -> None:
        """Writes ``text`` on a line of its own, above the live line."""
        self._stream.write(f"\r\x1b[K{text}\n" if self._live else f"{text}\n")
        if self._live and self._line:
            self._draw(self._clock())
        self._stream.flush()

    def close(self) -> None:
        """Writes the last state, if it has not been seen, and ends the line."""
        if self._pending:
            self._draw(self._clock())
        if self._live and self._line:
            self._stream.write("\n")
        self._stream.flush()

    def _draw(self, now: float) -> None:
        if self._live:
            # A line that wraps could not be overwritten.
            columns = shutil.get_terminal_size().columns
            self._stream.write(f"\r{self._line[: columns - 1]}\x1b[K")
        else:
            self._stream.write(self._line + "\n")
        self._stream.flush()
        self._drawn, self._pending = now, False

    def _compose(self, phase: str, updates: int, env_steps: int, now: float) -> str:
        then, old_updates, old_env_steps = self._history[0]
        parts = [f"{phase} {updates}/{self._total}"]
        if now > then:
            parts.append(f"{(updates - old_updates) / (now - then):.1f} updates/s")
            parts.append(f"{(env_steps - old_env_steps) / (now - then):.0f} env_steps/s")
        parts += [f"{name} {value:.4g}" for name, value in self._values.items()]
        assert self._start is not None
        start, first = self._start
        if updates > first and now > start:
            left = (self._total - updates) * (now - start) / (updates - first)
            parts.append(f"{format_duration(left)} left")
        return " | ".join(parts)


class SeedProgress(Progress):
    """What one of many seeds says, on the line that all share.

    Args:
        shared: the line.
        seed: whose messages these are.
        counts: updates and env_steps of each seed, which all share; the line shows their sums.
    """

    def __init__(self, shared: Progress, seed: int, counts: dict[int, tuple[int, int]]) -> None:
        self._shared, self._seed, self._counts = shared, seed, counts

    def _count(self, phase: str, updates: int, env_steps: int, values: Mapping[str, float]) -> None:
        """The values shown are those of the seed that spoke last."""
        self._counts[self._seed] = (updates, env_steps)
        all_updates, all_env_steps = (sum(count) for count in zip(*self._counts.values()))
        self._shared.update(f"{phase}, seed {self._seed}", all_updates, all_env_steps, values)

    def remember(self, values: Mapping[str, float]) -> None:
        """Nothing: a value that stays on the line would seem to be of every seed."""

    def message(self, text: str) -> None:
        """See `Progress.message`."""
        self._shared.message(f"seed {self._seed}: {text}")

    def close(self) -> None:
        """Nothing: the shared line is closed by whoever made it."""


def format_duration(seconds: float) -> str:
    """``seconds`` as a person would say them: ``48s``, ``12m05s``, ``3h07m``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
