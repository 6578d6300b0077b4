"""The metrics of a run: ``metrics.jsonl``, and its mirrors TensorBoard and wandb.

``metrics.jsonl`` is the record: one JSON object a line, appended with a single system call, so that
a killed run loses at most the line that it was writing. The others are mirrors of it.
"""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import time
import uuid
from collections.abc import Callable, Mapping
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from coworld_jax.data.replacing import replacing

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

    Attributes:
        lines: in the record.

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
        self.lines = len(_read(self._path))
        self._file = self._open_file()
        self._tensorboard = self._open_tensorboard(None)
        self._wandb = None
        if wandb is not None:
            self._wandb = wandb.init(
                project=wandb_project,
                id=self._wandb_id(),
                resume="allow",
                reinit="create_new",  # one run for each writer: a process may train many seeds
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
        self.lines += 1
        if self._tensorboard is not None:
            for name, value in finite.items():
                self._tensorboard.add_scalar(name, value, int(updates))
            self._tensorboard.flush()
        if self._wandb is not None:
            self._wandb.log({"updates": int(updates), "env_steps": int(env_steps), **finite})

    def truncate(self, updates: int, lines: int | None = None) -> int:
        """Drops the lines beyond ``updates``, where a resumed run starts again; returns how many.

        Args:
            updates: of the last line that stays.
            lines: that there were at the checkpoint (`lines`). Later ones go as well, for the run
                will write them again.

        The file is replaced in one step: a kill leaves the old or the new one. TensorBoard is told
        to hide the same points; wandb keeps them under the points that are logged again.
        """
        self._file.close()

        numbers = itertools.count()

        def stays(record: dict[str, Any]) -> bool:
            early = lines is None or next(numbers) < lines
            return bool(early and record["updates"] <= updates)

        dropped = self._rewrite(stays)
        self.lines -= dropped
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
            with replacing(self._path) as path, path.open("wb") as file:
                file.write(kept)
                file.flush()
                os.fsync(file.fileno())
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
