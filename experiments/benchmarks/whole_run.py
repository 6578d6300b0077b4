"""Wall time of a whole run in one setting and in another."""

from __future__ import annotations

from operator import truediv
from statistics import median
from typing import Any

from coworld_jax.config import Config
from experiments.benchmarks.loop import run_all, short_run


def measure(given: Config, against: Config, updates: int, turns: int) -> dict[str, Any]:
    """Train in both settings, ``updates`` updates of each kind of phase.

    Args:
        given, against: two settings of the same pair of tasks, with a schedule of CoWorld.
        turns: runs of each; they take turns.

    Returns:
        ``against_over_given`` is the ratio of the wall times without compilation, each the median
        of its runs. ``wall_over_updates`` is the wall time of the given setting over the time of
        its updates alone, the median of its runs. ``PART_seconds`` is what the first run of
        the given setting spent in a part of the loop: ``update``, ``collection``, ``evaluation``
        and others. ``compile_seconds`` and ``compile_seconds_against`` are small where the compile
        cache has the programs.
    """
    configs = [short_run(config, updates) for config in (given, against)]
    summaries = run_all(configs * turns)
    walls = [summary["wall_time"] - summary["seconds"]["compile"] for summary in summaries]
    ours, others = median(walls[::2]), median(walls[1::2])
    updates_alone = [summary["seconds"]["update"] for summary in summaries[::2]]
    return {
        "updates": summaries[0]["updates"],
        "env_steps": summaries[0]["env_steps"],
        "eval_episodes": given.run.eval_episodes,
        "seconds": ours,
        "seconds_against": others,
        "against_over_given": others / ours,
        "compile_seconds_against": summaries[1]["seconds"]["compile"],
        "wall_over_updates": median(map(truediv, walls[::2], updates_alone)),
        **{f"{part}_seconds": spent for part, spent in summaries[0]["seconds"].items()},
    }
