"""Speed, measured: a table to read and, last, one line of JSON that anyone can make again.

    python -m experiments.benchmark update --preset=released --batch=50 --length=50
    python -m experiments.benchmark update --preset=small --against=network.unroll=5
    python -m experiments.benchmark suite --chunk=2
    python -m experiments.benchmark layers --preset=released
    python -m experiments.benchmark loop --preset=small
    python -m experiments.benchmark run --source=metaworld/button-press \
        --target=metaworld/door-close --against=run.eval_episodes=0 --updates=1000 --repeats=1
    python -m experiments.benchmark run --preset=planar --source=planar/reach \
        --target=planar/reach_downhill --against=run.program=host --updates=500 --repeats=3
    python -m experiments.benchmark hosts --preset=planar
    python -m experiments.benchmark profile --preset=released --batch=50 --length=50
    python -m experiments.benchmark flops --preset=paper
    python -m experiments.benchmark env --task=metaworld/door-close
    python -m experiments.benchmark data --frames=100000

* ``update``: chunks of updates in one jitted call on random data, in turns with single updates,
  with the matrix product that the utilisation refers to and, given ``--against``, with another
  setting.
* ``suite``: the updates of BUILD.md's table, one after another.
* ``layers``: each convolution in each of its forms.
* ``loop``: the whole training loop on a real task, and where its time goes.
* ``run``: a whole run, evaluations included, interleaved with it in a second setting.
* ``hosts``: two processes that train one run: their updates, agreements and exchanges.
* ``profile``: the operations that an update spends most of its time in.
* ``flops``: the counted arithmetic of an update, part by part, and the bytes of its gradients.
* ``env``: env_steps per second of a task in both render profiles, all workers together.
* ``data``: reading compressed episodes into the resident store.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from absl import app, flags, logging

from coworld_jax import config as configuration
from coworld_jax.config import Config
from coworld_jax.training import runtime
from experiments.benchmarks import (
    data,
    env,
    flops,
    hosts,
    layers,
    loop,
    profile,
    update,
    whole_run,
)
from experiments.benchmarks.timing import where
from experiments.command import one_sentence, refuse_unused
from experiments.configs.sizes import SIZES, sized_config

_PRESET = flags.DEFINE_enum("preset", "small", list(SIZES), "Sizes of networks and batches.")
_BATCH = flags.DEFINE_integer("batch", None, "Chunks per update; the preset's if not given.")
_LENGTH = flags.DEFINE_integer("length", None, "Rows per chunk; the preset's if not given.")
_PHASE = flags.DEFINE_enum("phase", "target", list(update.PHASES), "Which update.")
_DTYPE = flags.DEFINE_enum("dtype", "float32", ["float32", "bfloat16"], "Of the networks.")
_CHUNK = flags.DEFINE_integer("chunk", 10, "Updates per jitted call.", lower_bound=1)
_REPEATS = flags.DEFINE_integer("repeats", 5, "Measurements of each kind.", lower_bound=1)
_AGAINST = flags.DEFINE_multi_string(
    "against", [], "update, run: PATH=VALUE, for a second setting of the measurement; repeatable."
)
_IMAGES = flags.DEFINE_integer("images", 256, "layers: images at once.", lower_bound=1)
_SOURCE = flags.DEFINE_string(
    "source",
    "dmc/walker_walk",
    "loop ...: the task that is simulated; update: as many sources.",
)
_TARGET = flags.DEFINE_string(
    "target", "dmc/walker_downhill", "loop ...: the one with the dataset."
)
_UPDATES = flags.DEFINE_integer(
    "updates", 300, "loop ...: of each agent, in whole collections.", lower_bound=1
)
_WORKERS = flags.DEFINE_integer("workers", 2, "env, loop ...: simulator processes.", lower_bound=1)
_TASK = flags.DEFINE_string("task", "dmc/walker_walk", "env: the task that is simulated.")
_FRAMES = flags.DEFINE_integer("frames", 100_000, "data: frames that are read.", lower_bound=2)


_METHOD = "coworld"  # whose updates are measured
_SHOWN = 15  # parts of a profile
_SUITE = (  # preset, batch, length; by the memory that they take, whose peak is the process's
    ("small", 16, 16),
    ("released", 16, 16),
    ("paper", 16, 16),
    ("released", 16, 64),
    ("released", 50, 50),
)


# Flags that each command uses; another one would be ignored, and is refused.
_USED = {
    "update": (
        *("preset", "batch", "length", "phase", "dtype", "chunk", "repeats", "against"),
        "source",
    ),
    "suite": ("phase", "dtype", "chunk", "repeats"),
    "layers": ("preset", "dtype", "images", "repeats"),
    "loop": ("preset", "batch", "length", "dtype", "source", "target", "updates", "workers"),
    "run": (
        *("preset", "batch", "length", "dtype", "source", "target", "updates", "workers"),
        *("repeats", "against"),
    ),
    "hosts": ("preset", "batch", "length", "phase", "dtype", "chunk", "repeats"),
    "profile": ("preset", "batch", "length", "phase", "dtype", "chunk"),
    "flops": ("preset", "batch", "length", "phase"),
    "env": ("task", "workers"),
    "data": ("frames",),
}


def chosen(preset: str, batch: int | None, length: int | None) -> Config:
    """A preset with other sizes, where they are given, and what the flags say of the rest.

    Raises:
        ValueError: a size is out of range.
    """
    config = sized_config(_METHOD, preset)
    given = {"batch": batch, "length": length}
    sizes = {name: value for name, value in given.items() if value is not None}
    settings = replace(
        config.settings,
        learning=replace(config.settings.learning, **sizes),
        network=replace(config.settings.network, dtype=_DTYPE.value),
    )
    config = replace(
        config,
        settings=settings,
        source=tuple(_SOURCE.value.split(",")),
        target=_TARGET.value,
        run=replace(config.run, chunk=_CHUNK.value),
    )
    return configuration.check(config)


def setting(config: Config) -> dict[str, Any]:
    """What the figures of an update depend on."""
    return {
        "preset": _PRESET.value,
        "phase": _PHASE.value,
        "sources": len(config.source),
        "batch": config.settings.learning.batch,
        "length": config.settings.learning.length,
        "dtype": config.settings.network.dtype,
        "chunk": config.run.chunk,
    }


def measure_update(config: Config) -> dict[str, Any]:
    """One setting or, in turns with it, the one of ``--against``."""
    print(f"Measuring {setting(config)} ...", file=sys.stderr)
    if not _AGAINST.value:
        (figures,) = update.measure([config], _PHASE.value, _REPEATS.value)
        show([[name, f"{value:.6g}"] for name, value in figures.items()])
        return setting(config) | figures
    other = configuration.check(configuration.override(config, _AGAINST.value))
    figures, against = update.measure([config, other], _PHASE.value, _REPEATS.value)
    show(
        [
            ["", "as given", " ".join(_AGAINST.value)],
            *([name, f"{figures[name]:.6g}", f"{against[name]:.6g}"] for name in figures),
        ]
    )
    changed = {"changed": _AGAINST.value} | against
    ratio = against["seconds"] / figures["seconds"]
    return setting(config) | figures | {"against": changed, "against_over_given": ratio}


def measure_suite(config: Config) -> dict[str, Any]:
    """The settings of BUILD.md's table."""
    columns = ("seconds", "utilisation", "chunk_over_bare", "compile_seconds", "peak_bytes")
    table, rows = [["preset", "batch", "length", *columns]], []
    for preset, batch, length in _SUITE:
        (figures,) = update.measure([chosen(preset, batch, length)], _PHASE.value, _REPEATS.value)
        table.append([preset, str(batch), str(length), *(f"{figures[c]:.4g}" for c in columns)])
        print("  ".join(table[-1]), file=sys.stderr)  # a later one may run out of memory
        rows.append({"preset": preset, "batch": batch, "length": length} | figures)
    show(table)
    return {"phase": _PHASE.value, "dtype": _DTYPE.value, "chunk": _CHUNK.value, "rows": rows}


def measure_layers(config: Config) -> dict[str, Any]:
    """Milliseconds of each convolution in each form."""
    network = config.settings.network
    rows = layers.measure(network.depth, _IMAGES.value, network.dtype, _REPEATS.value)
    show([list(rows[0]), *([_text(value) for value in row.values()] for row in rows)])
    return {"preset": _PRESET.value, "images": _IMAGES.value, "dtype": network.dtype, "rows": rows}


def measure_loop(config: Config) -> dict[str, Any]:
    """Where the wall time of a run goes."""
    figures = loop.measure(_as_run(config), updates=_UPDATES.value)
    show([[name, _text(value)] for name, value in figures.items()])
    return _tasks() | figures


def measure_run(config: Config) -> dict[str, Any]:
    """Wall time of a run as given, and in the setting of ``--against``."""
    if not _AGAINST.value:
        raise ValueError("run compares two settings: give the second one with --against.")
    given = _as_run(config)
    other = configuration.check(configuration.override(given, _AGAINST.value))
    figures = whole_run.measure(given, other, _UPDATES.value, _REPEATS.value)
    show([[name, _text(value)] for name, value in figures.items()])
    return _tasks() | {"changed": _AGAINST.value} | figures


def measure_hosts(config: Config) -> dict[str, Any]:
    """What agreements and exchanges of two hosts cost."""
    figures = hosts.measure(config, _PHASE.value, _REPEATS.value)
    show([[name, _text(value)] for name, value in figures.items()])
    return setting(config) | figures


def _as_run(config: Config) -> Config:
    """``config`` with the chunks that its preset runs in, and the workers of the flags."""
    chunk = sized_config(_METHOD, _PRESET.value).run.chunk
    return replace(config, run=replace(config.run, chunk=chunk, workers=_WORKERS.value))


def _tasks() -> dict[str, Any]:
    return {"preset": _PRESET.value, "source": _SOURCE.value, "target": _TARGET.value}


def measure_profile(config: Config) -> dict[str, Any]:
    """The operations that take most of the time."""
    costs = profile.measure(config, _PHASE.value)[:_SHOWN]
    rows = [[f"{c.share:.1%}", f"{c.milliseconds:.3f}", c.name] for c in costs]
    show([["share", "ms per update", "part"], *rows])
    return setting(config) | {"costs": [cost._asdict() for cost in costs]}


def count_flops(config: Config) -> dict[str, Any]:
    """The arithmetic and the sizes of an update; nothing is run."""
    settings = config.settings
    arguments = (_PHASE.value, settings.network, settings.learning, update.ACTION_SIZE)
    parts, total = flops.update_parts(*arguments), flops.update_flops(*arguments)
    rows = [[f"{n / total:.1%}", f"{n / 1e9:.2f}", name] for name, n in parts.items()]
    show([["share", "GFLOP", "part"], *rows, ["", f"{total / 1e9:.2f}", "all"]])
    bytes_ = update.sizes(config)
    show([[name, f"{count / 1e6:.1f} MB"] for name, count in bytes_.items()])
    return setting(config) | {"parts": parts, "flops": total} | bytes_


def measure_env(config: Config) -> dict[str, Any]:
    """env_steps per second; the configuration plays no part."""
    figures = env.measure(_TASK.value, _WORKERS.value)
    show([[name, _text(value)] for name, value in figures.items()])
    return figures


def measure_data(config: Config) -> dict[str, Any]:
    """Seconds and memory of reading a dataset; the configuration plays no part."""
    figures = data.measure(_FRAMES.value)
    show([[name, _text(value)] for name, value in figures.items()])
    return figures


_COMMANDS = {
    "update": measure_update,
    "suite": measure_suite,
    "layers": measure_layers,
    "loop": measure_loop,
    "run": measure_run,
    "hosts": measure_hosts,
    "profile": measure_profile,
    "flops": count_flops,
    "env": measure_env,
    "data": measure_data,
}


def show(rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout, its columns as wide as they must be."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
        print("  ".join(cells).rstrip())


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def main(arguments: Sequence[str]) -> None:
    """Measure what the first argument names."""
    if len(arguments) != 2 or arguments[1] not in _COMMANDS:
        raise app.UsageError(f"Say what to measure, one of: {', '.join(_COMMANDS)}.")
    logging.set_verbosity(logging.WARNING)
    # The others report the time of compilation, which reading a file would hide.
    runtime.configure(cache=arguments[1] in ("run", "loop", "profile"))
    with one_sentence("benchmark: interrupted."):
        refuse_unused(arguments[1], _USED)
        config = chosen(_PRESET.value, _BATCH.value, _LENGTH.value)
        figures: Mapping[str, Any] = _COMMANDS[arguments[1]](config)
    print(json.dumps({**figures, **where()}))


if __name__ == "__main__":
    runtime.restart_with_huge_pages()
    runtime.use_cores()
    app.run(main)
