"""Score a trained run over fresh episodes.

    python -m experiments.evaluate --workdir=runs/x --episodes=10

Restores the latest (or best) checkpoint of every domain that the run trained, plays, prints one
JSON line per domain, and writes ``evaluation.json`` and pictures to ``WORKDIR/evaluation``, or to
``--out`` where the workdir is read-only.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from coworld_jax.data import write_json
from coworld_jax.envs import EnvironmentPool, episode_seed
from coworld_jax.evaluation.scores import Marks, evaluate
from coworld_jax.training import runtime
from coworld_jax.workdir import restore_run
from experiments.command import as_path, one_sentence

_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Directory of a run of experiments.train.", required=True
)
_EPISODES = flags.DEFINE_integer("episodes", 10, "Fresh episodes per domain.", lower_bound=1)
_DOMAIN = flags.DEFINE_string("domain", "", "Only this domain; all that were trained if empty.")
_BEST = flags.DEFINE_bool("best", False, "The checkpoint with the best evaluation, not the latest.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the episodes.")
_OUT = flags.DEFINE_string("out", None, "For the results; WORKDIR/evaluation if not given.")


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


def main(arguments: Sequence[str]) -> None:
    """Score with the flags' settings."""
    if len(arguments) > 1:
        raise app.UsageError(f"{arguments[1]!r} is no flag.")
    logging.set_verbosity(logging.WARNING)
    runtime.configure()
    with one_sentence("evaluate: interrupted."):
        workdir = as_path(_WORKDIR.value)
        score(
            workdir,
            workdir / "evaluation" if _OUT.value is None else as_path(_OUT.value),
            episodes=_EPISODES.value,
            domain=_DOMAIN.value,
            best=_BEST.value,
            seed=_SEED.value,
        )


if __name__ == "__main__":
    app.run(main)
