"""The updates that a GPU is judged by, each beside what bounds it; ``launch/benchmark_gpu.sh``.

    python -m experiments.benchmarks.gpu FILE [--flags=NAME] [--rows=SUBSTRING]

Rows are measured in the order of `ROWS` and appended to FILE as lines of JSON; those that FILE
already has are left out. XLA reads its flags as a process starts, so a call measures the rows of
one set of flags. The programs of a few rows are traced, compiled side by side on the cores that
there are, and measured, before the next few: a call that is ended early has the first rows.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from absl import app, flags

from coworld_jax import config as configuration
from coworld_jax.config import Config
from coworld_jax.networks import convolution, recurrence
from coworld_jax.training import runtime
from experiments.benchmarks import update
from experiments.benchmarks.limits import Rates, limits, measure_rates
from experiments.benchmarks.timing import read_lines, seconds, where
from experiments.configs.sizes import sized_config

FLAGS = {
    "default": "",
    "no command buffers": "--xla_gpu_enable_command_buffer=",
    "loops in command buffers": "--xla_gpu_enable_command_buffer=+WHILE",
}
"""Sets of XLA's flags that are compared, by name."""

_FLAGS = flags.DEFINE_enum("flags", "default", list(FLAGS), "Which rows: their set of XLA's flags.")
_ROWS = flags.DEFINE_string("rows", "", "Only rows with this in their name.")
_PHASE = "target"
_REPEATS = 5
# A row that fails so is reported, and the next one is measured; TypeError and ValueError are how a
# program is refused while it is traced.
_FAILURES = (RuntimeError, TypeError, ValueError, MemoryError)
_TOGETHER = 5  # rows that are compiled side by side


class Row(NamedTuple):
    """One setting of the update of the target."""

    preset: str
    batch: int
    length: int
    dtype: str = "bfloat16"
    chunk: int = 50
    seeds: int = 1
    unroll: int = 1
    convolutions: str = "stock"  # their form
    loops: str = "gpu"  # form of the loops over time: of a GPU, or plain
    flags: str = "default"
    must: float | None = None  # ms
    aim: float | None = None  # ms

    @property
    def name(self) -> str:
        """As in the table."""
        words = [f"`{self.preset}` {self.batch}x{self.length}", self.dtype]
        words += [f"{self.seeds} seeds"] if self.seeds > 1 else []
        words += [f"unroll {self.unroll}"] if self.unroll > 1 else []
        words += [f"{self.loops} loops"] if self.loops != "gpu" else []
        words += [f"convolutions in {self.convolutions}"] if self.convolutions != "stock" else []
        words += [self.flags] if self.flags != "default" else []
        return ", ".join(words)


_RELEASED = Row("released", 50, 50, must=10.0, aim=5.0)
_LONG = Row("released", 16, 64, must=6.0)
SEEDS = Row("planar", 8, 12)
"""The row that is also measured for many seeds."""

ROWS = (
    _RELEASED,
    _LONG,
    *(SEEDS._replace(seeds=seeds) for seeds in (1, 16)),
    Row("small", 16, 16),
    _RELEASED._replace(flags="no command buffers"),
    _RELEASED._replace(flags="loops in command buffers"),
    *(row._replace(loops="plain") for row in (_RELEASED, _LONG, SEEDS)),
    _RELEASED._replace(unroll=5, loops="plain"),
    _RELEASED._replace(convolutions="blocks"),
    SEEDS._replace(seeds=16, convolutions="blocks"),
    Row("paper", 50, 50, chunk=10),
    _RELEASED._replace(unroll=10),
    *(SEEDS._replace(seeds=seeds) for seeds in (4, 64)),
    SEEDS._replace(seeds=64, convolutions="blocks"),
    SEEDS._replace(flags="no command buffers"),
    Row("released", 50, 50, dtype="float32"),
    Row("small", 16, 16, dtype="float32"),
    SEEDS._replace(dtype="float32"),
    Row("paper", 50, 50, dtype="float32", chunk=10),
)


def config_of(row: Row) -> Config:
    """The configuration of a row."""
    config = sized_config("coworld", row.preset)
    changes = [
        f"learning.batch={row.batch}",
        f"learning.length={row.length}",
        f"network.dtype={row.dtype}",
        f"network.unroll={row.unroll}",
    ]
    config = configuration.override(config, changes)
    return replace(config, run=replace(config.run, chunk=row.chunk, devices=1))


@contextlib.contextmanager
def forms_of(row: Row) -> Iterator[None]:
    """Programs traced meanwhile have the row's forms of convolutions and loops on a GPU."""
    loops = {"gpu": recurrence.FORMS["gpu"], "plain": recurrence.PLAIN}[row.loops]
    convolutions = {"stock": convolution.FORMS[row.convolutions]}
    with (
        mock.patch.dict(convolution.FORMS, convolutions),
        mock.patch.object(recurrence, "form", lambda: loops),
    ):
        yield


def measure(rows: Sequence[Row]) -> Iterator[dict[str, Any]]:
    """The figures of each row, as they come; a row that fails has an ``error`` instead.

    Nothing else is on the device while a row is measured: programs are compiled before or after.
    """
    if not rows:
        return
    rates = measure_rates(tuple(dict.fromkeys(row.dtype for row in rows)))
    for first in range(0, len(rows), _TOGETHER):
        yield from _measure_few(rows[first : first + _TOGETHER], rates)


def _measure_few(rows: Sequence[Row], rates: Rates) -> Iterator[dict[str, Any]]:
    failed: dict[str, str] = {}
    traced: dict[str, update.Traced] = {}
    for row in rows:
        print(f"Tracing {row.name} ...", file=sys.stderr)
        try:
            with forms_of(row):
                traced[row.name] = update.trace(config_of(row), _PHASE, seeds=row.seeds)
        except _FAILURES as error:
            failed[row.name] = _first_line(error)
    compiled = dict(zip(traced, update.compile_together(traced.values()), strict=True))
    for row in rows:
        if row.name in failed:
            yield {"name": row.name, "error": failed[row.name]}
            continue
        try:
            ready = compiled.pop(row.name).result()
            yield _figures(row, update.started(traced.pop(row.name), ready), rates)
        except _FAILURES as error:
            yield {"name": row.name, "error": _first_line(error)}


def _first_line(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}"
    return text.partition("\n")[0].replace("|", "/")


def _figures(row: Row, program: update.Program, rates: Rates) -> dict[str, Any]:
    config = config_of(row)
    times = [seconds(program.run_chunk) for _ in range(_REPEATS)]
    agent_bytes = update.sizes(config)["agent_bytes"]
    with forms_of(row):
        bounds = limits(config, _PHASE, update.ACTION_SIZE, agent_bytes, rates, row.seeds)
    taken = statistics.median(times) / row.chunk
    return {
        "name": row.name,
        "must_ms": row.must,
        "aim_ms": row.aim,
        "ms": 1000 * taken,
        "arithmetic_ms": 1000 * bounds.arithmetic,
        "memory_ms": 1000 * bounds.memory,
        "steps_ms": 1000 * bounds.steps,
        "reached": bounds.largest / taken,
        "compile_seconds": program.compile_seconds,
    }


def set_flags(flags: str) -> None:
    """Give XLA these flags; call it before jax starts. What the user has set stays and decides."""
    given = os.environ["XLA_FLAGS"] if "XLA_FLAGS" in os.environ else ""
    # The last one counts. XLA takes a blank text for the name of a file.
    os.environ["XLA_FLAGS"] = f"{flags} {given}".strip()


def main(arguments: Sequence[str]) -> None:
    """Append figures to the file that is named."""
    if len(arguments) != 2:
        raise app.UsageError("Name the file that figures are appended to.")
    set_flags(FLAGS[_FLAGS.value])
    runtime.configure()  # a second call finds what the first has compiled
    file = Path(arguments[1])
    there = {line["name"] for line in read_lines(file) if "error" not in line}
    rows = [
        row
        for row in ROWS
        if row.flags == _FLAGS.value and _ROWS.value in row.name and row.name not in there
    ]
    began = time.monotonic()
    for figures in measure(rows):
        with file.open("a") as lines:
            lines.write(json.dumps(figures | where()) + "\n")
        print(f"{time.monotonic() - began:4.0f} s: {json.dumps(figures)}", file=sys.stderr)


if __name__ == "__main__":
    app.run(main)
