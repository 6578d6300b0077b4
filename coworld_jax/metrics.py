"""What a run says while it goes on: ``metrics.jsonl``, TensorBoard, wandb and a progress line.

``metrics.jsonl`` is the record: one JSON object a line, appended with a single system call, so that
a killed run loses at most the line that it was writing. The others are mirrors of it.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import sys
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

FILE_NAME = "metrics.jsonl"
_RESERVED = ("updates", "env_steps", "wall_time")


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a ``metrics.jsonl``, in order; a torn last line is left out.

    Raises:
        ValueError: another line than the last is not a JSON object.
    """
    return [record for _, record in _read(Path(path))]


def _read(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Every complete line of ``path`` as bytes and as a record."""
    *lines, _torn = path.read_bytes().split(b"\n")
    read = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except ValueError as error:
            raise ValueError(
                f"{path} line {number} is no JSON ({error}): remove that line, then start again."
            ) from error
        if not isinstance(record, dict) or "updates" not in record:
            raise ValueError(
                f"{path} line {number} has no 'updates': remove that line, then start again."
            )
        read.append((line, record))
    return read


def _require(module: str, reason: str, extra: str) -> Any:
    """The optional ``module``, or one sentence that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ModuleNotFoundError(
            f"{reason} needs the package {module}, which cannot be imported ({error}): install it "
            f"with `pip install -e '.[{extra}]'`, or leave it off."
        ) from error


class MetricsWriter:
    """Appends metrics to ``workdir/metrics.jsonl`` and to the mirrors that were asked for.

    Args:
        workdir: made when it is missing; an existing record is continued, without a torn last line.
        tensorboard: also write TensorBoard events to ``workdir/tensorboard``.
        wandb_project: also log to this Weights & Biases project; a resumed run goes on under its
            old name there. Nothing is sent anywhere when it is empty.
        config: the resolved configuration, for wandb's table of runs.

    Raises:
        ModuleNotFoundError: the package of a mirror is missing; nothing has been written then.
        ValueError: the existing record is damaged elsewhere than at its end.
    """

    def __init__(
        self,
        workdir: str | Path,
        *,
        tensorboard: bool = False,
        wandb_project: str = "",
        config: Mapping[str, Any] | None = None,
    ) -> None:
        self._workdir = Path(workdir)
        self._path = self._workdir / FILE_NAME
        self._tensorboard_module = (
            _require("tensorboardX", "Writing TensorBoard events", "tensorboard")
            if tensorboard
            else None
        )
        wandb = _require("wandb", "Logging to wandb", "wandb") if wandb_project else None
        self._workdir.mkdir(parents=True, exist_ok=True)
        self._path.touch()
        self._rewrite(lambda record: True)
        self._file = self._open_file()
        self._tensorboard = self._open_tensorboard(None)
        self._wandb = None
        if wandb is not None:
            self._wandb = wandb.init(
                project=wandb_project,
                id=self._wandb_id(),
                resume="allow",
                dir=str(self._workdir),
                config=None if config is None else dict(config),
            )
            # Against wandb's own step, a resumed run could not log again what it had lost.
            self._wandb.define_metric("*", step_metric="updates")

    def write(self, updates: int, env_steps: int, values: Mapping[str, float]) -> None:
        """Appends one line: ``updates``, ``env_steps``, ``wall_time`` (Unix, s) and ``values``.

        Values are scalars: Python's, NumPy's or jax's. JSON has no NaN and no infinity: they are
        written as null, here and in the mirrors left out.

        Raises:
            ValueError: a value under the name of one of the three counters.
        """
        clash = [name for name in _RESERVED if name in values]
        if clash:
            raise ValueError(f"A metric cannot be called {clash[0]!r}: the writer fills that in.")
        numbers = {name: float(value) for name, value in values.items()}
        finite = {name: value for name, value in numbers.items() if math.isfinite(value)}
        record = {
            "updates": int(updates),
            "env_steps": int(env_steps),
            "wall_time": round(time.time(), 3),
            **{name: value if name in finite else None for name, value in numbers.items()},
        }
        self._file.write(json.dumps(record, allow_nan=False).encode() + b"\n")
        if self._tensorboard is not None:
            for name, value in finite.items():
                self._tensorboard.add_scalar(name, value, int(updates))
            self._tensorboard.flush()
        if self._wandb is not None:
            self._wandb.log({"updates": int(updates), "env_steps": int(env_steps), **finite})

    def truncate(self, updates: int) -> int:
        """Drops the lines beyond ``updates``, where a resumed run starts again; returns how many.

        The file is replaced in one step: a kill leaves the old or the new one. TensorBoard is told
        to hide the same points; wandb keeps them under the points that are logged again.
        """
        self._file.close()
        dropped = self._rewrite(lambda record: bool(record["updates"] <= updates))
        self._file = self._open_file()
        if self._tensorboard is not None:
            self._tensorboard.close()
            self._tensorboard = self._open_tensorboard(int(updates) + 1)
        return dropped

    def close(self) -> None:
        """Closes the file and the mirrors."""
        self._file.close()
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _rewrite(self, keep: Callable[[dict[str, Any]], bool]) -> int:
        """Leaves those complete lines that ``keep`` accepts; returns how many went."""
        lines = _read(self._path)
        kept = b"".join(line + b"\n" for line, record in lines if keep(record))
        if len(kept) != self._path.stat().st_size:
            temporary = self._path.with_suffix(".jsonl.tmp")
            with temporary.open("wb") as file:
                file.write(kept)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
        return len(lines) - kept.count(b"\n")

    def _open_file(self) -> FileIO:
        # Unbuffered and in append mode: each line reaches the kernel whole, in one call.
        return self._path.open("ab", buffering=0)

    def _open_tensorboard(self, purge_step: int | None) -> Any:
        if self._tensorboard_module is None:
            return None
        directory = str(self._workdir / "tensorboard")
        # By default the second is all that names a file, and a later writer overwrites an earlier.
        suffix = f".{uuid.uuid4().hex[:8]}"
        return self._tensorboard_module.SummaryWriter(
            directory, purge_step=purge_step, filename_suffix=suffix
        )

    def _wandb_id(self) -> str:
        """The run's name at wandb, drawn once for a workdir."""
        path = self._workdir / "wandb_id.txt"
        if not path.exists():
            path.write_text(uuid.uuid4().hex[:12])
        return path.read_text()


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
        now = self._clock()
        self._values.update({name: float(value) for name, value in values.items()})
        self._start = (now, updates) if self._start is None else self._start
        self._history.append((now, updates, env_steps))
        while len(self._history) > 2 and self._history[1][0] <= now - self._WINDOW:
            self._history.popleft()
        self._line = self._compose(phase, updates, env_steps, now)
        self._pending = True
        if self._drawn is None or now - self._drawn >= self._interval:
            self._draw(now)

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


def format_duration(seconds: float) -> str:
    """``seconds`` as a person would say them: ``48s``, ``12m05s``, ``3h07m``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
