"""Scores of a trained run over fresh episodes: what the command ``evaluate`` does."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from coworld_jax.data import write_json
from coworld_jax.envs import EnvironmentPool, episode_seed
from coworld_jax.evaluation.scores import Marks, evaluate
from coworld_jax.workdir import restore_run


def check_writable(directory: Path) -> None:
    """Make ``directory``, and make sure that files can be written there.

    Raises:
        ValueError: they cannot; no episode has been played for nothing.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise ValueError(
            f"Results cannot be written to {directory} ({error.strerror}): name another directory "
            "with --out."
        ) from error


def score(
    workdir: Path, out: Path, *, episodes: int, domain: str, best: bool, seed: int
) -> dict[str, dict[str, Any]]:
    """The evaluation of each domain; see the flags.

    Raises:
        ValueError: no such run, no such domain in it, or ``out`` cannot be written.
    """
    run = restore_run(workdir, best=best)
    scored = [name for name in run.specs if name in run.host["evaluations"]]
    trained = scored or list(run.method.players)  # a run may have gone without evaluations
    if domain and domain not in run.specs:
        raise ValueError(f"{workdir} has no domain {domain}: use one of {', '.join(run.specs)}.")
    check_writable(out)
    marks = Marks(run.host["position"]["updates"], run.host["position"]["env_steps"])
    results = {}
    for name in [domain] if domain else trained:
        spec = run.specs[name]
        with EnvironmentPool(
            spec.task,
            profile=spec.profile,
            image_size=spec.image_size,
            action_repeat=spec.action_repeat,
            episode_steps=spec.episode_steps,
            workers=run.config.run.workers,
        ) as pool:
            result = evaluate(
                run.method.players[name],
                run.state,
                pool,
                [episode_seed(seed, f"score/{name}", i) for i in range(episodes)],
                marks,
                out / name,
            )
        results[name] = result.record()
        print(json.dumps({"domain": name, "task": spec.task} | results[name]), flush=True)
    write_json(out / "evaluation.json", results)
    return results
