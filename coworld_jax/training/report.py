"""What a run tells its user: the progress line and the summary."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax

from coworld_jax import hosts
from coworld_jax.data import read_json, write_json
from coworld_jax.records.files import SUMMARY
from coworld_jax.records.leaves import state_digest
from coworld_jax.training import runtime
from coworld_jax.training.run import Run

# Metrics that the progress line shows, by the end of their names.
_SHOWN = {
    "model/image": "image",
    "model/state": "state",
    "model/kl": "kl",
    "critic/loss": "critic",
    "actor/loss": "actor",
    "actor/return": "return",
}


def shown_metrics(means: Mapping[str, float]) -> dict[str, float]:
    """The few losses that the progress line shows, under short names."""
    return {
        short: value
        for end, short in _SHOWN.items()
        for name, value in means.items()
        if name.endswith(f"/{end}")
    }


def show(run: Run, phase: str, values: Mapping[str, float]) -> None:
    """Put values on the progress line."""
    run.progress.update(phase, run.position.updates, run.position.env_steps, values)


def summarise(run: Run, together: int = 1) -> dict[str, Any]:
    """Write ``summary.json`` on host 0, and return it on every host.

    Args:
        together: seeds that were trained in one program; the wall time is that of all of them.
    """
    return hosts.on_first(lambda: _summarise(run, together))


def _summarise(run: Run, together: int) -> dict[str, Any]:
    path = run.workdir / SUMMARY
    before = read_json(path) if path.exists() else {}
    timed = before["episode_seconds"] if "episode_seconds" in before else {}
    summary = {
        "method": run.config.method,
        "updates": run.position.updates,
        "env_steps": run.position.env_steps,
        "wall_time": run.position.wall_time,
        "seeds_together": together,
        "seconds": run.position.seconds,
        "episode_seconds": timed | run.evaluator.episode_seconds,
        "state_digest": state_digest(*run.own_state),
        "worker_restarts": {domain: pool.restarts for domain, pool in run.pools.items()},
        "peak_bytes": runtime.peak_bytes(),
        "data_bytes": _data_bytes(run),
        "selection": run.evaluator.draw_selection(),
        "pictures": run.evaluator.pictures(),
        "evaluations": run.evaluator.results,
    }
    write_json(path, summary)
    return summary


def _data_bytes(run: Run) -> int:
    """Memory of the episodes: replays and offline dataset."""
    stores = [collector.replay.store for collector in run.collectors.values()]
    if run.feed is not None and run.feed.store is not None:
        stores.append(run.feed.store)
    return sum(leaf.nbytes for leaf in jax.tree.leaves(stores))
