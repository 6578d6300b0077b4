"""The whole training loop on a real task: simulators, replay, updates, logs."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax

from coworld_jax.config import Config
from coworld_jax.data import save_episode
from coworld_jax.envs import EnvironmentPool, RandomPolicy, episode_seed
from coworld_jax.store import draw_rows, read_rows
from coworld_jax.training.loop import train
from experiments.benchmarks.timing import random_store, seconds
from experiments.benchmarks.update import (
    ACTION_SIZE,
    PHASES,
    compile_together,
    started,
    trace,
)

_EPISODES = 10  # of the offline dataset
_SAMPLES = 100  # batches sampled in one call


def measure(config: Config, updates: int) -> dict[str, Any]:
    """Train for ``updates`` updates of each kind of phase; say where the wall time went.

    Returns:
        ``wall_over_updates`` is the wall time without compilation over the time spent in calls of
        updates; ``wall_over_updates_alone`` the same over the time that they take when no
        simulator runs beside them. Of the shares of that wall time, ``collection_share`` is what
        the loop waits for episodes; ``sampling_share`` is measured apart, for a resident dataset
        is sampled inside the update. Nothing is evaluated. ``compile_seconds`` is small where the
        compile cache has the programs.
    """
    config = short_run(config, updates)
    # Evaluations would take cores from what is measured; `whole_run` says what they cost.
    config = replace(config, run=replace(config.run, eval_episodes=0))
    (summary,) = run_all([config])
    spent, total = summary["seconds"], summary["updates"]
    wall = summary["wall_time"] - spent["compile"]
    alone = updates * _seconds_alone(config)
    sampling = _sampling_seconds(config) * total
    if "sampling" in spent:  # not where one program plays and learns
        sampling += spent["sampling"]
    return {
        "updates": total,
        "env_steps": summary["env_steps"],
        "wall_seconds": wall,
        "wall_over_updates": wall / spent["update"],
        "wall_over_updates_alone": wall / alone,
        "update_share": spent["update"] / wall,
        "collection_share": spent["collection"] / wall,
        "sampling_share": sampling / wall,
        "logging_share": spent["logging"] / wall,
        "checkpoint_share": spent["checkpoint"] / wall,
        "compile_seconds": spent["compile"],
        "peak_bytes": summary["peak_bytes"],
    }


def short_run(config: Config, updates: int) -> Config:
    """A run with ``updates`` updates of each kind of phase, evaluated at the end of each."""
    curriculum = replace(
        config.settings.schedule,
        first_updates=0,
        pretrain_updates=updates,
        warmup_rounds=1,
        warmup_target_updates=updates,
        warmup_source_updates=updates,
        rounds=1,
        target_updates=updates,
    )
    return replace(
        config,
        run=replace(config.run, eval_every=updates + 1),
        settings=replace(config.settings, schedule=curriculum),
    )


def run_all(configs: Sequence[Config]) -> list[dict[str, Any]]:
    """The summaries of several runs on the same dataset of random episodes, one after another."""
    summaries = []
    with tempfile.TemporaryDirectory() as directory:
        data = Path(directory) / "data"
        data.mkdir()
        _collect(configs[0], data)
        for number, config in enumerate(configs):
            summary = train(replace(config, data=str(data)), Path(directory) / str(number))
            if summary is None:
                raise KeyboardInterrupt
            summaries.append(summary)
    return summaries


def _collect(config: Config, directory: Path) -> None:
    """Random episodes of the target."""
    run = config.run
    with EnvironmentPool(config.target, profile=run.profile, workers=run.workers) as pool:
        seeds = [episode_seed(0, "benchmark", index) for index in range(_EPISODES)]
        policy = RandomPolicy(pool.spec.action_size)
        for index, episode in enumerate(pool.map(seeds, policy)):
            save_episode(directory, episode, name=f"{index:06d}")


def _seconds_alone(config: Config) -> float:
    """Seconds of one update of each phase, together, in chunks as long as the run's."""
    traced = [trace(config, phase) for phase in PHASES]
    compiled = (one.result() for one in compile_together(traced))
    programs = map(started, traced, compiled)
    return sum(seconds(program.run_chunk) for program in programs) / config.run.chunk


def _sampling_seconds(config: Config) -> float:
    """Seconds of sampling one batch from a resident store, as `training.scan` does it."""
    learning = config.settings.learning
    store = random_store(0, ACTION_SIZE, learning.length)

    @jax.jit
    def run(key: jax.Array) -> Any:
        def step(total: jax.Array, rows: jax.Array) -> tuple[jax.Array, None]:
            batch = read_rows(store, rows)
            sums = (leaf.astype("float32").sum() for leaf in jax.tree.leaves(batch))
            return total + sum(sums), None

        def draw(key: jax.Array) -> jax.Array:
            return draw_rows(store, key, learning.length, learning.batch)

        rows = jax.vmap(draw)(jax.random.split(key, _SAMPLES))
        return jax.lax.scan(step, jax.numpy.zeros(()), rows)[0]

    seconds(lambda: run(jax.random.key(0)))
    return seconds(lambda: run(jax.random.key(1))) / _SAMPLES
