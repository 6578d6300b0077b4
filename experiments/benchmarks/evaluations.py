"""What evaluations cost that are played beside learning."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from coworld_jax.config import Config
from experiments.benchmarks.loop import run_all, short_run


def measure(config: Config, updates: int, turns: int) -> dict[str, Any]:
    """Train with and without evaluations, ``updates`` updates of each kind of phase.

    Args:
        turns: runs of each kind; they take turns.

    Returns:
        ``with_over_without`` is the ratio of the wall times without compilation, each the shortest
        of its runs; ``waiting_seconds`` is what learning waited for evaluations in the first run.
    """
    given = short_run(config, updates)
    without = replace(given, run=replace(given.run, eval_episodes=0))
    summaries = run_all([given, without] * turns)
    walls = [summary["wall_time"] - summary["seconds"]["compile"] for summary in summaries]
    evaluated, bare = min(walls[::2]), min(walls[1::2])
    return {
        "updates": summaries[0]["updates"],
        "env_steps": summaries[0]["env_steps"],
        "eval_episodes": given.run.eval_episodes,
        "wall_seconds_with": evaluated,
        "wall_seconds_without": bare,
        "with_over_without": evaluated / bare,
        "waiting_seconds": summaries[0]["seconds"]["evaluation"],
    }
